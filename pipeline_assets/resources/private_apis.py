"""The check of what this program uses of a dependency although the dependency does not promise it.

Whoever reaches into a dependency does so in one module, and calls this on first use.
"""

from collections.abc import Iterable
from importlib.metadata import version

from pipeline_assets.errors import InternalError


class DependencyChangedError(InternalError):
    """A dependency no longer has what this program uses of its insides."""


def require_names(distribution: str, owner: object, names: Iterable[str], used_in: str) -> None:
    """Check that a class or module of a dependency has these names.

    Args:
        distribution: the dependency, as packages are named.
        owner: the class or module.
        names: what is used of it.
        used_in: the module that uses them.

    Raises:
        DependencyChangedError: one is missing.
    """
    missing = [name for name in names if not hasattr(owner, name)]
    if missing:
        kind = getattr(owner, "__qualname__", getattr(owner, "__name__", repr(owner)))
        raise DependencyChangedError(
            f"{distribution} {version(distribution)} has no {kind}.{' and no '.join(missing)}, which "
            f"{used_in} uses. Install the version in constraints.txt, or change that module."
        )
