"""From a spec to a build: over a synthetic archive, and from files."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from aptrepo import rpm
from hypothesis import given
from hypothesis import strategies as st
from kernelfakes import FakeArchive, kernel_files, make_bzimage, make_deb, make_elf, sample_btf

from hostabi.errors import ImageError, InputError, PackageError
from hostabi.kernels import catalogue, identity, local
from hostabi.kernels.candidates import from_packages
from hostabi.kernels.catalogue import default_lines
from hostabi.kernels.identity import is_running, running_name
from hostabi.kernels.listing import list_kernels
from hostabi.kernels.lock import Lock, make_lock, read_lock, render, write_lock
from hostabi.kernels.resolve import is_kernel_file, resolve
from hostabi.kernels.static import Static
from hostabi.packages.fetch import PackageGoneError


@pytest.fixture
def archive(tmp_path):
    made = FakeArchive(tmp_path)
    for abi, version in (("6.1.0-55", "6.1.192-1"), ("6.1.0-56", "6.1.192-2")):
        made.add_kernel("bookworm-security", abi, version)
        made.add_kernel("bookworm-security", abi, version, "amd64")
    made.add_kernel("bookworm-security", "6.12.117+deb12", "6.12.117-1~deb12u1")
    made.add(
        "bookworm-security", "linux-image-6.12-cloud-amd64", "6.12.117-1~deb12u1", {},
        "linux-image-6.12.117+deb12-cloud-amd64 (= 6.12.117-1~deb12u1)",
    )  # fmt: skip
    made.add_kernel("bookworm", "6.1.0-50", "6.1.176-1")
    made.add_kernel("trixie-backports", "6.18.15+deb13", "6.18.15-1~bpo13+1")
    made.add_split("trixie-backports", "7.2.12+deb13", "7.2.12-1~bpo13+1")
    made.add_split("trixie-backports", "7.3.4+deb13", "7.3.4-1~bpo13+1")
    made.add_split("trixie-backports", "7.1.13+deb13", "7.1.13-1~bpo13+1", without="modules")
    made.add_split("experimental", "7.3", "7.3~rc7-1~exp1")
    made.add_kernel("bookworm-backports", "6.12.95+deb12", "6.12.95-1~bpo12+1")
    made.add_split("sid", "7.2.13+deb14", "7.2.13-1")
    return made


@pytest.mark.parametrize(
    ("spec", "name", "release"),
    [
        ("6.1", "6.1.192-2", "6.1.0-56-cloud-amd64"),
        ("6.1.192-1", "6.1.192-1", "6.1.0-55-cloud-amd64"),
        ("6.1.0-55", "6.1.192-1", "6.1.0-55-cloud-amd64"),
        ("6.1.0-50", "6.1.176-1", "6.1.0-50-cloud-amd64"),
        ("6.1.192", "6.1.192-2", "6.1.0-56-cloud-amd64"),
        ("6.1-amd64", "6.1.192-2-amd64", "6.1.0-56-amd64"),
        ("stable-cloud-amd64", "7.2.12-1~bpo13+1", "7.2.12+deb13-cloud-amd64"),
        ("6.1.0-56-amd64", "6.1.192-2-amd64", "6.1.0-56-amd64"),
        ("6.1.192-2-amd64", "6.1.192-2-amd64", "6.1.0-56-amd64"),
        ("6.1.0-55-cloud-amd64", "6.1.192-1", "6.1.0-55-cloud-amd64"),
        ("6.18.15-1", "6.18.15-1~bpo13+1", "6.18.15+deb13-cloud-amd64"),
        ("6.18.15-1~bpo13+1", "6.18.15-1~bpo13+1", "6.18.15+deb13-cloud-amd64"),
        ("6.12", "6.12.117-1~deb12u1", "6.12.117+deb12-cloud-amd64"),
        ("7.3", "7.3.4-1~bpo13+1", "7.3.4+deb13-cloud-amd64"),
        ("7.3~rc7-1~exp1", "7.3~rc7-1~exp1", "7.3-cloud-amd64"),
        ("6.12.95", "6.12.95-1~bpo12+1", "6.12.95+deb12-cloud-amd64"),
        ("7.2.13-1", "7.2.13-1", "7.2.13+deb14-cloud-amd64"),
        ("mainline", "7.3.4-1~bpo13+1", "7.3.4+deb13-cloud-amd64"),
        ("stable", "7.2.12-1~bpo13+1", "7.2.12+deb13-cloud-amd64"),
    ],
)
def test_spec_names_a_build(archive, spec, name, release):
    build = resolve(spec, archive)
    assert (build.name, build.release) == (name, release)
    assert build.image is not None
    assert build.image.is_file()
    assert build.config is not None
    assert build.modules is not None
    assert (build.modules / "kernel/fs/demo.ko").is_file()
    assert build.modules.name == release
    assert build.note == ""


def test_parts_of_a_split_build_are_all_taken_and_recorded(archive):
    build = resolve("7.2", archive)
    assert sorted(name.partition("-7")[0] for name in build.packages) == [
        "linux-base",
        "linux-binary",
        "linux-modules",
    ]
    assert not (build.image.parents[4] / "usr/share").exists()


def test_only_the_first_suite_is_asked_for_a_line(archive):
    resolve("6.1", archive)
    assert archive.asked == ["bookworm-security"]


def test_second_resolution_fetches_nothing(archive):
    first = resolve("6.1", archive)
    archive.fetched.clear()
    assert resolve("6.1", archive) == first
    assert archive.fetched == []


def test_flavour_is_selectable(archive):
    assert resolve("6.1", archive, flavour="amd64").release == "6.1.0-56-amd64"
    with pytest.raises(InputError, match=r"line 6\.1 in flavour rt-amd64.*\n.*amd64, cloud-amd64"):
        resolve("6.1", archive, flavour="rt-amd64")
    with pytest.raises(InputError, match="no flavour generic"):
        resolve("6.1-generic", archive)


def test_a_line_that_only_a_suite_elsewhere_lists(archive):
    with pytest.raises(InputError):
        resolve("7.4", archive)
    archive.add_split("sid", "7.4.1+deb14", "7.4.1-1")
    assert resolve("7.4", archive).name == "7.4.1-1"
    assert resolve("7.4.1", archive).name == "7.4.1-1"


def test_package_that_is_gone_falls_back_within_the_line_and_says_so(archive):
    archive.gone.add("pool/linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb")
    build = resolve("6.1", archive)
    assert build.name == "6.1.192-1"
    assert "6.1.192-2" in build.note
    assert any("6.1.192-2" in text for text in archive.said)


def test_fallback_goes_on_in_the_next_suite(archive):
    archive.gone |= {one.filename for one in archive.suites["bookworm-security"]}
    assert resolve("6.1", archive).name == "6.1.176-1"


def test_line_of_which_all_is_gone_is_an_error(archive):
    for suite in ("bookworm-security", "bookworm"):
        archive.gone |= {one.filename for one in archive.suites[suite]}
    with pytest.raises(PackageGoneError, match="gone from the mirror"):
        resolve("6.1", archive)


def test_exact_build_that_is_gone_is_never_replaced(archive):
    archive.gone.add("pool/linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb")
    with pytest.raises(PackageGoneError) as caught:
        resolve("6.1.192-2", archive)
    assert "6.1.192-1" in caught.value.advice


def test_upstream_version_whose_newest_build_is_gone_is_never_replaced(archive):
    archive.gone.add("pool/linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb")
    with pytest.raises(PackageGoneError, match=r"6\.1\.192-2"):
        resolve("6.1.192", archive)


def test_name_of_the_newest_kernel_is_no_kernel(archive):
    listed = from_packages(archive.suites["bookworm-security"], "bookworm-security")
    assert [one.abi for one in listed if one.line == "6.12"] == ["6.12.117+deb12"]


def test_unsigned_package_gives_way_to_the_signed_one(archive):
    archive.add_kernel("noble", "6.8.0-31", "6.8.0-31.31", "generic")
    release = "6.8.0-31-generic"
    archive.add("noble", f"linux-image-unsigned-{release}", "6.8.0-31.31", kernel_files(release))
    archive.add("noble", f"linux-modules-{release}", "6.8.0-31.31", {})
    build = resolve("6.8", archive)
    assert (build.flavour, build.release) == ("generic", release)
    assert list(build.packages) == [f"linux-image-{release}_6.8.0-31.31_amd64.deb"]


def test_suite_that_cannot_be_read_is_passed_over(archive):
    archive.unreadable.add("bookworm-security")
    assert resolve("6.1", archive).name == "6.1.176-1"
    archive.unreadable |= {"bookworm", "bullseye-security"}
    with pytest.raises(PackageError, match="bookworm-security is not there"):
        resolve("6.1", archive)


def test_version_that_leaves_out_a_telling_suffix_is_refused(archive):
    archive.add_kernel("trixie-backports", "6.18.15+deb14", "6.18.15-1~deb14u1")
    with pytest.raises(InputError, match=r"ambiguous.*~deb14u1.*~bpo13"):
        resolve("6.18.15-1", archive)


def test_build_whose_parts_are_not_listed_says_which(archive):
    with pytest.raises(InputError, match=r"without linux-modules-7\.1\.13"):
        resolve("7.1", archive)


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        ("6.1.192-3", "6.1.192-2"),
        ("6.1.150", "6.1.176-1, 6.1.192-1, 6.1.192-2"),
        ("6.12.100", "6.12.95-1~bpo12+1, 6.12.117-1~deb12u1"),
        ("6.1.0-99", "6.1.192"),
        ("6.1.0-57", "6.1.0-56"),
        ("6.19", "6.18"),
        ("6.2", "6.12"),
        ("newest", "mainline"),
        ("", "running"),
        ("x" * 300, "running"),
        ("./" + "x" * 300, "in ."),
        ("~nobody-here/vmlinuz", "cannot be listed"),
    ],
)
def test_unknown_spec_lists_near_ones(archive, spec, near):
    with pytest.raises(InputError) as caught:
        resolve(spec, archive)
    assert near in caught.value.advice
    assert caught.value.exit_code == 2


@given(spec=st.text(alphabet="0123456789.-~+abdeu, ", max_size=16))
def test_any_spec_is_a_build_or_an_input_error(spec, tmp_path_factory):
    archive = FakeArchive(tmp_path_factory.mktemp("spec"))
    archive.add_kernel("bookworm-security", "6.1.0-56", "6.1.192-2")
    with contextlib.suppress(InputError):
        assert resolve(spec, archive).line == "6.1"


def test_default_lines_follow_what_is_served(archive):
    assert default_lines(archive) == ("5.10", "6.1", "6.12", "6.18", "7.2", "7.3")
    archive.add_split("experimental", "7.4", "7.4~rc2-1~exp1")
    assert default_lines(archive)[-2:] == ("7.3", "7.4")
    archive.unreadable |= {"trixie-backports", "experimental"}
    assert default_lines(archive) == default_lines()
    assert any("remembered" in text for text in archive.said)


def test_catalogue_refuses_what_it_does_not_know(tmp_path):
    path = tmp_path / "lines.toml"
    for text in ("schema = 1", "schema = 'x'", "[[line"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"lines\.toml"):
            catalogue.catalogue(path)


def test_lock_round_trip_and_use(archive, tmp_path):
    lock = make_lock(["6.1", "7.2"], archive, written="2026-01-01")
    assert archive.fetched == []
    assert "archive.invalid" not in render(lock)
    path = write_lock(lock, tmp_path / "lock.toml")
    assert read_lock(path) == lock
    assert read_lock(tmp_path / "none.toml") is None
    archive.add_kernel("bookworm-security", "6.1.0-57", "6.1.193-1")
    assert resolve("6.1", archive).name == "6.1.193-1"
    assert resolve("6.1", archive, lock=lock).name == "6.1.192-2"
    assert resolve("7.2", archive, lock=lock).release == "7.2.12+deb13-cloud-amd64"
    with pytest.raises(InputError, match="not in the lock"):
        resolve("6.18", archive, lock=lock)
    renewed = make_lock(["6.1"], archive, written="2026-01-02", keep=lock)
    assert [one.version for one in renewed.build] == ["6.1.193-1", "7.2.12-1~bpo13+1"]


def test_lock_passes_over_a_suite_that_cannot_be_read(archive):
    archive.unreadable = {"bookworm-security"}
    made = make_lock(["6.1"], archive, written="now")
    assert (made.build[0].version, made.build[0].suite) == ("6.1.176-1", "bookworm")
    assert "bookworm-security cannot be read" in archive.said[0]
    archive.unreadable = {"bookworm-security", "bookworm", "bullseye-security"}
    with pytest.raises(PackageError, match="bookworm-security is not there"):
        make_lock(["6.1"], archive, written="now")


def test_locked_package_that_is_gone_says_how_to_refresh(archive):
    lock = make_lock(["6.1"], archive, written="")
    archive.gone |= {one.filename for one in archive.suites["bookworm-security"]}
    with pytest.raises(PackageGoneError) as caught:
        resolve("6.1", archive, lock=lock)
    assert "hostabi kernels lock" in caught.value.advice


def test_damaged_lock_is_an_input_error(tmp_path):
    path = tmp_path / "lock.toml"
    for text in ("schema = 2", "schema = 1\nbuild = 3", "\x00", "schema = 1\nother = 1"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"lock\.toml"):
            read_lock(path)


def test_listing_tells_cached_locked_and_newer(archive):
    lock = make_lock(["6.1"], archive, written="")
    resolve("6.1", archive)
    archive.add_kernel("bookworm-security", "6.1.0-57", "6.1.193-1")
    archive.unreadable.add("jammy")
    listed = {line.name: line for line in list_kernels(archive, lock=lock)}
    line = listed["6.1"]
    assert [build.name for build in line.builds][:2] == ["6.1.193-1", "6.1.192-2"]
    assert [build.cached for build in line.builds][:2] == [False, True]
    assert (line.locked, line.newer_than_lock, line.newer_than_cached) == (
        "6.1.192-2",
        "6.1.193-1",
        "6.1.193-1",
    )
    assert listed["7.3"].kind == "mainline"
    assert listed["7.2"].kind == "stable"
    assert listed["7.2"].default
    assert not listed["5.15"].tried
    assert not listed["5.15"].default
    assert "jammy" in listed["5.15"].problem
    assert "7.1" not in listed


def test_static_reads_an_image(archive):
    static = Static(resolve("6.1", archive), archive.cache)
    assert static.syscall_names == {"openat2", "newuname", "fork"}
    assert static.config == {"CONFIG_NET": "y"}
    assert static.modules["demo"].depends == ("fat", "nls_base")
    assert static.btf.struct("open_how") is not None
    assert list((archive.cache.root / "btf").iterdir())


def test_static_of_a_corrupt_image_keeps_nothing(archive):
    build = resolve("6.1", archive)
    build.image.write_bytes(build.image.read_bytes()[:1500])
    with pytest.raises(ImageError, match="vmlinuz"):
        _ = Static(build, archive.cache).btf
    assert not list((archive.cache.root / "btf").iterdir())


def test_static_keeps_no_corrupt_btf(archive):
    build = resolve("6.1", archive)
    build.image.write_bytes(make_bzimage(make_elf({".BTF": sample_btf()[:-1]})))
    with pytest.raises(ImageError, match="BTF"):
        _ = Static(build, archive.cache).btf
    assert not list((archive.cache.root / "btf").iterdir())


RELEASE = "6.6.9-local"


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_local_package_and_split_set(archive, tmp_path):
    deb = tmp_path / "linux-image.deb"
    deb.write_bytes(make_deb(kernel_files(RELEASE), Version="6.6.9-1"))
    build = resolve(str(deb), archive)
    assert (build.line, build.release, build.version) == ("6.6", RELEASE, "6.6.9-1")
    assert build.name.startswith(f"local-{RELEASE}-")
    assert list(build.packages) == ["linux-image.deb"]
    files = kernel_files(RELEASE, under="usr/lib/modules")
    folder = tmp_path / "set"
    folder.mkdir()
    paths = []
    for name in files:
        paths.append(folder / f"part{len(paths)}.deb")
        paths[-1].write_bytes(make_deb({name: files[name]}, Version="6.6.9-1"))
    together = resolve(",".join(map(str, paths)), archive)
    assert together == resolve(str(folder), archive)
    assert together.modules is not None
    assert together.config is not None
    with pytest.raises(InputError, match="no kernel image") as caught:
        resolve(str(paths[2]), archive)
    assert "linux-binary" in caught.value.advice


@pytest.mark.parametrize("zstd", [False, True])
def test_local_rpm(archive, tmp_path, zstd):
    files = [
        (f"./{name}", 0o100644, content)
        for name, content in kernel_files(RELEASE, under="lib/modules").items()
    ]
    package = tmp_path / "kernel.rpm"
    package.write_bytes(rpm([*files, ("./etc/x", 0o100644, b"x")], zstd=zstd))
    build = resolve(str(package), archive)
    assert (build.release, build.version) == (RELEASE, "6.6.1-2")
    assert build.modules is not None
    assert build.config is not None
    assert not (build.modules.parents[2] / "etc").exists()
    package.write_bytes(rpm(files, zstd=zstd, machine="aarch64"))
    with pytest.raises(InputError, match=r"kernel\.rpm: made for aarch64"):
        resolve(str(package), archive)


def test_local_folder_and_image(archive, tmp_path):
    folder = written(tmp_path / "tree", kernel_files(RELEASE))
    build = resolve(str(folder), archive)
    assert build.modules == folder / "lib/modules" / RELEASE
    image = folder / "boot" / f"vmlinuz-{RELEASE}"
    assert resolve(str(image), archive) == build
    alone = tmp_path / "bzImage"
    alone.write_bytes(image.read_bytes())
    assert resolve(str(alone), archive).modules is None
    named = resolve(
        str(alone), archive, modules=folder / "lib/modules" / RELEASE, config=build.config
    )
    assert (named.modules, named.config) == (build.modules, build.config)
    with pytest.raises(InputError, match="no folder kernel/"):
        resolve(str(alone), archive, modules=tmp_path)


def test_local_files_that_will_not_do(archive, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        resolve(str(tmp_path / "missing.deb"), archive)
    folder = written(tmp_path / "two", kernel_files("6.6.1-a") | kernel_files("6.6.2-b"))
    with pytest.raises(InputError, match=r"several kernels.*6\.6\.1-a, 6\.6\.2-b"):
        resolve(str(folder), archive)
    cut = tmp_path / "cut"
    cut.write_bytes(make_bzimage(make_elf({}))[:1100])
    with pytest.raises(ImageError, match="cut"):
        resolve(str(cut), archive)
    with pytest.raises(InputError, match="go with an image"):
        resolve("6.1", archive, config=cut)
    other = tmp_path / "other.deb"
    other.write_bytes(make_deb(kernel_files(RELEASE), Architecture="arm64"))
    with pytest.raises(InputError, match=r"other\.deb: made for arm64"):
        resolve(str(other), archive)
    wrong = tmp_path / "wrong.deb"
    wrong.write_bytes(make_deb({f"boot/vmlinuz-{RELEASE}": b"MZ" + bytes(100)}))
    with pytest.raises(ImageError, match=rf"wrong\.deb: boot/vmlinuz-{RELEASE}: not a bzImage"):
        resolve(str(wrong), archive)
    junk = tmp_path / "junk.deb"
    junk.write_bytes(b"junk")
    with pytest.raises(InputError):
        resolve(str(junk), archive)
    assert not list((archive.cache.root / "builds").iterdir())


def test_running_is_this_kernel(archive):
    build = resolve("running", archive)
    assert build.name.startswith("running-")
    assert is_running(build.name)
    assert build == local.running()
    assert Path("/proc/sys/kernel/osrelease").read_text().strip() == build.release


def test_a_name_says_what_a_kernel_is_made_from(archive, tmp_path, monkeypatch):
    """A kernel built again, with another option or module, is not the one measured before."""
    folder = written(tmp_path / "tree", kernel_files(RELEASE))
    names = [resolve(str(folder), archive).name]
    for path in (f"boot/config-{RELEASE}", f"lib/modules/{RELEASE}/kernel/new.ko"):
        with (folder / path).open("a") as file:
            file.write("CONFIG_NEW=y\n")
        names.append(resolve(str(folder), archive).name)
    assert len(set(names)) == 3
    assert resolve(str(folder), archive).name == names[-1]

    names = [running_name("6.1", "#1")]
    monkeypatch.setattr(identity, "_BOOT", tmp_path / "boot_id")
    for boot in ("a", "b"):
        (tmp_path / "boot_id").write_text(boot)
        names.append(running_name("6.1", "#1"))
    names.append(running_name("6.1", "#2"))
    assert len(set(names)) == 4


def test_documents_are_not_unpacked():
    assert is_kernel_file("./boot/vmlinuz-1")
    assert is_kernel_file("usr/lib/modules/1/kernel/a.ko")
    assert not is_kernel_file("./usr/share/doc/changelog")


def test_empty_lock_has_no_line():
    assert Lock(1).get("6.1") is None
