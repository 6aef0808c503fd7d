"""hypothesis strategies for what syscalls take.

They lean to the edges (nothing, one, a page and its neighbours) and shrink to
the simplest. Flag words are made of the kernel's real flags and, now and then,
of a bit no header knows.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import reduce
from operator import or_

from hypothesis import strategies as st

from hostabi.syscalls import table
from hostabi.syscalls.builder import Ref, Value

PAGE = 4096

NAMES = ("a", "b", "c", "d")
"""Few names, so that they collide."""


def sizes(limit: int = 3 * PAGE) -> st.SearchStrategy[int]:
    """Byte counts from 0 to ``limit``: small ones, or near a page's edge."""
    edges = [size for p in (PAGE, 2 * PAGE) for size in (p - 1, p, p + 1) if size <= limit]
    small = st.integers(0, min(limit, 40))
    return st.one_of(small, small, small, st.sampled_from(edges)) if edges else small


def offsets(limit: int = 3 * PAGE) -> st.SearchStrategy[int]:
    """File offsets up to ``limit``, rarely negative."""
    return st.one_of(sizes(limit), sizes(limit), st.integers(0, limit), st.just(-1))


def flags(known: Sequence[str], *, unknown: int = 0) -> st.SearchStrategy[int]:
    """Any union of the ``known`` flags; with ``unknown``, at times one bit of that mask too."""
    real = st.lists(
        st.sampled_from([table.constant(name) for name in known]), max_size=3, unique=True
    ).map(lambda bits: reduce(or_, bits, 0))
    strange = [1 << bit for bit in range(unknown.bit_length()) if unknown >> bit & 1]
    if not strange:
        return real
    odd = st.builds(or_, real, st.sampled_from(strange))
    return st.one_of(real, real, real, odd)


def unknown_bits(prefix: str, width: int = 32) -> int:
    """The mask of bits of a ``width``-bit flag word that no constant of that prefix has."""
    known = reduce(or_, (v for v in table.constants(prefix).values() if v > 0), 0)
    return ((1 << width) - 1) & ~known


def paths(names: Sequence[str] = NAMES, *, depth: int = 3) -> st.SearchStrategy[str]:
    """Relative paths of up to ``depth`` parts, with "." and ".." among them."""
    part = st.sampled_from([*names, *names, ".", ".."])
    return st.lists(part, min_size=1, max_size=depth).map("/".join)


def descriptors(known: Sequence[Ref]) -> st.SearchStrategy[Value]:
    """One of the descriptors at hand, at times one that is not open."""
    bad = st.sampled_from([-1, 999, 1 << 30])
    if not known:
        return bad
    good = st.sampled_from(list(known))
    return st.one_of(good, good, good, bad)


def pattern(index: int, size: int) -> bytes:
    """``size`` bytes that tell the ``index``-th write from its neighbours, and their order."""
    start = index * 7 % 26
    alphabet = string.ascii_uppercase if index % 2 else string.ascii_lowercase
    return (alphabet.encode() * (size // 26 + 2))[start : start + size]
