"""Both doors of a gateway, open for the length of a block. The calls are in grpc_door.py and http_door.py."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline_assets.private_apis import require_names
from pipeline_assets.services.gateway.access import Access, DoorError
from pipeline_assets.services.gateway.grpc_door import open_grpc_door
from pipeline_assets.services.gateway.http_door import http_door
from pipeline_assets.services.gateway.service import GatewayService
from pipeline_assets.settings import GatewaySettings
from pipeline_assets.web_guard import WebGuard

if TYPE_CHECKING:
    import uvicorn


@dataclass(frozen=True)
class Doors:
    """Where the doors are."""

    grpc_port: int
    http_port: int


@asynccontextmanager
async def open_doors(
    service: GatewayService, access: Access, guard: WebGuard, at: GatewaySettings
) -> AsyncIterator[Doors]:
    """Serve gRPC and HTTP within the block; port 0 takes a free one.

    Raises:
        DoorError: an address is taken.
    """
    with _listening(at.host, at.http_port) as listener:
        door = await open_grpc_door(service, access, guard, at.host, at.grpc_port)
        server = _server(service, access, guard)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield Doors(door.port, listener.getsockname()[1])
        finally:
            server.should_exit = True
            await door.close()
            await serving


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Provide a listening socket; uvicorn ends the process where a port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        # Connections of the last gateway in TIME_WAIT hold the port otherwise.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)
        except OSError as error:
            raise DoorError(
                f"The gateway cannot listen at {host}:{port} ({error.strerror}). Stop the program "
                "that does, or set PIPELINE_GATEWAY__HTTP_PORT to another port."
            ) from error
        yield listener


def _server(service: GatewayService, access: Access, guard: WebGuard) -> "uvicorn.Server":
    import uvicorn

    require_names("uvicorn", uvicorn.Server, ("capture_signals",), __name__)

    class ServerWithoutSignals(uvicorn.Server):
        """Leaves signals to the process, which stops the gateway first."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Capture none."""
            yield

    config = uvicorn.Config(
        http_door(service, access, guard),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=2,
    )
    return ServerWithoutSignals(config)
