"""chDB behind the part of ClickHouse's HTTP interface that clickhouse_store.py uses.

Run by a Python that has chDB, which this project's has not: `python chdb_server.py DIRECTORY PORT`. chDB is
ClickHouse's engine as a library without a server. Behind this one it answers over a socket.
"""

import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


def main(directory: str, port: str) -> None:
    session = import_module("chdb.session").Session(directory)
    file = Path(directory, "rows")
    session.query("CREATE DATABASE IF NOT EXISTS slots")
    session.query("USE slots")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # A reply of two small packets would wait for the first one's acknowledgement.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            statement = parse_qs(urlsplit(self.path).query)["query"][0]
            rows = self.rfile.read(int(self.headers["Content-Length"]))
            if rows:
                # Rows behind a statement end at a byte that looks like the statement's end.
                file.write_bytes(rows)
                statement = statement.replace(" FORMAT ", f" FROM INFILE '{file}' FORMAT ")
            try:
                body = session.query(statement, "TSV")
                status, reply = HTTPStatus.OK, body.bytes() or b""
            except RuntimeError as error:
                status, reply = HTTPStatus.BAD_REQUEST, str(error).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: object) -> None:
            """Log no request: thousands come."""

    HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
