"""The packages that ramedge needs, in which versions, and what is installed of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType
from typing import Final

_MODULES: Final = MappingProxyType({"PIL": "pillow", "cuda": "cuda-python"})
"""Modules that are not called as their distribution, for where none is installed."""
_NOT_FOR_USERS: Final = "dev"
_EXTRA: Final = re.compile(r"extra == ['\"]([\w.-]+)['\"]")


@dataclass(frozen=True, slots=True)
class Need:
    """A package that ramedge needs.

    Attributes:
        package: name of the distribution.
        versions: those that work, as `>=16.1,<20`; empty for any.
        extra: of ramedge, where the base install does without.
        installed: its version here, `None` where it is not.
    """

    package: str
    versions: str
    extra: str | None
    installed: str | None

    @property
    def outside(self) -> bool:
        """Whether it is installed in a version that does not work."""
        if self.installed is None or not self.versions:
            return False
        from packaging.specifiers import SpecifierSet
        from packaging.version import InvalidVersion

        try:
            return not SpecifierSet(self.versions).contains(self.installed, prereleases=True)
        except InvalidVersion:
            return True

    def __str__(self) -> str:
        return f"{self.package}{self.versions}"

    @property
    def install(self) -> str:
        """The command that installs a version that works."""
        if self.installed is None and self.extra is not None:
            return f"pip install 'ramedge[{self.extra}]'"
        again = "" if self.installed is None or self.outside else "--force-reinstall "
        return f"pip install {again}'{self}'"


def needs() -> tuple[Need, ...]:
    """All packages of the base install and of the extras for users, each once.

    Empty where ramedge itself is not installed, but run from its source tree.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        texts = metadata.requires("ramedge") or []
    except metadata.PackageNotFoundError:
        return ()
    found: dict[str, Need] = {}
    for text in texts:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        extra = _EXTRA.search(str(marker)) if marker else None
        name = None if extra is None else extra[1]
        if name == _NOT_FOR_USERS or _same(requirement.name, "ramedge"):
            continue
        if marker and not marker.evaluate({"extra": name or ""}):
            continue
        specifier = ",".join(sorted(map(str, requirement.specifier), reverse=True))
        need = Need(requirement.name, specifier, name, _version(requirement.name))
        found.setdefault(_plain(need.package), need)
    return tuple(found.values())


def need_of(package: str) -> Need:
    """What is known of one package, be it one of ramedge's own or not."""
    try:
        known = needs()
    except Exception:  # `packaging` may be the one that is broken
        known = ()
    own = (need for need in known if _same(need.package, package))
    return next(own, Need(package, "", None, _version(package)))


def package_of(module: str) -> str:
    """The distribution that a module is of.

    >>> package_of("PIL.Image")
    'pillow'
    """
    top = module.partition(".")[0]
    if top in _MODULES:
        return _MODULES[top]
    names = metadata.packages_distributions().get(top, [])
    return names[0] if names else top


def versions(packages: Iterable[Need]) -> str:
    """One line a package: name, version here and those that work."""
    lines = (f"{n.package} {n.installed or 'not installed'} ({n})" for n in packages)
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _same(one: str, other: str) -> bool:
    return _plain(one) == _plain(other)


def _plain(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
