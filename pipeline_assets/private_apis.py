"""The check of what this program uses of a dependency although the dependency does not promise it.

A module that reaches into a dependency calls this on import or on first use; one module per dependency.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

from pipeline_assets.errors import InternalError


class DependencyChangedError(InternalError):
    """A dependency no longer has what this program uses of its insides."""


def require_names(distribution: str, owner: object, names: Iterable[str], used_in: str) -> None:
    """Check that a class, module or object of a dependency has these names.

    Args:
        distribution: the dependency, as packages are named.
        owner: the class, module or object.
        names: what is used of it.
        used_in: the module that uses them.

    Raises:
        DependencyChangedError: one is missing.
    """
    missing = [name for name in names if not hasattr(owner, name)]
    if missing:
        of = owner if hasattr(owner, "__name__") else type(owner)
        kind = getattr(of, "__qualname__", None) or getattr(of, "__name__", repr(of))
        raise _changed(distribution, f"has no {kind}.{' and no '.join(missing)}", used_in)


@contextmanager
def private_imports(distribution: str, used_in: str) -> Iterator[None]:
    """Check that the imports of the block, of private parts of a dependency, succeed.

    Raises:
        DependencyChangedError: the dependency has moved or removed a part.
    """
    try:
        yield
    except ImportError as error:
        raise _changed(distribution, f"has changed ({error})", used_in) from error


def _changed(distribution: str, what: str, used_in: str) -> DependencyChangedError:
    return DependencyChangedError(
        f"{distribution} {version(distribution)} {what}, which {used_in} uses. Install the version in "
        "constraints.txt, or change that module."
    )
