"""Headers read by the compiler, and what a build's headers declare."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hostabi.errors import PackageError
from hostabi.kernels import uapi
from hostabi.kernels.build import Build
from hostabi.kernels.headers import read_headers
from hostabi.kernels.uapi import Uapi, describe, find_package
from hostabi.packages.context import Packages

BASE = {
    "asm/types.h": "typedef unsigned int __u32; typedef unsigned long long __u64;\n"
    + "".join(
        f"typedef {'unsigned' if sign == 'u' else 'signed'} {c} __{sign}{bits};\n"
        for sign in "us"
        for bits, c in ((8, "char"), (16, "short"))
    )
    + "typedef int __s32; typedef long long __s64;\n",
    **dict.fromkeys(
        ("linux/time.h", "linux/socket.h", "linux/in.h", "linux/in6.h", "linux/if.h"), "\n"
    ),
    "linux/types.h": "#include <asm/types.h>\n",
}
OWN = {
    "linux/thing.h": """
#include <linux/types.h>
enum thing_op { THING_GET, THING_SET = 5,

/* as long as a comment is, the compiler marks where it went on


*/
    THING_PUT, __THING_MAX };
#define THING_MAX (__THING_MAX - 1)
#define THING_STORE THING_SET
enum { PLAIN_A, PLAIN_B };
struct thing { __u32 flags; __u32 reserved; __u64 value; };
union either { __u32 a; __u64 b; };
#define THING_F_ONE 0x1
#define THING_F_TWO (1U << 1)
#define THING_F_BOTH (THING_F_ONE | THING_F_TWO)
#define THING_F_SHIFTED (THING_F_BOTH << 4)
#define THING_NAME "thing"
#define THING_CALL(x) ((x) + 1)
""",
    "drm/drm.h": "#define DRM_MAJOR 226\nstruct drm_thing { int x; };\n",
    "linux/user_of_drm.h": "#include <drm/drm.h>\n",
    "linux/broken.h": "struct broken { no_such_type x; };\n",
}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Uapi:
    folder = tmp_path_factory.mktemp("include")
    for name, text in (BASE | OWN).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return describe(read_headers([folder]), "linux-libc-dev_1_all.deb")


def test_types(described: Uapi) -> None:
    assert described.types["struct thing"].size == 16
    assert described.types["struct thing"].words == ["0 u:4 flags", "8 u:8 value"]
    assert described.types["union either"].words == ["0 u:4 a", "0 u:8 b"]
    assert described.left_out == ("linux/broken.h",)
    # ours, so that headers compile; and of another folder
    assert not {"struct sockaddr", "struct drm_thing"} & described.types.keys()


def test_enumerations_have_their_second_names(described: Uapi) -> None:
    assert described.enums == {
        "enum thing_op": {
            "THING_GET": 0,
            "THING_SET": 5,
            "THING_PUT": 6,
            "__THING_MAX": 7,
            "THING_STORE": 5,
        }
    }


def test_constants_and_where_they_are(described: Uapi) -> None:
    assert described.constants == {
        "PLAIN_A": 0,
        "PLAIN_B": 1,
        "THING_MAX": 6,
        "THING_F_ONE": 1,
        "THING_F_TWO": 2,
        "THING_F_BOTH": 3,
        "THING_F_SHIFTED": 48,
    }
    assert described.derived == {"THING_MAX", "THING_F_BOTH", "THING_F_SHIFTED"}
    assert {described.places[name] for name in described.constants} == {"linux/thing.h"}


class FakePackages:
    """Suites that list headers of these versions; one of them cannot be read."""

    def __init__(self, **listed: list[str]) -> None:
        self.listed = listed
        self.asked: list[str] = []

    def suite(self, name: str) -> SimpleNamespace:
        self.asked.append(name)
        if name not in self.listed:
            raise PackageError(f"{name}: no index")
        found = [SimpleNamespace(version=version, suite=name) for version in self.listed[name]]
        return SimpleNamespace(named=lambda wanted: found if wanted == uapi.PACKAGE else [])


def build(suite: str, name: str = "6.1.9-1") -> Build:
    return Build(
        line="6.1", name=name, release="6.1.0-9", version="6.1.9-1", flavour="",
        packages={}, suite=suite, image=Path("x"), config=None, modules=None, image_digest="",
    )  # fmt: skip


def test_headers_of_the_build_s_own_version() -> None:
    packages = FakePackages(bookworm=["6.1.10-1", "6.1.9-1"])
    found = find_package(build("bookworm-security"), cast(Packages, packages))
    assert (found.version, found.suite) == ("6.1.9-1", "bookworm")
    assert packages.asked[0] == "bookworm-security"


def test_headers_of_another_version_are_not_taken() -> None:
    packages = FakePackages(bookworm=["6.1.10-1"])
    with pytest.raises(PackageError, match=r"no index lists linux-libc-dev 6\.1\.9-1"):
        find_package(build("bookworm"), cast(Packages, packages))


def test_for_a_kernel_of_one_s_own_nobody_is_asked() -> None:
    packages = FakePackages(bookworm=["6.1.9-1"])
    with pytest.raises(PackageError, match="no index lists"):
        find_package(build("local", "local-6.1.0-9-0123abcd"), cast(Packages, packages))
    assert packages.asked == []
