"""Makes the list of types to look for in an image whose headers cannot be had.

The kernel's own types may have the tag of another one, or fields that headers hide. So
those are listed that the image of some line has exactly as its headers have them, and
none has otherwise. To renew ``types.json``, name lines whose headers can be had::

    python -m hostabi.surfaces.type_roots 5.10 6.1 6.12 7.3
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from hostabi.kernels.btf import Btf
from hostabi.kernels.resolve import resolve
from hostabi.kernels.static import Static
from hostabi.kernels.uapi import Uapi, enumerators
from hostabi.packages.context import Packages
from hostabi.surfaces.types import ROOTS, layouts


def agreed(uapi: Uapi, btf: Btf) -> dict[str, bool]:
    """Of each type that an image has as well, whether it is there exactly as headers have it."""
    found = {}
    for spelt, described in uapi.types.items():
        seen = layouts(btf, spelt)
        if seen:
            found[spelt] = seen == [described]
    for spelt, values in uapi.enums.items():
        enums = enumerators(btf, spelt.removeprefix("enum "))
        if enums:
            found[spelt] = enums == [values]
    return found


def main(specs: Sequence[str]) -> None:
    """Write the list for the builds that ``specs`` name."""
    packages = Packages.open()
    verdicts: dict[str, bool] = {}
    for spec in specs:
        static = Static(resolve(spec, packages), packages.cache, packages)
        for name, same in agreed(static.uapi, static.btf).items():
            verdicts[name] = same and verdicts.get(name, True)
    names = sorted(name for name, same in verdicts.items() if same)
    ROOTS.write_bytes(msgspec.json.format(msgspec.json.encode(names), indent=1) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
