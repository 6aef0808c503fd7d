"""Headers read by the compiler, and what a build's headers declare."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hostabi.errors import InputError, PackageError
from hostabi.kernels import exported, uapi
from hostabi.kernels.build import Build
from hostabi.kernels.headers import read_headers
from hostabi.kernels.uapi import Origin, Uapi, describe, find_headers
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
    """Suites that list packages by (name, version); one of them cannot be read."""

    def __init__(self, **listed: list[tuple[str, str]]) -> None:
        self.listed = listed
        self.asked: list[str] = []

    def suite(self, name: str) -> SimpleNamespace:
        self.asked.append(name)
        if name not in self.listed:
            raise PackageError(f"{name}: no index")
        found = [
            SimpleNamespace(
                name=package,
                file=package,
                version=version,
                suite=name,
                depends="linux-kbuild-6.1, linux-headers-6.1.0-9-common (= 6.1.9-1)",
            )
            for package, version in self.listed[name]
        ]
        return SimpleNamespace(named=lambda wanted: [one for one in found if one.name == wanted])

    def sources(self, name: str) -> SimpleNamespace:
        """The source packages: here, names of their files are what tells them apart."""
        listed = self.suite(name)
        files = [one for ending in SOURCE for one in listed.named(f"linux_6.1.9{ending}")]
        return SimpleNamespace(named=lambda wanted: files if wanted == "linux" else [])


SOURCE = (".orig.tar.xz", "-1.debian.tar.xz", "-1.diff.gz")
LIBC = (uapi.PACKAGE, "6.1.9-1")
BUILDING = [
    ("linux-headers-6.1.0-9-cloud-amd64", "6.1.9-1"),
    ("linux-headers-6.1.0-9-common", "6.1.9-1"),
]
UPSTREAM = [(f"linux_6.1.9{ending}", "6.1.9-1") for ending in SOURCE[:2]]


def build(suite: str, name: str = "6.1.9-1") -> Build:
    return Build(
        line="6.1", name=name, release="6.1.0-9-cloud-amd64", version="6.1.9-1", flavour="",
        packages={}, suite=suite, image=Path("x"), config=None, modules=None, image_digest="",
    )  # fmt: skip


def find(suite: str, packages: FakePackages, name: str = "6.1.9-1") -> Origin:
    return find_headers(build(suite, name), cast(Packages, packages))


def test_headers_of_the_build_s_own_version() -> None:
    packages = FakePackages(bookworm=[(uapi.PACKAGE, "6.1.10-1"), LIBC, *BUILDING, *UPSTREAM])
    found = find("bookworm-security", packages)
    assert not found.raw
    assert [(one.version, one.suite) for one in found.packages] == [("6.1.9-1", "bookworm")]
    assert packages.asked[0] == "bookworm-security"


def test_headers_of_another_version_are_not_taken() -> None:
    packages = FakePackages(
        bookworm=[
            (uapi.PACKAGE, "6.1.10-1"),
            BUILDING[0],
            ("linux-headers-6.1.0-9-common", "6.1.9-2"),
        ]
    )
    with pytest.raises(PackageError, match=r"no index lists linux-libc-dev 6\.1\.9-1"):
        find("bookworm", packages)


def test_the_kernel_s_own_headers_come_second_and_its_source_last() -> None:
    found = find("bookworm", FakePackages(bookworm=[*BUILDING, *UPSTREAM]))
    assert found.raw
    assert found.names == ", ".join(name for name, _ in reversed(BUILDING))
    found = find("bookworm", FakePackages(bookworm=[BUILDING[1], *UPSTREAM]))
    assert found.raw
    assert found.names == "linux_6.1.9.orig.tar.xz"


def test_a_source_that_is_changed_as_a_whole_is_not_upstream_s() -> None:
    changed = [UPSTREAM[0], ("linux_6.1.9-1.diff.gz", "6.1.9-1")]
    with pytest.raises(PackageError, match="nor its source"):
        find("bookworm", FakePackages(bookworm=changed))


def test_for_a_kernel_of_one_s_own_nobody_is_asked() -> None:
    packages = FakePackages(bookworm=[LIBC, *BUILDING, *UPSTREAM])
    with pytest.raises(PackageError, match="no index lists"):
        find("local", packages, "local-6.1.0-9-0123abcd")
    assert packages.asked == []


TREE = {
    "Makefile": "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 300\n"
    "define filechk_version.h\n\techo LINUX_VERSION_CODE LINUX_VERSION_SUBLEVEL;\nendef\n",
    "include/uapi/linux/types.h": BASE["linux/types.h"],
    **{f"include/uapi/{name}": BASE[name] for name in BASE if name.startswith("linux/")},
    "include/uapi/asm-generic/types.h": BASE["asm/types.h"],
    "include/uapi/asm-generic/Kbuild": "mandatory-y += types.h\nmandatory-y += own.h\n",
    "include/uapi/linux/thing.h": """
#ifndef _UAPI_THING_H
#define _UAPI_THING_H
#include <linux/types.h>
#include <linux/compiler.h>
#ifdef __KERNEL__
#define THING_INSIDE 1
#endif
struct thing { __u8 kind; __u64 value; } __packed;
struct points { void __user *to; void (__user *(*call))(void __user *); };
static inline __attribute_const__ int half(int x) { return x / 2; }
#endif
""",
    "include/uapi/linux/again.h": "#include <linux/thing.h>\n"
    "#ifdef _THING_H\n#define THING_TWICE 2\n#endif\n",
    "arch/x86/include/uapi/asm/own.h": "#define OWN 7\n",
    "arch/x86/entry/syscalls/syscall_64.tbl": "# comment\n0\tcommon\tread\tsys_read\n"
    "13\t64\trt_sigaction\tsys_rt_sigaction\n512\tx32\trt_sigaction\tcompat\n",
    "arch/x86/entry/syscalls/syscall_32.tbl": "3 i386 read sys_read\n",
    "include/linux/secret.h": "#define SECRET 1\n",
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        if exported.wanted(name):
            path = tmp_path / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return tmp_path / "tree"


def test_headers_made_of_a_source_tree(tree: Path, tmp_path: Path) -> None:
    include = exported.export([tree], tmp_path / "include")
    found = describe(read_headers([include]))
    assert found.types["struct thing"].words == ["0 u:1 kind", "1 u:8 value"]
    assert found.types["struct points"].size == 16
    assert found.left_out == ()
    assert found.constants == {
        "LINUX_VERSION_CODE": (6 << 16) + (1 << 8) + 255,
        "LINUX_VERSION_SUBLEVEL": 300,
        "OWN": 7,
        "THING_TWICE": 2,
        "__NR_read": 0,
        "__NR_rt_sigaction": 13,
    }
    x32 = (include / "asm/unistd_x32.h").read_text()
    assert "__NR_rt_sigaction (__X32_SYSCALL_BIT + 512)\n" in x32
    assert "13" not in x32
    assert "__NR_read 3\n" in (include / "asm/unistd_32.h").read_text()
    assert not (include / "linux/secret.h").exists()


def test_what_a_build_has_made_already_is_taken(tree: Path, tmp_path: Path) -> None:
    made = tmp_path / "flavour"
    path = made / "arch/x86/include/generated/uapi/asm/unistd_64.h"
    path.parent.mkdir(parents=True)
    path.write_text("#define __NR_made 99\n")
    include = exported.export([tree, made], tmp_path / "include")
    assert (include / "asm/unistd_64.h").read_text() == "#define __NR_made 99\n"
    with pytest.raises(InputError, match="no include/uapi"):
        exported.export([made], tmp_path / "other")
