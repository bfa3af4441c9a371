"""The connection to Redis: when an operation is repeated on a new one, and the wording of its errors. How a
client is made is in redis_connecting.py; keys and values are defined elsewhere.

The slots are in slots.py, the indicators' state in indicator_state.py, the request weight in
weight_budget.py.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pipeline_assets.outside_text import printable
from pipeline_assets.resources.redis_connecting import connect, known_nodes
from pipeline_assets.resources.redis_tls import check_files, tls_explained
from pipeline_assets.resources.retry import RetryPolicy

if TYPE_CHECKING:
    import redis

    from pipeline_assets.resources.retry import Failure
    from pipeline_assets.settings import RedisSettings

T = TypeVar("T")
REPEAT = "repeat the run"
# How redis-py, and the server, word the refusal of a server that runs alone.
_NO_CLUSTER = "Cluster mode is not enabled"
_NO_SENTINEL = "unknown command 'SENTINEL'"
# The rights without which something fails sooner or later: the broker of the workers needs the channels.
_RIGHTS = "~* &* +@all -@admin"
# A script that may not run a command says so in a text of its own.
_NO_RIGHT = re.compile(r"ACL failure in script|NOPERM|no permissions", re.IGNORECASE)
_SCRIPTS = Path(__file__).parent / "redis_scripts"
# MasterNotFoundError shows each sentinel's client with all its options, 1,000 characters before the cause.
_CLIENT = re.compile(r"<redis\.client\.Redis\(.*?\)>\)>\)> - ", re.DOTALL)
# Answers that the connector has no class of its own for, or not where a server before Redis 7 wraps the
# error that stopped a script in a text of its own, with a dash before the code.
_PASSING = re.compile(r"(^|: |-)(NOREPLICAS|BUSY|READONLY|MASTERDOWN|CLUSTERDOWN|LOADING) ")


class RedisConnection:
    """A connection to Redis that outlives a failover, a restart and a pause of either machine.

    An operation that fails for a reason that may pass is repeated on a new connection: the server
    cannot be reached, does not answer in time, is loading its data, is a read-only replica (the
    connection stayed at the old primary), or its cluster is being rearranged. A new connection asks
    the name service, or the sentinels, again, so that an address which moved to the new primary is
    followed. A server that redirects (MOVED) is a node of a cluster, and from then on it is talked to
    as one. A cluster's nodes are remembered, so that those of the settings may go.

    An operation is repeated for `retry_seconds` and at least once, since a process that was paused
    finds its time over. So the longest wait is `retry_seconds` and one more attempt, which takes
    `timeout_seconds` each to connect, to log in and to be answered.

    Every operation must bear a repeat after a lost answer: the first attempt may have taken effect.

    Safe to share between threads.
    """

    def __init__(
        self,
        settings: "RedisSettings",
        error_type: type[Exception],
        client: "redis.Redis | redis.RedisCluster | None" = None,
        then: str = REPEAT,
    ) -> None:
        """A connection, which is opened by its first operation.

        Args:
            settings: where Redis is, and how long an operation may take.
            error_type: what a failed operation raises.
            client: a client of one's own to use instead.
            then: what a person does once Redis works, for the errors' text.
        """
        self._settings, self._error_type, self._then = settings, error_type, then
        self._given = client is not None
        self._client: Any = client
        self._cluster = False
        self._nodes: tuple[tuple[str, int], ...] = ()
        self._lock = Lock()

    def run(self, operation: Callable[[Any], T]) -> T:
        """Give the operation a client until it succeeds; returns what it returns.

        Raises:
            Exception: of the error type, naming the address and what to do: it failed for a reason
                that does not pass, or for longer than `retry_seconds`.
        """
        used: list[Any] = [None]

        def attempt() -> T:
            used[0] = None
            used[0] = self._connected()
            return operation(used[0])

        def failed(failure: "Failure") -> None:
            self._drop(used[0], failure.error)

        policy = RetryPolicy(
            deadline=self._settings.retry_seconds, first_wait=0.05, longest_wait=0.5, least=2
        )
        with explained(self._settings, self._error_type, self._then):
            return policy.run(attempt, _may_pass, on_failure=failed)

    def run_script(self, name: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run a Lua script of `redis_scripts/` for many keys in one round trip.

        A server that does not know the script (it was restarted, or is the new primary) is given it. After
        a lost connection all calls are repeated, of which some may have run: every script bears a repeat.

        Args:
            name: of the script's file.
            calls: number of keys, keys and arguments of each call.

        Returns:
            Their replies, in order.
        """
        text = script(name)
        return self.run(lambda client: _execute(client, text, calls))

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                check_files(self._settings, self._error_type)
                with _cause_of_no_cluster():
                    self._client = connect(self._settings, cluster=self._cluster, nodes=self._nodes)
            return self._client

    def _drop(self, client: Any, error: BaseException) -> None:
        """Have the next attempt connect anew; connections that other threads are using stay open."""
        from redis import RedisCluster
        from redis.exceptions import MovedError

        if client is None:
            return
        with self._lock:
            self._cluster = self._cluster or isinstance(error, MovedError)
            if isinstance(client, RedisCluster):
                self._nodes = known_nodes(client)
            if not self._given and self._client is client:
                self._client = None
        if isinstance(client, RedisCluster):
            untyped: Any = client
            untyped.disconnect_connection_pools()
        else:
            client.connection_pool.disconnect(inuse_connections=False)


def _execute(client: Any, text: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    from redis.exceptions import NoScriptError

    def execute(command: str, script: str, some: Sequence[tuple[Any, ...]]) -> list[Any]:
        # A cluster's pipeline refuses .evalsha(), but routes the same command by its key.
        pipeline = client.pipeline(transaction=False)
        for call in some:
            pipeline.execute_command(command, script, *call)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        errors = (each for each in replies if isinstance(each, Exception))
        for error in errors:
            if not isinstance(error, NoScriptError):
                raise error
        return replies

    replies = execute("EVALSHA", _digest(text), calls)
    # One node of a cluster may know the script and another not: who has run it does not run it again.
    # SCRIPT LOAD would ask every node, also those that are down and have none of the keys.
    unknown = [place for place, each in enumerate(replies) if isinstance(each, NoScriptError)]
    if unknown:
        again = execute("EVAL", text, [calls[place] for place in unknown])
        for place, reply in zip(unknown, again, strict=True):
            replies[place] = reply
    return replies


@cache
def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@contextmanager
def _cause_of_no_cluster() -> Iterator[None]:
    """Report why no node of a cluster can be asked: refused credentials do not pass by waiting."""
    import redis
    from redis.exceptions import RedisClusterException

    try:
        yield
    except RedisClusterException as error:
        if isinstance(error.__cause__, redis.RedisError):
            raise error.__cause__ from error
        raise


def _may_pass(error: BaseException) -> bool:
    """Return whether the same operation may succeed on a new connection, a little later."""
    import redis
    from redis import exceptions

    lasting = (
        redis.AuthenticationError,
        exceptions.AuthorizationError,
        exceptions.ExternalAuthProviderError,
        exceptions.NoPermissionError,
    )
    passing = (
        redis.ConnectionError,  # LOADING too
        redis.TimeoutError,
        redis.ReadOnlyError,
        exceptions.ClusterError,  # CLUSTERDOWN and MASTERDOWN, and a slot that moves for too long
        exceptions.TryAgainError,
        exceptions.AskError,  # MOVED too
        exceptions.RedisClusterException,
    )
    if isinstance(error, passing):
        return not isinstance(error, lasting)
    return isinstance(error, redis.RedisError) and _PASSING.search(str(error)) is not None


def _of_sentinels(error: BaseException) -> str:
    """Return why the sentinels name no primary, without redis-py's description of each client."""
    return printable(_CLIENT.sub("", str(error)))


def address(settings: "RedisSettings") -> str:
    """Return where Redis is, for people: scheme, host, port and database, never user or password."""
    parts = urlsplit(settings.url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


@cache
def script(name: str) -> str:
    """Return the text of a Lua script of `redis_scripts/`, which the server runs as one step."""
    return (_SCRIPTS / f"{name}.lua").read_text(encoding="utf-8")


def _refused(settings: "RedisSettings", where: str, error: BaseException, then: str) -> str:
    """Return the text of a refusal that is none of the password's and does not pass."""
    said = printable(error).strip()
    if _NO_SENTINEL in said:
        plain, tls = replace(settings.address, kind="server").schemes
        return (
            f"{where} is no sentinel. Let PIPELINE_REDIS__URL start with "
            f"{tls if settings.address.tls else plain} and end with the number of a database, such as /0, or "
            f"name the sentinels (by default at port 26379), then {then}."
        )
    if not _NO_RIGHT.search(said):
        return f"{where} refused a command: {said}. See the server's log, then {then}."
    user, rights = "PIPELINE_REDIS__URL", _RIGHTS
    if "sentinel" in said.lower():
        user, rights = "PIPELINE_REDIS__SENTINEL_USER", "+sentinel +ping"
    return (
        f"{where} does not permit its user a command, a key or a channel ({said}). Let `ACL SETUSER` give "
        f"the user in {user} the rights `{rights}`, then {then}."
    )


@contextmanager
def explained(
    settings: "RedisSettings", error_type: type[Exception], then: str = REPEAT
) -> Iterator[None]:
    """Turn the client's errors into `error_type`, naming the address and what to do next.

    Args:
        settings: where Redis is.
        error_type: of the errors.
        then: what a person does once Redis works.
    """
    import redis
    from redis import exceptions
    from redis.sentinel import MasterNotFoundError

    where = f"Redis at {address(settings)}"
    for_so_long = f"for {settings.retry_seconds:g} s"
    try:
        with tls_explained(settings, where, error_type, then):
            yield
    except redis.AuthenticationError as error:
        raise error_type(
            f"{where} refuses the credentials ({printable(error)}). Check PIPELINE_REDIS__PASSWORD and the "
            f"user in PIPELINE_REDIS__URL, then {then}."
        ) from error
    except redis.TimeoutError as error:
        tls = " and that it speaks TLS" if settings.address.tls else ""
        raise error_type(
            f"{where} did not answer within {settings.timeout_seconds:g} s. Check that it is not "
            f"overloaded{tls}, or raise PIPELINE_REDIS__TIMEOUT_SECONDS, then {then}."
        ) from error
    except redis.BusyLoadingError as error:
        raise error_type(
            f"{where} is still loading its data, {for_so_long} ({error}). Wait until it has, or "
            f"raise PIPELINE_REDIS__RETRY_SECONDS, then {then}."
        ) from error
    except MasterNotFoundError as error:
        raise error_type(
            f"{where}: the sentinels name no primary, {for_so_long} ({_of_sentinels(error)}). Check the "
            "sentinels and the name at the end of PIPELINE_REDIS__URL, and "
            f"PIPELINE_REDIS__SENTINEL_PASSWORD where they demand one. Then {then}."
        ) from error
    except redis.ConnectionError as error:
        raise error_type(
            f"{where} cannot be reached ({printable(error)}). Start it (`pipeline-assets up` starts the "
            f"embedded one) or set PIPELINE_REDIS__URL, then {then}."
        ) from error
    except redis.ReadOnlyError as error:
        raise error_type(
            f"{where} is a read-only replica, {for_so_long} ({error}). Either a failover has not ended, "
            f"or PIPELINE_REDIS__URL is not the address of the primary. Then {then}."
        ) from error
    except (
        exceptions.ClusterError,
        exceptions.AskError,
        exceptions.TryAgainError,
        exceptions.RedisClusterException,
    ) as error:
        if _NO_CLUSTER in str(error):
            plain, tls = replace(settings.address, kind="server").schemes
            raise error_type(
                f"{where} is not a cluster. Let PIPELINE_REDIS__URL start with "
                f"{tls if settings.address.tls else plain}, then {then}."
            ) from error
        raise error_type(
            f"{where} is part of a cluster or a replication that serves no client, {for_so_long} "
            f"({error}). Check its nodes' state, then {then}."
        ) from error
    except redis.RedisError as error:
        raise error_type(_refused(settings, where, error, then)) from error
