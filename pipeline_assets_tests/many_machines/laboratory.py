"""The namespace around all hosts: a network with a switch, and process numbers that end with this program. It
needs no root where the kernel lets users make namespaces. Hosts are in hosts.py.
"""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Sequence

SWITCH, NETWORK = "switch", "10.77.0"
OWN_ADDRESS = f"{NETWORK}.254"
INSIDE = "MANY_MACHINES_INSIDE"
# PostgreSQL refuses root, and a user without an entry in /etc/passwd.
_PLAIN_USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
PROGRAMS = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "cc": "gcc"}


class LaboratoryError(RuntimeError):
    """This machine cannot have hosts in namespaces. The message says what is missing."""


def wrapped(command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` in a laboratory, whose processes all end with it.

    Raises:
        LaboratoryError: a program or a right is missing.
    """
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise LaboratoryError(
                f"The program {program} is missing: install the package {package}."
            )
    user, group = f"--map-user={_PLAIN_USER.pw_uid}", f"--map-group={_PLAIN_USER.pw_gid}"
    unshare = [
        *("unshare", "--user", user, group, "--keep-caps"),
        *("--net", "--uts", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"),
    ]
    tried = subprocess.run(
        [*unshare, "ip", "link", "add", SWITCH, "type", "bridge"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        raise LaboratoryError(
            "Namespaces with a network of their own cannot be made here: "
            f"{' '.join(tried.stderr.split())}. Let users make namespaces (sysctl "
            "kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0), or run as root with "
            "CAP_SYS_ADMIN and CAP_NET_ADMIN."
        )
    return [*unshare, *command]


def inside() -> bool:
    """Return whether this process runs in a laboratory."""
    return INSIDE in os.environ


def enter(arguments: Sequence[str]) -> None:
    """Begin this program again within a laboratory; returns only by an error.

    Raises:
        LaboratoryError: a program or a right is missing.
    """
    command = wrapped([sys.executable, "-m", "pipeline_assets_tests.many_machines", *arguments])
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
    os.execvpe(command[0], command, ours | {INSIDE: "1"})


def ip(*arguments: str) -> None:
    """Change the network of the laboratory."""
    subprocess.run(["ip", *arguments], check=True)


def make_switch() -> None:
    """Make the switch that connects all hosts, and this program's own address on it."""
    ip("link", "set", "lo", "up")
    ip("link", "add", SWITCH, "type", "bridge")
    ip("address", "add", f"{OWN_ADDRESS}/24", "dev", SWITCH)
    ip("link", "set", SWITCH, "up")
