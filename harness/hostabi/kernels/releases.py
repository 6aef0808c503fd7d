"""The point releases of a line that the suites list, for comparing each with the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostabi.errors import HostabiError, InputError, PackageError
from hostabi.kernels import candidates
from hostabi.kernels.build import DEFAULT_FLAVOUR
from hostabi.kernels.candidates import Candidate
from hostabi.kernels.catalogue import catalogue
from hostabi.packages.version import Version

if TYPE_CHECKING:
    from hostabi.packages.context import Packages


def listed(
    name: str, packages: Packages, *, every: bool = True
) -> tuple[list[Candidate], list[str]]:
    """The kernels of line ``name``, and why a suite could not be read.

    With ``every`` those of all suites that may have some, else of the line's own.
    Suites come in their order of preference, kernels newest first within each.
    """
    found: list[Candidate] = []
    problems: list[str] = []
    for suite in catalogue().suites(name, exact=every):
        try:
            found += [one for one in candidates.of_suite(packages, suite) if one.line == name]
        except HostabiError as error:
            problems.append(error.message)
    return found, list(dict.fromkeys(problems))


def releases(
    name: str, packages: Packages, *, flavour: str = DEFAULT_FLAVOUR
) -> tuple[Candidate, ...]:
    """One build for each upstream version of line ``name``, oldest first.

    Of several packagings of one version it is the newest of the first suite that
    lists it. What lacks packages is left out; what is listed may still be gone.
    Raises InputError when no suite lists the line, PackageError when none can be read.
    """
    wanted = catalogue().line(name).flavour(flavour)
    found, problems = listed(name, packages)
    chosen: dict[str, Candidate] = {}
    for one in found:
        if one.flavour == wanted and not one.missing:
            chosen.setdefault(one.upstream, one)
    if not chosen and problems and not found:
        raise PackageError(f"line {name}: {problems[0]}", advice="hostabi kernels list")
    if not chosen:
        raise InputError(
            f"no suite lists line {name} in flavour {wanted}", advice="hostabi kernels list --all"
        )
    return tuple(chosen[version] for version in sorted(chosen, key=Version))
