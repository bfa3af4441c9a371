"""The connection to Redis and the wording of its errors. What is stored there is not here.

The slots are in slots.py, the indicators' state in indicator_state.py, the request weight in
weight_budget.py.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline_assets.outside_text import printable

if TYPE_CHECKING:
    import redis

    from pipeline_assets.settings import RedisSettings

_SCRIPTS = Path(__file__).parent / "redis_scripts"


def connect(settings: "RedisSettings") -> "redis.Redis":
    """A client that is safe to share between threads; it connects on first use.

    A connection that broke (a restarted server) is made anew, twice at most and within half a
    second, so that a server that is down is noticed at once. A timed-out command is not repeated:
    a server that hangs would otherwise hold the caller for several time-outs.
    """
    import redis
    from redis.backoff import ExponentialBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(
        settings.url,
        password=settings.password.get_secret_value() if settings.password else None,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.05), 2, (redis.ConnectionError,)),
    )


def address(settings: "RedisSettings") -> str:
    """Where Redis is, for people: scheme, host, port and database, never user or password."""
    parts = urlsplit(settings.url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def script(name: str) -> str:
    """The text of a Lua script of `redis_scripts/`, which the server runs as one step."""
    return (_SCRIPTS / f"{name}.lua").read_text(encoding="utf-8")


class ScriptPipeline:
    """A Lua script of `redis_scripts/` that is run for many symbols in one round trip."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self._name = client, name
        self._digest: str | None = None

    def run(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run the script once a call: number of keys, keys, arguments; their replies in order.

        A server that was restarted since the script was loaded is given it again, and all calls are
        repeated, of which some may have run (other nodes of a cluster): the scripts bear that.
        """
        from redis.exceptions import NoScriptError

        if self._digest is None:
            self._digest = str(self._load())
        try:
            return self._execute(calls)
        except NoScriptError:
            self._load()
            return self._execute(calls)

    def _load(self) -> Any:
        return self._client.script_load(script(self._name))

    def _execute(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        # A cluster's pipeline refuses .evalsha(), but routes the same command by its key.
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command("EVALSHA", self._digest, *call)
        replies: list[Any] = pipeline.execute()
        return replies


@contextmanager
def explained(settings: "RedisSettings", error_type: type[Exception]) -> Iterator[None]:
    """Turn the client's errors into `error_type`, naming the address and what to do next."""
    import redis

    where = f"Redis at {address(settings)}"
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise error_type(
            f"{where} refuses the credentials ({printable(error)}). Check PIPELINE_REDIS__PASSWORD and the "
            "user in PIPELINE_REDIS__URL, then repeat the run."
        ) from error
    except redis.TimeoutError as error:
        tls = " and that it speaks TLS" if where.startswith("Redis at rediss:") else ""
        raise error_type(
            f"{where} did not answer within {settings.timeout_seconds:g} s. Check that it is not "
            f"overloaded{tls}, or raise PIPELINE_REDIS__TIMEOUT_SECONDS, then repeat the run."
        ) from error
    except redis.ConnectionError as error:
        raise error_type(
            f"{where} cannot be reached ({printable(error)}). Start it (`pipeline-assets up` starts the "
            "embedded one) or set PIPELINE_REDIS__URL, then repeat the run."
        ) from error
    except redis.RedisError as error:
        raise error_type(
            f"{where} refused a command: {printable(error)}. See the server's log; the run may be repeated."
        ) from error
