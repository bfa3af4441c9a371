"""The file that keeps the embedded stack's own credentials: how it is made and read.

Which settings take a credential from the file, and when, is in settings/loading.py. A credential of an
outside system does not belong here: it comes from .env or the environment.
"""

import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from pipeline_assets.errors import InputError

NAME = "credentials.env"
# A name is the environment variable of the setting. To add a credential, add a line: a file made
# by an older version gets the missing one at the next start.
# The key id must not be twelve digits: the embedded S3 server would take these for an account, and
# would show another lake.
MAKERS: dict[str, Callable[[], str]] = {
    "PIPELINE_S3__ACCESS_KEY_ID": lambda: f"EMBEDDED{secrets.token_hex(6).upper()}",
    "PIPELINE_S3__SECRET_ACCESS_KEY": lambda: secrets.token_hex(24),
    "PIPELINE_REDIS__PASSWORD": lambda: secrets.token_hex(24),
    "PIPELINE_SNOWFLAKE__PASSWORD": lambda: secrets.token_hex(24),
    "PIPELINE_GATEWAY__TOKEN": lambda: secrets.token_hex(24),
}
_HEADER = """\
# Credentials of the embedded servers over this directory, made by the first `pipeline-assets up`.
# They are used for servers on this machine only; .env and the environment go before them.
# To make new ones, stop the stack and remove this file.
"""


class CredentialsFileError(InputError):
    """The file cannot be read or made. The message names the file and what to do."""


def read_credentials(data_dir: Path) -> dict[str, str]:
    """Return the credentials by variable name; empty where no stack has made the file yet.

    Raises:
        CredentialsFileError: the file cannot be read, or a line is not NAME=value.
    """
    path = data_dir / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CredentialsFileError(
            f"{path} cannot be read ({error.strerror}): run the command as the user who started the "
            "stack, or set the credentials in the environment."
        ) from error
    except UnicodeDecodeError:
        raise _damaged(path, 1) from None
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not (separator and name.strip() and value.strip()):
            raise _damaged(path, number)
        found[name.strip()] = value.strip()
    return found


def make_credentials(data_dir: Path) -> dict[str, str]:
    """Return the credentials, made and kept at the first call. Safe to repeat and to interrupt.

    The file is replaced as a whole, and only if a credential is missing. Two processes that start at
    the same time get the same credentials, since the directory is locked during the call.

    Raises:
        CredentialsFileError: the file cannot be read, or a line is not NAME=value.
        OSError: the directory cannot be made or written.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = os.open(data_dir, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        kept = read_credentials(data_dir)
        missing = {name: make() for name, make in MAKERS.items() if name not in kept}
        if missing:
            kept |= missing
            _replace(data_dir / NAME, kept)
            os.fsync(directory)
    finally:
        os.close(directory)
    return kept


def _replace(path: Path, credentials: dict[str, str]) -> None:
    new = path.with_name(f"{NAME}.new")
    # Left by a killed process, perhaps under other permissions.
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(_HEADER)
        file.writelines(f"{name}={value}\n" for name, value in credentials.items())
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _damaged(path: Path, line: int) -> CredentialsFileError:
    return CredentialsFileError(
        f"{path}: line {line} is not NAME=value. Stop the stack, remove the file, and start the "
        "stack again: it makes new credentials and keeps the data."
    )
