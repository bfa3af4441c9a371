"""Ports of this machine: who holds one."""

import os
import socket

from pipeline_assets.local.ports import port_holder


def test_holder_is_named() -> None:
    """A port above 32767 may belong to a client's connection: no process is to be stopped."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            assert (
                port_holder(client.getsockname()[1])
                == "a client's connection, which ends by itself"
            )
        assert port_holder(server.getsockname()[1]).endswith(f"(pid {os.getpid()})")
