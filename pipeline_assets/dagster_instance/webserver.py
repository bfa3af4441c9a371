"""Dagster's web server behind the web guard, in one process: no port is left without it.

Run as `python -m pipeline_assets.dagster_instance.webserver` with dagster-webserver's own options.
The rules themselves are in web_guard.py; here is only what is special about Dagster's server.

Necessary because Dagster 1.13's open-source web server has no login and no hook for middleware
(dagster-io/dagster issue 2219, open), and executes a mutation that comes by GET. It can go
with the version that has such a hook.
"""

from typing import Any

from dagster_webserver import cli

from pipeline_assets.settings import Settings, load_settings
from pipeline_assets.web_guard import (
    Application,
    GuardedApplication,
    Message,
    Receive,
    Refusal,
    Send,
    WebGuard,
    refuse,
)

_MAKES_APPLICATION = "create_app_from_workspace_process_context"
_SERVES_APPLICATION = "host_dagster_ui_with_workspace_process_context"
_ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared only


class QueriesByPostOnly:
    """Refuse a GraphQL query by GET, which Dagster would execute even if it is a mutation.

    An `<img>` is such a GET. Dagster's UI sends its queries by POST; GET with `text/html` shows
    GraphiQL and executes nothing.
    """

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve everything but a GraphQL query by GET."""
        if (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and scope["path"].rstrip("/").endswith("/graphql")
            and b"text/html" not in next((v for n, v in scope["headers"] if n == b"accept"), b"")
        ):
            message = "GraphQL takes POST only, with Content-Type: application/json."
            await refuse(Refusal(405, message), receive, send)
        else:
            await self.app(scope, receive, send)


def guard_of(settings: Settings) -> WebGuard:
    """Return the rules for Dagster's web server under these settings."""
    host = settings.dagster.host
    bound = () if host in _ANY_ADDRESS else (f"[{host}]" if ":" in host else host.lower(),)
    return WebGuard(names=(*bound, *(settings.allowed_hosts or ())), json_paths=("/",))


def guard_dagster_webserver(guard: WebGuard) -> None:
    """Make dagster-webserver's command serve its application behind `guard`.

    dagster-webserver has no public hook for middleware: its command makes the application by a
    function of its module, which is replaced here.

    Raises:
        ImportError: this dagster-webserver makes its application in another way.
    """
    make = getattr(cli, _MAKES_APPLICATION, None)
    serve = getattr(cli, _SERVES_APPLICATION, None)
    if make is None or serve is None or _MAKES_APPLICATION not in serve.__code__.co_names:
        raise ImportError(
            "This dagster-webserver cannot be guarded against foreign web pages, because "
            f"dagster_webserver.cli.{_SERVES_APPLICATION} does not call {_MAKES_APPLICATION}. "
            "Install the version in constraints.txt."
        )

    def make_guarded(*arguments: Any, **options: Any) -> GuardedApplication:
        return GuardedApplication(QueriesByPostOnly(make(*arguments, **options)), guard)

    setattr(cli, _MAKES_APPLICATION, make_guarded)


def main() -> None:
    """Serve until a signal ends the process."""
    guard_dagster_webserver(guard_of(load_settings()))
    cli.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
