"""The embedded S3 server: ministack's S3, kept on disk. Clients do not belong here.

Production talks to real S3 by the same client; see resources/ for that.
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from pipeline_assets.private_apis import require_names
from pipeline_assets.web_guard import (
    Application,
    Message,
    Receive,
    Send,
    WebGuard,
    allowed_hosts,
    scope_refusal,
)

HEALTH_PATH = "/_ministack/health"
# The attributes of an object that ministack reads when it starts.
DESCRIBED = (
    "content_type",
    "content_encoding",
    "etag",
    "last_modified",
    "size",
    "metadata",
    "preserved_headers",
    "storage_class",
    "checksums",
    "version_id",
)


class Credentials(NamedTuple):
    """The one key that the server accepts."""

    access_key_id: str
    secret_access_key: str

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Credentials({self.access_key_id!r}, …)"


class ObjectFiles:
    """How an object gets to disk: its body and its description as one step, even under kill -9.

    ministack 1.4.21 replaces two files one after the other, next to each other. Killed in between,
    it serves the new body under the old ETag; killed while writing, it lists the temporary file as
    an object; on a full disk it logs a warning and acknowledges. Here both files are complete in
    `writing/` before the first is moved, and `recover` finishes or drops what was under way.
    The server handles one request at a time, so one pair of names is enough.
    """

    def __init__(self, data_dir: Path) -> None:
        self.objects = data_dir / "objects"
        self._body = data_dir / "writing" / "body"
        self._description = data_dir / "writing" / "description.json"

    def recover(self) -> None:
        """Bring the directory to a state between two requests. To be called before serving."""
        self._body.parent.mkdir(parents=True, exist_ok=True)
        self.objects.mkdir(parents=True, exist_ok=True)
        if self._body.exists():
            self._body.unlink()
            self._description.unlink(missing_ok=True)
        if self._description.exists():
            target = json.loads(self._description.read_text(encoding="utf-8"))["target"]
            self._description.replace(self.objects / f"{target}.meta.json")
        for bucket in self.objects.glob("*/*"):
            # ministack forgets a bucket that is an empty directory; this file it does not list.
            if bucket.is_dir() and not any(bucket.iterdir()):
                (bucket / ".bucket.meta.json").touch()

    def store(self, account: str, bucket: str, key: str, stored: dict[str, Any]) -> None:
        """Write an object, and take its body out of memory.

        Raises:
            ValueError: the key cannot be a file's name here.
            OSError: it could not be written; the client gets an error and may try again.
        """
        target = os.path.join(account, bucket, key)
        if os.path.normpath(target) != target or key.endswith(".meta.json"):
            raise ValueError(
                f"the embedded S3 server cannot keep the key {key!r}: a key must not end in / or "
                ".meta.json, nor have empty, . or .. parts"
            )
        path = self.objects / target
        path.parent.mkdir(parents=True, exist_ok=True)
        self._body.write_bytes(stored["body"])
        description = {name: stored[name] for name in DESCRIBED if stored.get(name) is not None}
        self._description.write_text(
            json.dumps({**description, "target": target}), encoding="utf-8"
        )
        self._body.replace(path)
        self._description.replace(f"{path}.meta.json")
        stored["body"] = None


def serve_objects_from(files: ObjectFiles) -> Application:
    """Return the application of ministack, S3 only, keeping objects by way of `files`.

    ministack reads its settings from the environment when it is imported, so this is the only
    place that imports it.
    """
    os.environ.update(
        S3_PERSIST="1",
        S3_DATA_DIR=str(files.objects),
        # Object bodies and buckets are on disk at each request; this one would save only on exit.
        PERSIST_STATE="0",
        SERVICES="s3",
        LOG_LEVEL="WARNING",
    )
    from ministack.app import app
    from ministack.core.responses import get_account_id
    from ministack.services import s3

    require_names("ministack", s3, ("_persist_object",), __name__)

    def persist(bucket: str, key: str, stored: dict[str, Any]) -> None:
        files.store(get_account_id(), bucket, key, stored)

    s3._persist_object = persist
    return app  # type: ignore[no-any-return]


def refusal(scope: Message, credentials: Credentials) -> tuple[str, str] | None:
    """S3's error code and message if the request is not signed with `credentials`, else None.

    Signature Version 4 in the Authorization header, computed by botocore's own signer; a body
    is covered by the hash that the client signed.
    """
    headers = {name.decode("latin-1"): value.decode("utf-8") for name, value in scope["headers"]}
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    credential = parts.get("Credential", "").split("/")
    if scheme != "AWS4-HMAC-SHA256" or len(credential) != 5 or "x-amz-date" not in headers:
        return "AccessDenied", "Access Denied: the request is not signed."
    if credential[0] != credentials.access_key_id:
        return (
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
        )
    if "x-amz-security-token" in headers:
        return "InvalidToken", "The provided token is malformed or otherwise invalid."
    signed = {name: headers.get(name, "") for name in parts.get("SignedHeaders", "").split(";")}
    if signature(scope, signed, headers, credential[2], credentials) != parts.get("Signature"):
        return (
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        )
    return None


def signature(
    scope: Message,
    signed: dict[str, str],
    headers: dict[str, str],
    region: str,
    credentials: Credentials,
) -> str:
    """Return the signature that a request with these signed headers must carry."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as BotocoreCredentials

    query = scope["query_string"].decode("latin-1")
    url = f"http://{headers.get('host', '')}{scope['raw_path'].decode('latin-1')}"
    request = AWSRequest(scope["method"], f"{url}?{query}" if query else url, headers=signed)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = S3SigV4Auth(BotocoreCredentials(*credentials), "s3", region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(text, request))


def guarded(
    application: Application, credentials: Credentials | None, guard: WebGuard
) -> Application:
    """`application` behind the web guard, without ministack's own paths, credentials checked if given.

    ministack's own paths are refused because `POST /_ministack/reset` wipes the lake; no bucket's
    name begins with an underscore. Refusals are S3's error documents, which S3 clients can read.
    """

    async def serve(scope: Message, receive: Receive, send: Send) -> None:
        error: tuple[str, str] | None = None
        if scope["type"] != "http":
            return
        foreign = scope_refusal(guard, scope)
        if foreign is not None:
            error = ("AccessDenied", f"Access Denied: {foreign.message}")
        elif scope["path"].startswith("/_"):
            if scope["path"] != HEALTH_PATH or scope["method"] != "GET":
                error = ("AccessDenied", "Access Denied: there is only S3 here.")
        elif credentials is not None:
            error = refusal(scope, credentials)
        if error is None:
            await application(scope, receive, send)
        else:
            await _refuse(scope, receive, send, *error)

    return serve


async def _refuse(scope: Message, receive: Receive, send: Send, code: str, message: str) -> None:
    # A body left unread would be taken for the connection's next request.
    while (await receive()).get("more_body", False):
        continue
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>"
        f"<Resource>{escape(scope['path'])}</Resource></Error>"
    ).encode()
    headers = [(b"content-type", b"application/xml"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def main() -> None:
    """Serve until a signal ends the process."""
    import uvicorn

    parser = argparse.ArgumentParser(
        prog="python -m pipeline_assets.local.s3_server",
        description="An S3 server that keeps its objects in a directory.",
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="where it listens (default: 127.0.0.1)")
    parser.add_argument("--data-dir", type=Path, required=True, help="where objects are kept")
    parser.add_argument("--access-key-id", help="accept requests signed with this key only")
    parser.add_argument(
        "--secret-access-key-env",
        metavar="NAME",
        help="the environment variable with that key's secret; needed with --access-key-id",
    )
    arguments = parser.parse_args()
    credentials = None
    if arguments.access_key_id is not None:
        secret = os.environ.get(arguments.secret_access_key_env or "")
        if not secret:
            parser.error(
                "--access-key-id needs its secret: name a variable that is set, like "
                "--secret-access-key-env PIPELINE_S3__SECRET_ACCESS_KEY"
            )
        credentials = Credentials(arguments.access_key_id, secret)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    files = ObjectFiles(arguments.data_dir.resolve())
    files.recover()
    guard = WebGuard(names=allowed_hosts(os.environ), bucket_names=True)
    uvicorn.run(
        guarded(serve_objects_from(files), credentials, guard),
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        access_log=False,
        # ministack's own start and end stop Docker containers, run scripts and open more ports.
        lifespan="off",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
