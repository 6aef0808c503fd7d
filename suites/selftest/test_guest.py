"""What goes into a guest: archives, module order, directives, and what is refused."""

from __future__ import annotations

import dataclasses
import stat
import subprocess
from pathlib import Path

import pytest

from hostabi.errors import InputError, MissingFeatureError
from hostabi.guest import cpio, disk, image, modules, needs
from hostabi.guest.disk import Disk
from hostabi.kernels.modinfo import ModuleInfo
from hostabi.model import Cgroup
from hostabi.packages.context import Packages


def module(name: str, *depends: str, **fields: tuple[str, ...]) -> ModuleInfo:
    return ModuleInfo(name, f"kernel/{name}.ko", depends=depends, **fields)


def table(*entries: ModuleInfo) -> dict[str, ModuleInfo]:
    return {entry.name: entry for entry in entries}


def members(archive: bytes) -> list[tuple[str, int, bytes]]:
    """An independent reading of newc: name, mode, data."""
    found, at = [], 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, length = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + length - 1].decode()
        start = at + 110 + length + (-(110 + length) % 4)
        if name == "TRAILER!!!":
            return found
        found.append((name, fields[1], archive[start : start + size]))
        at = start + size + (-size % 4)


def test_cpio_round_trip() -> None:
    made = cpio.archive(
        [
            cpio.file("init", b"#!x", 0o755),
            cpio.file("a/b/c", b"12345"),
            cpio.file("a/b/d", b""),
            cpio.link("sh", "/bin/busybox"),
            cpio.node("dev/console", 5, 1),
        ]
    )
    found = members(made)
    assert [name for name, _, _ in found] == [
        "init", "a", "a/b", "a/b/c", "a/b/d", "sh", "dev", "dev/console",
    ]  # fmt: skip
    contents = {name: data for name, _, data in found}
    assert contents["a/b/c"] == b"12345"
    assert contents["sh"] == b"/bin/busybox"
    modes = {name: mode for name, mode, _ in found}
    assert modes["init"] == stat.S_IFREG | 0o755
    assert stat.S_ISDIR(modes["a/b"])
    assert stat.S_ISCHR(modes["dev/console"])
    assert made == cpio.archive(
        [
            cpio.file("init", b"#!x", 0o755),
            cpio.file("a/b/c", b"12345"),
            cpio.file("a/b/d", b""),
            cpio.link("sh", "/bin/busybox"),
            cpio.node("dev/console", 5, 1),
        ]
    )


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../b", "", "a//b", "./a"])
def test_cpio_refuses_names(name: str) -> None:
    with pytest.raises(ValueError, match="not a plain"):
        cpio.archive([cpio.file(name, b"")])


def test_load_order() -> None:
    known = table(
        module("virtio"),
        module("virtio_ring", "virtio"),
        module("virtio_pci", "virtio_ring", "virtio"),
        module("ext4", "jbd2", before=("crc32c",)),
        module("jbd2"),
        module("crc32c_generic", aliases=("crypto-crc32c", "crc32c")),
        module("crc32c_intel", aliases=("crypto-crc32c", "crc32c", "cpu:type:x86,*")),
        module("loop_a", "loop_b"),
        module("loop_b", "loop_a"),
        ModuleInfo("built", ""),
        module("user", "built", "absent"),
    )
    assert modules.load_order(known, ["virtio-pci"]) == ["virtio", "virtio_ring", "virtio_pci"]
    assert modules.load_order(known, ["ext4"]) == ["jbd2", "crc32c_generic", "ext4"]
    assert modules.load_order(known, ["user", "built"]) == ["user"]
    assert set(modules.load_order(known, ["loop_a"])) == {"loop_a", "loop_b"}
    both = modules.load_order(known, ["virtio_pci", "virtio_ring"])
    assert both == ["virtio", "virtio_ring", "virtio_pci"]


def test_texts_for_modprobe() -> None:
    known = table(
        module("a"),
        module("b", "a"),
        module("c", "b", aliases=("fs-c", "pci:v1234d*", "net-pf-40", "char-major-10-*")),
        module("d", before=("a",), after=("c",)),
        ModuleInfo("built", "", aliases=("fs-built",)),
    )
    paths = {name: f"m/{name}.ko" for name in "abcd"}
    assert modules.dep_text(known, paths).splitlines() == [
        "m/a.ko:", "m/b.ko: m/a.ko", "m/c.ko: m/b.ko m/a.ko", "m/d.ko: m/a.ko",
    ]  # fmt: skip
    aliases = modules.alias_text(known).splitlines()
    assert aliases == ["alias fs-c c", "alias net-pf-40 c", "alias char-major-10-* c"]
    assert modules.softdep_text(known) == "softdep d pre: a post: c\n"


def test_directives() -> None:
    text = image.boot_directives(
        [cpio.file("init", b"12345", 0o755)],
        ["virtio"],
        ["pvpanic"],
        Cgroup.V1,
        [Disk("modules", Path("x"), "/lib/modules")],
        scratch=True,
    )
    assert text.splitlines() == [
        "wait 20000",
        "file /init 5 755 3534333231",
        "module modules/virtio.ko",
        "module -modules/pvpanic.ko",
        "cgroup v1",
        "disk modules /lib/modules ext4 ro",
        "disk scratch /scratch/ext4 ext4 later",
        "end",
    ]


def test_a_sum_changes_wherever_bytes_turn_to_zeros() -> None:
    data = bytes(range(1, 100))
    sums = {image.word_sum(data[:cut] + bytes(99 - cut)) for cut in range(100)}
    assert len(sums) == 100
    assert image.word_sum(data) == sum(
        int.from_bytes(data[at : at + 8], "little") for at in range(0, 99, 8)
    ) % (1 << 64)


CONFIG = {need.option: "y" for need in (*needs.BASE, *needs.DISKS)}


@pytest.mark.parametrize("need", needs.BASE, ids=lambda need: need.option)
def test_a_lacking_kernel_is_told_its_option(need: needs.Need) -> None:
    lacking = {option: value for option, value in CONFIG.items() if option != need.option}
    with pytest.raises(MissingFeatureError, match=need.option):
        needs.modules_for(needs.BASE, lacking, {}, "mine")
    assert needs.modules_for(needs.BASE, CONFIG, {}, "mine") == []


def test_a_module_that_is_absent() -> None:
    config = {**CONFIG, "CONFIG_VIRTIO_PCI": "m"}
    with pytest.raises(MissingFeatureError, match="CONFIG_VIRTIO_PCI=m"):
        needs.modules_for(needs.BASE, config, {}, "mine")
    there = table(module("virtio_pci"))
    assert needs.modules_for(needs.BASE, config, there, "mine") == ["virtio_pci"]


def test_an_unknown_configuration_gets_the_benefit_of_the_doubt() -> None:
    assert needs.modules_for(needs.BASE, {}, {}, "mine") == []
    there = table(module("virtio_pci"), ModuleInfo("virtio_console", ""))
    assert needs.modules_for(needs.BASE, {}, there, "mine") == ["virtio_pci"]


def test_an_initramfs_larger_than_the_memory() -> None:
    with pytest.raises(InputError, match="512 MiB is too small") as caught:
        image.check_memory(181 << 20, 512, 60 << 20)
    assert "MiB or more" in caught.value.advice
    image.check_memory(4 << 20, 512, 60 << 20)


def test_what_a_kernel_takes(tmp_path: Path) -> None:
    head = bytearray(0x264)
    head[0x202:0x206] = b"HdrS"
    head[0x206:0x208] = (0x20F).to_bytes(2, "little")
    head[0x260:0x264] = (63 << 20).to_bytes(4, "little")
    path = tmp_path / "bzImage"
    path.write_bytes(head)
    assert image.kernel_memory(path) == 63 << 20
    path.write_bytes(head[:100])
    assert image.kernel_memory(path) == 0
    path.write_bytes(bytes(0x300))
    assert image.kernel_memory(path) == 0


def test_folder_entries(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").write_text("x")
    (tmp_path / "a").symlink_to("b")
    found = list(disk.folder_entries(tmp_path, "top"))
    assert [entry.name for entry in found] == ["top/a", "top/b", "top/b/file"]
    assert found[0].source == b"b"


@pytest.mark.kernels
def test_a_disk_belongs_to_root_and_is_the_same_each_time(tmp_path: Path) -> None:
    packages = Packages.open()
    folder = tmp_path / "tree"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "tool").write_bytes(b"x" * 10000)
    (folder / "bin" / "tool").chmod(0o4755)
    (folder / "link").symlink_to("bin/tool")
    made = []
    for _ in range(2):
        key = str(tmp_path)
        path = disk.ext4_image(packages, lambda _: disk.folder_entries(folder), key=key, label="t")
        made.append(path.read_bytes())
        packages.cache.forget("disks", path.name)
        path = tmp_path / "image"
        path.write_bytes(made[-1])
    assert made[0] == made[1]
    tree = packages.tree(["e2fsprogs", "libarchive13t64"], disk.SUITE)
    command = [
        *disk.tool(tree, "usr/sbin/debugfs"),
        "-R",
        "stat /bin/tool",
        str(tmp_path / "image"),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "User:     0   Group:     0" in shown
    assert "Mode:  04755" in shown


def test_entries_of_other_kinds_are_refused(tmp_path: Path) -> None:
    entry = disk.Entry("pipe", stat.S_IFIFO | 0o600)
    with (tmp_path / "tar").open("wb") as stream, pytest.raises(InputError, match="pipe"):
        disk._write_tar(stream, [entry])


def test_a_key_changes_with_the_disks() -> None:
    first = image.GuestImage(Path("i"), (Disk("modules", Path("m"), "/lib/modules"),), None, "k")
    assert first.modules_disk == Path("m")
    assert dataclasses.replace(first, disks=()).modules_disk is None
