"""The embedded Snowflake server: fakesnow's HTTP server, kept on disk, reading objects from S3.

The product's own use of Snowflake is in resources/warehouse.py; nothing here is needed with a
real account.
"""

import argparse
import gc
import gzip
import hmac
import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from pipeline_assets.local.fakesnow_patches import (
    check_fakesnow,
    load_whole_statements,
    lock_tables,
)
from pipeline_assets.local.staged_objects import PREFETCH_THREADS, StagedObjects
from pipeline_assets.resources.s3_clients import boto3_client
from pipeline_assets.settings import S3Settings
from pipeline_assets.web_guard import GuardedApplication, WebGuard, allowed_hosts

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

REFUSED_LOGIN = "Incorrect username or password was specified."

# Everything but the files of stages, which clients PUT; a web page cannot, without a CORS preflight.
JSON_PATHS = ("/session", "/queries", "/monitoring")
# A method of a model is called as `model!METHOD(…)`. Texts, quoted names and comments are not searched.
_LEFT_OUT = re.compile(
    r"""'(?:[^'\\]|''|\\.)*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/""",
    re.DOTALL,
)
_MODEL_METHOD = re.compile(r"""!\s*(?:""|[A-Za-z_][\w$]*)\s*\(""")
NO_MODELS = (
    "Unsupported feature: the embedded server runs no model, and would drop the result of a model's method. "
    "The inference service judges candidates; a real account runs deployed models."
)

logger = logging.getLogger("pipeline_assets.local.snowflake_server")


async def _json_body(request: "Request") -> dict[str, Any]:
    body = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    content: dict[str, Any] = json.loads(body)
    return content


def calls_model(statement: str) -> bool:
    """Return whether a statement calls a method of a model.

    fakesnow runs such a statement without that column, and reports success.
    """
    plain = _LEFT_OUT.sub(lambda found: '""' if found[0].startswith('"') else " ", statement)
    return _MODEL_METHOD.search(plain) is not None


def application(user: str | None, password: str | None) -> "Starlette":
    """Return the routes of fakesnow, with logins checked where `password` is given, and statements logged.

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
        if calls_model(statement):
            return refusal("000002", NO_MODELS)
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
    """Return a boto3 client; without a key in the product's settings, boto3 looks for one itself."""
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
    """Serve until SIGTERM or SIGINT, on 127.0.0.1 unless the command line says otherwise."""
    import uvicorn

    parser = argparse.ArgumentParser(
        prog="python -m pipeline_assets.local.snowflake_server", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="where it listens (default: 127.0.0.1)")
    parser.add_argument("--data-dir", type=Path, required=True, help="where the databases are kept")
    parser.add_argument("--s3-endpoint", required=True, help="like http://127.0.0.1:28081")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logger.setLevel(logging.INFO)
    check_fakesnow()
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
    guard = WebGuard(names=allowed_hosts(os.environ), json_paths=JSON_PATHS)
    # A long MERGE is parsed into enough objects for several collections, each of which would look through
    # all that the libraries hold: a sixth of the MERGE's CPU time.
    gc.freeze()
    uvicorn.run(
        GuardedApplication(app, guard),
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
