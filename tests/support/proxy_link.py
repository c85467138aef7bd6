"""One client's connection through the proxy, under conditions that all connections share."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

_CHUNK = 65_536
# A limit, so that a held connection pushes back on its sender, as a real network does.
_HELD_CHUNKS = 64

_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass
class Conditions:
    """What the network does to the bytes at this moment, and counters over all links."""

    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    latency: float = 0.0
    round_trips: int = 0
    bytes_from_clients: int = 0

    async def until_flowing(self) -> None:
        # A waiter wakes up some time after the event was set, and it may be cleared again by then.
        while not self.flowing.is_set():
            await self.flowing.wait()


class Link:
    """Carries the bytes of one accepted connection to a connection of its own to the target."""

    def __init__(
        self,
        conditions: Conditions,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._conditions = conditions
        self._client = reader
        self._writers = [writer]
        self._client_has_asked = False

    async def run(self, host: str, port: int) -> None:
        """Return when both ends have closed the connection."""
        try:
            await self._conditions.until_flowing()
            server, to_server = await asyncio.open_connection(host, port)
            self._writers.append(to_server)
            to_client = self._writers[0]
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(self._client, to_server, self._client_spoke))
                both.create_task(self._carry(server, to_client, self._server_spoke))
            for writer in self._writers:
                writer.close()
        except* OSError:
            # One end is gone or was never there, and the other one learns it in the same way.
            self.abort()
        finally:
            await self.closed()

    def abort(self) -> None:
        """Break the connection in both directions with a reset instead of an orderly end."""
        for writer in self._writers:
            with suppress(OSError):
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()

    async def closed(self) -> None:
        """Return when the sockets of an ended or aborted link are closed."""
        for writer in self._writers:
            if not writer.is_closing():
                writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        spoke: Callable[[int], None],
    ) -> None:
        held: asyncio.Queue[tuple[float, bytes | OSError]] = asyncio.Queue(_HELD_CHUNKS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(reader, held, spoke))
            group.create_task(self._deliver(held, writer))

    def _look_at(self, data: bytes, *, is_from_client: bool) -> None:
        """See what one side says, before the other one does; for derived classes."""

    async def _receive(
        self,
        reader: asyncio.StreamReader,
        held: asyncio.Queue[tuple[float, bytes | OSError]],
        spoke: Callable[[int], None],
    ) -> None:
        clock = asyncio.get_running_loop().time
        data: bytes | OSError
        while True:
            try:
                data = await reader.read(_CHUNK)
            except OSError as error:
                data = error
            if isinstance(data, bytes) and data:
                spoke(len(data))
                self._look_at(data, is_from_client=reader is self._client)
            await held.put((clock() + self._conditions.latency, data))
            if isinstance(data, OSError) or not data:
                return

    async def _deliver(
        self,
        held: asyncio.Queue[tuple[float, bytes | OSError]],
        writer: asyncio.StreamWriter,
    ) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, data = await held.get()
            if (left := due - clock()) > 0:
                await asyncio.sleep(left)
            await self._conditions.until_flowing()
            if isinstance(data, OSError):
                raise data
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    def _client_spoke(self, size: int) -> None:
        self._client_has_asked = True
        self._conditions.bytes_from_clients += size

    def _server_spoke(self, size: int) -> None:
        # Counted with the answer: a farewell gets none, and nobody waits for it.
        if self._client_has_asked:
            self._client_has_asked = False
            self._conditions.round_trips += 1
