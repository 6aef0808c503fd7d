"""What cffi is told of the kernel's structs and numbers, against the types in each image."""

from __future__ import annotations

import re

import pytest

from hostabi.errors import ImageError
from hostabi.kernels.static import Static
from hostabi.pytest_plugin import unsupported
from hostabi.syscalls import witnesses
from hostabi.syscalls.descriptions.groups import all_descriptions
from hostabi.syscalls.descriptions.memory import Maybe, Out, Rows, Struct

OTHERS = {
    "struct ioam6_trace_hdr": "bit fields of the network's byte order, which headers for user "
    "space choose by __LITTLE_ENDIAN_BITFIELD (linux/ioam6.h)",
    "struct pt_regs": "the kernel's own registers share a name with those of ptrace(2): "
    "arch/x86/include/asm/ptrace.h beside its uapi",
    "struct bpf_sk_lookup": "remote_port became 16 bits wide with the padding behind it: "
    "9a69e2b385f4 (bpf: Make remote_port field in struct bpf_sk_lookup 16-bit wide)",
    "struct tcp_info": "6.18 has tcpi_accecn_opt_seen in 16 bits of its own, later headers in two "
    "of a word that has more such fields (linux/tcp.h of both)",
}
"""Types that lie otherwise in some kernel's image, and why."""

COUNTED = re.compile(
    r"_MAX$|_LAST$|_MAX_SHIFT$|^MAX_|NUMPROTO$|NUMHOOKS$|MAX_STATES$|_(?:MASK|RESERVED_BITS)$"
)
"""Names that tell how many others there are, or what is still free, and move with each of them."""
COUNTERS = re.compile(r"^(?:LINUX|IPSTATS|TCP|UDP|ICMP)_MIB_")
"""Places in the kernel's arrays, which user space reads by name: proc_net_snmp(5)."""
PRIVATE = {
    "SOCK_DESTROY": "enum sock_flags of include/net/sock.h, beside sock_diag's of the same name",
    "CHECK_TYPE": "1 in every image, an enumerator of the kernel's own",
}
"""Names that the kernel uses for something of its own as well."""


@pytest.fixture
def btf(kernel, packages):
    try:
        return Static(kernel, packages.cache, packages).btf
    except ImageError as error:
        unsupported(f"the image has no types: {error.message}")


def test_structs_lie_as_cffi_has_them(btf):
    found = witnesses.mismatches(btf, witnesses.known_types())
    assert {name: how for name, how in found.items() if name not in OTHERS} == {}


def test_numbers_are_those_of_the_table(btf):
    """Enumerators of the image whose names the headers have too."""
    found = witnesses.numbers(btf)
    unknown = {
        name: values
        for name, values in found.items()
        if name not in PRIVATE and not COUNTED.search(name) and not COUNTERS.match(name)
    }
    assert unknown == {}


def test_an_image_has_most_types_that_descriptions_use(btf):
    """So that the tests above look at what programs are made of."""

    def used(argument):
        if isinstance(argument, Maybe):
            yield from used(argument.argument)
        elif isinstance(argument, Out | Rows | Struct):
            yield argument.type

    names = {name for each in all_descriptions() for a in each.arguments for name in used(a)}
    structs = {name for name in names if name.partition(" ")[0] in ("struct", "union")}
    seen = {name for name in structs if witnesses.images(btf, name)}
    assert len(seen) >= 0.6 * len(structs), sorted(structs - seen)
    assert "struct open_how" in seen
