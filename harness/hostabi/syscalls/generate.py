"""Makes the tables of syscall numbers, constants and types from Debian's linux-libc-dev.

They are kept in ``data/x86_64.json`` and ``data/types.json``. To renew them, unpack
the newest linux-libc-dev and name its folder, its version and the SHA-256 of the .deb::

    dpkg-deb -x linux-libc-dev_VERSION_all.deb tree
    python -m hostabi.syscalls.generate tree VERSION SHA256

Only the compiler reads the headers (:mod:`hostabi.kernels.headers`): nothing is run, and no
header is parsed by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec
from cffi import FFI

from hostabi.errors import InputError
from hostabi.kernels.btf import Btf
from hostabi.kernels.btf_types import Kind, Member, Type
from hostabi.kernels.headers import Headers, header_names, read_headers
from hostabi.syscalls import types
from hostabi.syscalls.table import DATA, Tables

TYPES = DATA.parent / "types.json"

LEFT_OUT = (
    "linux/*v4l2*", "linux/videodev2*", "linux/media*", "linux/dvb*", "linux/cec*",
    "linux/input*", "linux/kfd*", "linux/mei*", "linux/rio*", "linux/nilfs*", "linux/atm*",
    "linux/hdlc*", "linux/isdn*", "linux/raid*", "linux/sonet*", "linux/sound*", "linux/uvc*",
    "linux/usb*", "linux/nfsd*", "linux/nfs*", "linux/sunrpc*", "linux/hid*", "linux/surface*",
    "linux/genwqe*", "linux/bt-bmc*", "linux/can*", "linux/caif*", "linux/batman*",
    "linux/batadv*", "linux/cxl*", "linux/dlm*", "linux/fpga*", "linux/gpio*", "linux/i2c*",
    "linux/i8k*", "linux/iio*", "linux/ipmi*", "linux/ivtv*", "linux/joystick*",
    "linux/matroxfb*", "linux/meye*", "linux/mmc*", "linux/nl80211*", "linux/nvme*",
    "linux/omap*", "linux/parport*", "linux/pcitest*", "linux/ppdev*", "linux/pps*", "linux/ptp*",
    "linux/qnx*", "linux/rkisp*", "linux/rpmsg*", "linux/scif*", "linux/sed-opal*",
    "linux/serial*", "linux/spi*", "linux/thermal*", "linux/uinput*", "linux/uleds*",
    "linux/vbox*", "linux/virtio*", "linux/vmcore*", "linux/wimax*", "linux/wireless*",
    "linux/wwan*", "linux/xilinx*", "linux/zorro*", "linux/fb*", "linux/genetlink_*",
    "linux/iommufd*", "linux/idxd*", "linux/isst*", "linux/kvm*", "linux/lirc*", "linux/max2175*",
    "linux/mdio*", "linux/mii*", "linux/mic_*", "linux/nci*", "linux/nfc*", "linux/pci*",
    "linux/phantom*", "linux/pktcdvd*", "linux/pr.h", "linux/rds*", "linux/rfkill*", "linux/rtc*",
    "linux/rxrpc*", "linux/stm*", "linux/switchtec*", "linux/synclink*", "linux/target_core*",
    "linux/tee*", "linux/vfio*", "linux/vduse*", "linux/vhost*", "linux/watchdog*", "linux/x25*",
    "linux/acrn*", "linux/adfs*", "linux/affs*", "linux/agpgart*", "linux/am437x*", "linux/amt*",
    "linux/apm*", "linux/arcfb*", "linux/aspeed*", "linux/ax25*", "linux/bcache*", "linux/bcm*",
    "linux/bfs*", "linux/ccs*", "linux/cdrom*", "linux/chio*", "linux/cciss*", "linux/cyclades*",
    "linux/devlink*", "linux/dpll*", "linux/ethtool*", "linux/firewire*", "linux/fd.h",
    "linux/fdreg*", "linux/gfs2*", "linux/gsmmux*", "linux/hyperv*", "linux/intel-ipu*",
    "linux/map_to*", "linux/minix*", "linux/misc/*", "linux/msdos*", "linux/ncsi*",
    "linux/netrom*", "linux/nubus*", "linux/nvram*", "linux/patchkey*", "linux/phonet*",
    "linux/pmu*", "linux/psp*", "linux/radeon*", "linux/reiserfs*", "linux/romfs*", "linux/rose*",
    "linux/selinux_netlink*", "linux/smiapp*", "linux/ssb*", "linux/toshiba*", "linux/ublk*",
    "linux/udf*", "linux/userio*", "linux/utmp*", "linux/xdp_diag*", "misc/*", "mtd/*",
    "asm/kvm*", "asm/mce*", "asm/msr*", "asm/sgx*", "asm/svm*", "asm/vmx*", "asm/amd*",
    "asm/bootparam*", "asm/setup_data*", "linux/ntsync*", "linux/mshv*", "linux/counter*",
)  # fmt: skip
"""Headers of single devices and buses, which no container's user space is built against."""

_HANDLERS = {"SIG_DFL": 0, "SIG_IGN": 1, "SIG_ERR": -1}
"""Addresses of functions, so no constant expressions (asm-generic/signal-defs.h)."""

_FAMILIES = (
    "UNSPEC UNIX INET AX25 IPX APPLETALK NETROM BRIDGE ATMPVC X25 INET6 ROSE DECnet NETBEUI"
    " SECURITY KEY NETLINK PACKET ASH ECONET ATMSVC RDS SNA IRDA PPPOX WANPIPE LLC IB MPLS CAN"
    " TIPC BLUETOOTH IUCV RXRPC ISDN PHONET IEEE802154 CAIF ALG NFC VSOCK KCM QIPCRTR SMC XDP"
    " MCTP"
)
_SOCKETS = {
    "SOCK_STREAM": 1, "SOCK_DGRAM": 2, "SOCK_RAW": 3, "SOCK_RDM": 4, "SOCK_SEQPACKET": 5,
    "SOCK_DCCP": 6, "SOCK_PACKET": 10, "SOCK_NONBLOCK": 0o4000, "SOCK_CLOEXEC": 0o2000000,
    "SCM_RIGHTS": 1, "SCM_CREDENTIALS": 2, "SCM_SECURITY": 3, "SCM_PIDFD": 4,
    "MSG_OOB": 1, "MSG_PEEK": 2, "MSG_DONTROUTE": 4, "MSG_CTRUNC": 8, "MSG_TRUNC": 0x20,
    "MSG_DONTWAIT": 0x40, "MSG_EOR": 0x80, "MSG_WAITALL": 0x100, "MSG_ERRQUEUE": 0x2000,
    "MSG_NOSIGNAL": 0x4000, "MSG_MORE": 0x8000, "MSG_ZEROCOPY": 0x4000000,
    "MSG_FASTOPEN": 0x20000000, "MSG_CMSG_CLOEXEC": 0x40000000,
    "SOL_IP": 0, "SOL_TCP": 6, "SOL_UDP": 17, "SOL_IPV6": 41, "SOL_ICMPV6": 58, "SOL_SCTP": 132,
    "SOL_UDPLITE": 136, "SOL_RAW": 255, "SOL_PACKET": 263, "SOL_NETLINK": 270, "SOL_ALG": 279,
    "SOL_TLS": 282, "SOL_XDP": 283, "SOL_MPTCP": 284, "SOL_MCTP": 285, "SOL_SMC": 286,
    "SOL_VSOCK": 287,
}  # fmt: skip
"""The families are numbered from 0 on. Both are of include/linux/socket.h and include/linux/net.h
of the kernel, which leaves them to the C library's headers."""

_DEVICES = (
    "V4L2_",
    "KEY_",
    "BTN_",
    "DRBD_",
    "DCB_",
    "NI_",
    "I2O_",
    "IB_",
    "SONYPI_",
    "K_",
    "TIPC_",
)
"""Beginnings of the names of constants that headers of devices bring along."""

_SPELT = {(1, True): "int8_t", (2, True): "int16_t", (4, True): "int32_t", (8, True): "int64_t",
          (1, False): "uint8_t", (2, False): "uint16_t", (4, False): "uint32_t",
          (8, False): "uint64_t"}  # fmt: skip
_DEPTH = 12


def generate(tree: Path, *, version: str, sha256: str) -> tuple[Tables, types.Declared]:
    """The tables from an unpacked linux-libc-dev in ``tree``."""
    include = (tree / "usr/include/x86_64-linux-gnu", tree / "usr/include")
    names = [
        name
        for name in header_names(include)
        if not any(fnmatchcase(name, pattern) for pattern in LEFT_OUT)
    ]
    headers = read_headers(include, names)
    check_layouts(headers)
    numbers = {f"asm/unistd_{abi}.h": _numbers(include, abi) for abi in ("64", "32", "x32")}
    tables = Tables(
        package="linux-libc-dev",
        version=version,
        sha256=sha256,
        syscalls=numbers["asm/unistd_64.h"],
        ia32=numbers["asm/unistd_32.h"],
        x32=numbers["asm/unistd_x32.h"],
        constants={k: v for k, v in headers.values.items() if _public(k)}
        | _HANDLERS
        | _SOCKETS
        | {f"AF_{name}": value for value, name in enumerate(_FAMILIES.split())},
    )
    return tables, declared(headers)


def _public(name: str) -> bool:
    return name[0].isupper() and not name.endswith("_H") and not name.startswith(_DEVICES)


def _numbers(include: Sequence[Path], abi: str) -> dict[str, int]:
    # asm/unistd.h has the bit that marks numbers of x32, and the native numbers
    base = ["asm/unistd.h"] if abi == "x32" else []
    values = read_headers(include, [*base, f"asm/unistd_{abi}.h"]).values
    bit = values.get("__X32_SYSCALL_BIT", 0)
    return {
        name.removeprefix("__NR_"): value
        for name, value in values.items()
        if name.startswith("__NR_") and value & bit == bit
    }


def declared(headers: Headers) -> types.Declared:
    """A declaration for cffi of each type it can lay out as the compiler did."""
    writer = _Writer(headers.btf)
    ffi = FFI()
    types.declare_own(ffi)
    found: types.Declared = {}
    for spelt in headers.types:
        if not spelt.startswith("enum "):
            _declare(writer, ffi, spelt, found)
    return found


def _declare(writer: _Writer, ffi: FFI, spelt: str, found: types.Declared) -> bool:
    """Add ``spelt`` and what it consists of; False when cffi cannot have it."""
    if spelt in found or spelt in types.HEADERS:
        return True
    described = writer.type(spelt)
    if described is None:
        return False
    try:
        text, needs = writer.declaration(spelt, described)
    except _UnspeakableError:
        return False
    if not all(_declare(writer, ffi, other, found) for other in needs):
        return False
    for packed in (False, True):
        trial = FFI()
        types.declare_own(trial)
        for other in types.closure(found, needs):
            trial.cdef(found[other].text, packed=found[other].packed)
        trial.cdef(text, packed=packed)
        if writer.agrees(trial, spelt, described):
            found[spelt] = types.Declaration(text, packed, tuple(needs))
            return True
    return False


class _UnspeakableError(Exception):
    """A type that cffi has no words for."""


class _Writer:
    """Writes BTF types as C that cffi understands: fixed-width numbers, untyped pointers."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf

    def type(self, spelt: str) -> Type | None:
        kind, _, name = spelt.partition(" ")
        found = self._btf.named(Kind.STRUCT if kind == "struct" else Kind.UNION, name)
        return self._btf.type(found[0]) if found else None

    def declaration(self, spelt: str, described: Type) -> tuple[str, list[str]]:
        needs: list[str] = []
        body = " ".join(self._member(member, needs, 0) for member in described.members)
        return f"{spelt} {{ {body} }};", list(dict.fromkeys(n for n in needs if n != spelt))

    def agrees(self, ffi: FFI, spelt: str, described: Type) -> bool:
        try:
            fields = dict(ffi.typeof(spelt).fields or ())
            return ffi.sizeof(spelt) == described.size and all(
                not member.name or fields[member.name].offset == member.offset // 8
                for member in described.members
                if not member.bits
            )
        except (TypeError, ValueError, KeyError):
            return False

    def _member(self, member: Member, needs: list[str], depth: int) -> str:
        if depth > _DEPTH:
            raise _UnspeakableError
        dimensions = ""
        found = self._btf.strip(member.type)
        while found.kind is Kind.ARRAY:
            dimensions += f"[{found.count}]"
            found = self._btf.strip(found.target)
        bits = f":{member.bits}" if member.bits else ""
        return f"{self._base(found, needs, depth)} {member.name}{dimensions}{bits};"

    def _base(self, found: Type, needs: list[str], depth: int) -> str:
        if found.kind in (Kind.INT, Kind.ENUM, Kind.ENUM64):
            signed = found.flag or bool(found.encoding & 1)
            if (found.size, signed) not in _SPELT:
                raise _UnspeakableError
            return "char" if found.name == "char" else _SPELT[found.size, signed]
        if found.kind is Kind.POINTER:
            return "void *"
        if found.kind not in (Kind.STRUCT, Kind.UNION):
            raise _UnspeakableError
        word = "struct" if found.kind is Kind.STRUCT else "union"
        if found.name:
            needs.append(f"{word} {found.name}")
            return f"{word} {found.name}"
        body = " ".join(self._member(part, needs, depth + 1) for part in found.members)
        return f"{word} {{ {body} }}"


def check_layouts(headers: Headers) -> None:
    """Hold the types that are declared by hand against the headers' own.

    Raises InputError for one whose size or offsets differ.
    """
    writer = _Writer(headers.btf)
    for name, (_, there) in types.HEADERS.items():
        described = writer.type(there if " " in there else "struct siginfo")
        if described is None or described.size != types.size(name):
            raise InputError(f"{name}: not of the size that the headers give it")
        offsets = {m.name: m.offset // 8 for m in described.members}
        for field, offset, _ in types.fields(name):
            if field in offsets and offsets[field] != offset:
                raise InputError(f"{name}.{field}: not where the headers put it")


def main() -> None:
    """Write the tables; arguments are the tree, its version and the package's SHA-256."""
    tree, version, sha256 = sys.argv[1:]
    tables, found = generate(Path(tree), version=version, sha256=sha256)
    DATA.write_bytes(msgspec.json.format(msgspec.json.encode(tables, order="sorted"), indent=1))
    TYPES.write_bytes(msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=1))


if __name__ == "__main__":
    main()
