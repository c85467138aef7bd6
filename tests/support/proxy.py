"""A TCP proxy on the loopback address that can behave like a network in trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

from tests.support.loop_thread import LoopThread
from tests.support.ports import LOOPBACK, bound_socket
from tests.support.proxy_link import Conditions, Link

Mode = Literal["pass", "stall", "refuse", "reset"]


class RoundTrips:
    """The round trips since `counting` was entered, and no more of them once it is left."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._before = proxy.round_trips
        self._total: int | None = None

    @property
    def round_trips(self) -> int:
        return self._total if self._total is not None else self._proxy.round_trips - self._before

    def _finish(self) -> None:
        self._total = self.round_trips


class Proxy:
    """Listens on `port` from entering its context to leaving it.

    The modes, of which `set_mode` returns when they are in force:

    - `pass`: carry everything; leaving another mode for this one heals the network.
    - `stall`: accept connections, but hold all bytes, ends of connections included, until healed.
    - `refuse`: do not listen; connections that exist go on.
    - `reset`: break the connections that exist, and each new one as soon as it is accepted.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._thread: LoopThread
        self._conditions: Conditions
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], Link] = {}
        self._mode: Mode = "pass"
        self._connections = 0
        self.port = 0

    def __enter__(self) -> Self:
        self._thread = LoopThread("test-proxy")
        try:
            self._thread.run(self._open())
        except BaseException:
            self._thread.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._thread.run(self._close())
        finally:
            self._thread.close()

    def url_for(self, url: str) -> str:
        """The same URL, but by way of the proxy."""
        parts = urlsplit(url)
        account, separator, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{account}{separator}{LOOPBACK}:{self.port}"))

    @property
    def mode(self) -> Mode:
        return self._mode

    def set_mode(self, mode: Mode) -> None:
        """Change what happens to connections, without the delay that may have been in force."""
        self._thread.run(self._set_mode(mode, 0.0))

    def delay(self, seconds: float) -> None:
        """Pass everything, each direction later by `seconds`; bytes do not wait for each other."""
        self._thread.run(self._set_mode("pass", seconds))

    def reset_connections(self) -> None:
        """Break the connections that exist and leave the mode as it is."""
        self._thread.run(self._reset())

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        return self._connections

    @property
    def open_connections(self) -> int:
        """How many of the accepted connections have not ended."""
        return len(self._links)

    @property
    def round_trips(self) -> int:
        """How often a server has answered what a client had said, in however many packets.

        A client that has got its answer finds it counted. What gets no answer, such as the
        farewell of a client that closes its connection, is no round trip.
        """
        return self._conditions.round_trips

    @property
    def bytes_from_clients(self) -> int:
        """How much the clients have said so far, delivered or not."""
        return self._conditions.bytes_from_clients

    @contextmanager
    def counting(self) -> Iterator[RoundTrips]:
        """Count the round trips of a block of code."""
        count = RoundTrips(self)
        try:
            yield count
        finally:
            count._finish()

    async def _open(self) -> None:
        self._conditions = Conditions()
        self._conditions.flowing.set()
        await self._listen()

    async def _close(self) -> None:
        await self._stop_listening()
        await self._reset()

    async def _set_mode(self, mode: Mode, latency: float) -> None:
        self._mode = mode
        self._conditions.latency = latency
        if mode == "stall":
            self._conditions.flowing.clear()
        else:
            self._conditions.flowing.set()
        if mode == "refuse":
            await self._stop_listening()
        else:
            await self._listen()
        if mode == "reset":
            await self._reset()

    async def _listen(self) -> None:
        if self._server is None:
            bound = bound_socket(self.port or None)
            self.port = bound.getsockname()[1]
            self._server = await asyncio.start_server(self._accepted, sock=bound, backlog=512)

    async def _stop_listening(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        # asyncio forgets a connection whose server was closed while it was being accepted.
        for _ in range(3):
            await asyncio.sleep(0)
        # Not waited for: newer Pythons would wait for the connections to end as well.
        server.close()

    async def _reset(self) -> None:
        tasks = list(self._links)
        for task in tasks:
            self._links[task].abort()
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        link = Link(self._conditions, reader, writer)
        if self._mode == "reset":
            link.abort()
            return
        task = asyncio.get_running_loop().create_task(link.run(*self._target))
        self._links[task] = link
        task.add_done_callback(self._links.pop)
