"""The embedded Snowflake server: fakesnow's HTTP server, kept on disk, reading objects from S3.

What the product asks of Snowflake stands in resources/warehouse.py; nothing here is needed with a
real account.
"""

import argparse
import gzip
import hmac
import io
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fsspec import AbstractFileSystem
from pydantic import SecretStr

from pipeline_assets.resources.s3_clients import boto3_client
from pipeline_assets.settings import S3Settings
from pipeline_assets.web_guard import GuardedApplication, WebGuard, allowed_hosts

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

PREFETCH_THREADS = 8
READ_FILE = re.compile(r"read_parquet\('((?:[^']|'')*)'", re.IGNORECASE)
ALONE = re.compile(r"\s*(MERGE|CREATE|ALTER|DROP)\b", re.IGNORECASE)
# Snowflake's number for a statement that was aborted for the lock of another, and its SQL state.
LOCKED, ABORTED = 625, "57014"
REFUSED_LOGIN = "Incorrect username or password was specified."

logger = logging.getLogger("pipeline_assets.local.snowflake_server")


class StagedObject(NamedTuple):
    """An object's bytes, and when it was written (UTC)."""

    body: bytes
    modified: datetime


class StagedObjects(AbstractFileSystem):  # type: ignore[misc]
    """The objects of an S3 server as DuckDB's files, each fetched whole by one GET.

    DuckDB opens a Parquet file twice during COPY (for its columns, then for its rows), each time
    with several requests one after the other: 500 small files took 30 s. `held` fetches the files
    of one COPY side by side and keeps their bodies until it ends. No longer: an object is
    rewritten as its window goes on, and a body kept would be an old one.
    """

    protocol = "s3"
    cachable = False

    def __init__(self, client: Any) -> None:
        """Read through `client`, a boto3 S3 client; boto3 clients may be shared by threads."""
        super().__init__()
        self._client = client
        self._objects: dict[str, StagedObject] = {}
        self._held = threading.local()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Drop, at the end, the bodies that `prefetch` fetched in this thread meanwhile."""
        self._held.urls = []
        try:
            yield
        finally:
            for url in self._held.urls:
                self._objects.pop(url, None)
            self._held.urls = []

    def prefetch(self, urls: Iterable[str]) -> None:
        """Fetch the bodies of `urls`; all of them are newer than the call."""
        wanted = list(dict.fromkeys(urls))
        self._held.urls.extend(wanted)
        with ThreadPoolExecutor(PREFETCH_THREADS) as pool:
            self._objects.update(zip(wanted, pool.map(self._fetch, wanted), strict=True))

    def _fetch(self, url: str) -> StagedObject:
        """One object, whole.

        Raises:
            snowflake.connector.errors.ProgrammingError: as Snowflake answers: 91016 where there is
                no such object, 91003 where the bucket cannot be read.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from snowflake.connector.errors import ProgrammingError

        bucket, _, key = url.removeprefix("s3://").partition("/")
        try:
            reply = self._client.get_object(Bucket=bucket, Key=key)
            return StagedObject(reply["Body"].read(), reply["LastModified"])
        except (ClientError, BotoCoreError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            if code in ("NoSuchKey", "404"):
                raise ProgrammingError(
                    msg=f"Remote file '{url}' was not found.", errno=91016, sqlstate="22000"
                ) from None
            raise ProgrammingError(
                msg=f"Failure using stage area. Cause: [{error}]", errno=91003, sqlstate="55000"
            ) from None

    def _object(self, path: str) -> StagedObject:
        url = f"s3://{path.removeprefix('s3://')}"
        return self._objects.get(url) or self._fetch(url)

    def open(self, path: str, mode: str = "rb", **options: Any) -> io.BytesIO:
        """The object's bytes; reading is all that a stage is for here."""
        del options
        if mode != "rb":
            raise ValueError(f"{path} can be opened for reading only, not {mode!r}")
        return io.BytesIO(self._object(path).body)

    def glob(self, path: str, **options: Any) -> list[str]:
        """`path` itself: COPY names its files, and a search by pattern would cost a listing."""
        del options
        return [path]

    def exists(self, path: str, **options: Any) -> bool:
        """True: an object that is absent is reported when it is opened, by name."""
        del path, options
        return True

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Name, size in bytes and type, as fsspec asks."""
        del options
        return {"name": path, "size": len(self._object(path).body), "type": "file"}

    def modified(self, path: str) -> datetime:
        """When the object was written, UTC."""
        return self._object(path).modified


class NamingConnection:
    """A DuckDB connection whose errors name the file that was being read.

    DuckDB names it where the file is no Parquet, and not where a page or a value is bad.
    """

    def __init__(self, connection: Any) -> None:
        """Pass everything on to `connection`."""
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *parameters: Any) -> Any:
        """Execute as DuckDB does.

        Raises:
            snowflake.connector.errors.ProgrammingError: 100144, the file could not be loaded.
            duckdb.Error: a table or column is absent, which fakesnow words as Snowflake does; or
                another transaction changed the same rows, for which see `lock_tables`.
        """
        import duckdb
        from snowflake.connector.errors import ProgrammingError

        try:
            return self._connection.execute(sql, *parameters)
        except (duckdb.CatalogException, duckdb.BinderException, duckdb.TransactionException):
            raise
        except duckdb.Error as error:
            file = READ_FILE.search(sql)
            raise ProgrammingError(
                msg=f"Error parsing the file {file[1] if file else ''}: {error}",
                errno=100144,
                sqlstate="22000",
            ) from None


def load_whole_statements(objects: StagedObjects) -> None:
    """Make fakesnow's COPY fetch its files side by side, and load all of them or none.

    fakesnow commits each file for itself, so a COPY that fails at its third file leaves the rows
    of two behind, and each commit waits for the disk. Snowflake's (ON_ERROR = ABORT_STATEMENT)
    leaves nothing, which one transaction gives here.
    """
    import fakesnow.copy_into
    import fakesnow.cursor

    source_urls = fakesnow.copy_into._source_urls
    copy_into = fakesnow.copy_into.copy_into

    def prefetched_urls(source: str, files: list[str]) -> list[str]:
        urls: list[str] = source_urls(source, files)
        objects.prefetch(url for url in urls if url.startswith("s3://"))
        return urls

    def copy_whole(connection: Any, *arguments: Any) -> str:
        with objects.held():
            connection.begin()
            try:
                result: str = copy_into(NamingConnection(connection), *arguments)
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
            # The commit closed the result that fakesnow reads next.
            connection.execute(result)
            return result

    fakesnow.copy_into._source_urls = prefetched_urls
    fakesnow.cursor.copy_into = copy_whole


def lock_tables() -> None:
    """Run MERGE and DDL statements one after the other, and word DuckDB's conflicts as Snowflake does.

    fakesnow runs these as several statements, each committed for itself. Of two at once one failed with
    "Duplicate key": the row was inserted by the other MERGE, or is fakesnow's own note of a table's
    columns (such as of MERGE_CANDIDATES, which every MERGE makes). Snowflake's MERGE locks its table.
    DuckDB aborts a transaction that changes what another has changed, where Snowflake's waits.
    """
    import duckdb
    import fakesnow.cursor
    from snowflake.connector.errors import ProgrammingError

    execute = fakesnow.cursor.FakeSnowflakeCursor.execute
    # Held by one statement of one thread, which may execute statements of its own meanwhile.
    alone = threading.RLock()

    def execute_alone(cursor: Any, command: str, *arguments: Any, **options: Any) -> Any:
        is_alone = ALONE.match(command) is not None
        with alone if is_alone else nullcontext():
            try:
                return execute(cursor, command, *arguments, **options)
            except (duckdb.TransactionException, duckdb.ConstraintException) as error:
                told = str(error).lower()
                # A MERGE matches by the key, so a duplicate is another's row. A plain INSERT of one is
                # the statement's own fault, and to repeat it would not help.
                if "conflict" not in told and not (is_alone and "duplicate key" in told):
                    raise
                raise ProgrammingError(
                    msg=f"The statement was aborted: another changed the same rows. {error}",
                    errno=LOCKED,
                    sqlstate=ABORTED,
                ) from None

    fakesnow.cursor.FakeSnowflakeCursor.execute = execute_alone


async def _json_body(request: "Request") -> dict[str, Any]:
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    content: dict[str, Any] = json.loads(body)
    return content


def application(user: str | None, password: str | None) -> "Starlette":
    """The routes of fakesnow, with logins checked where `password` is given, and statements logged.

    A login is compared with `user` (any case, as in Snowflake) and `password`; a wrong one is
    answered as Snowflake does, so that the connector raises its DatabaseError.
    """
    import fakesnow.server
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    def refusal(code: str, message: str) -> JSONResponse:
        return JSONResponse({"data": None, "code": code, "message": message, "success": False})

    async def login(request: "Request") -> "Response":
        data = (await _json_body(request))["data"]
        given = f"{data.get('LOGIN_NAME', '')}".upper(), f"{data.get('PASSWORD', '')}"
        expected = f"{user or given[0]}".upper(), password
        if expected[1] is not None and not (
            given[0] == expected[0] and hmac.compare_digest(given[1].encode(), expected[1].encode())
        ):
            return refusal("390100", REFUSED_LOGIN)
        response: Response = await fakesnow.server.login_request(request)
        return response

    async def query(request: "Request") -> "Response":
        statement = (await _json_body(request))["sqlText"]
        started = time.perf_counter()
        response: Response = await fakesnow.server.query_request(request)
        took = time.perf_counter() - started
        words = " ".join(statement.split()[:2]).upper()
        logger.info("%s took %.3f s, status %d", words, took, response.status_code)
        if response.status_code == 500:
            # The connector repeats a statement answered by 500 until its time-out, minutes later.
            return refusal("000603", json.loads(bytes(response.body))["message"])
        return response

    return Starlette(
        routes=[
            Route("/session/v1/login-request", login, methods=["POST"]),
            Route("/queries/v1/query-request", query, methods=["POST"]),
            *fakesnow.server.routes,
        ]
    )


def open_databases(data_dir: Path, objects: StagedObjects) -> None:
    """Serve the databases of `data_dir`, each a DuckDB file; a new one is made at first login.

    They are opened now, so that a write-ahead log left by a kill is replayed and a directory
    that another server holds is refused before the port opens. The directory becomes this
    process's working directory: fakesnow puts its path into SQL as it is, where an apostrophe
    would end the text.

    Raises:
        OSError: another process holds a database of `data_dir`.
    """
    import duckdb
    import fakesnow.server
    from fakesnow.instance import FakeSnow

    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    os.chdir(data_dir)
    server = FakeSnow(db_path=Path())
    server.duck_conn.register_filesystem(objects)
    for file in sorted(data_dir.glob("*.db")):
        try:
            server.connect(file.stem)
        except duckdb.IOException as error:
            raise OSError(
                f"{file} cannot be opened: {error}. Stop the server that uses it."
            ) from None
    fakesnow.server.shared_fs = server


def s3_client(endpoint: str, environment: Mapping[str, str]) -> Any:
    """A boto3 client; without a key in the product's settings, boto3 looks for one itself."""
    secret = environment.get("PIPELINE_S3__SECRET_ACCESS_KEY")
    settings = S3Settings(
        endpoint_url=endpoint,
        region=environment.get("PIPELINE_S3__REGION") or "us-east-1",
        access_key_id=environment.get("PIPELINE_S3__ACCESS_KEY_ID") or None,
        secret_access_key=SecretStr(secret) if secret else None,
    )
    return boto3_client(
        settings, attempts=4, connect_timeout=3, max_pool_connections=PREFETCH_THREADS
    )


def main() -> None:
    """Serve until SIGTERM or SIGINT, on 127.0.0.1 only."""
    import uvicorn

    parser = argparse.ArgumentParser(
        prog="python -m pipeline_assets.local.snowflake_server", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True, help="where the databases are kept")
    parser.add_argument("--s3-endpoint", required=True, help="like http://127.0.0.1:28081")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    objects = StagedObjects(s3_client(arguments.s3_endpoint, os.environ))
    load_whole_statements(objects)
    lock_tables()
    try:
        open_databases(arguments.data_dir, objects)
    except OSError as error:
        sys.exit(str(error))
    app = application(
        os.environ.get("PIPELINE_SNOWFLAKE__USER") or None,
        os.environ.get("PIPELINE_SNOWFLAKE__PASSWORD") or None,
    )
    guard = WebGuard(names=allowed_hosts(os.environ), json_paths=("/",))
    uvicorn.run(
        GuardedApplication(app, guard),
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
