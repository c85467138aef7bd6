"""Posting to a loop of ours that has a thread."""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context, ContextVar
from typing import Any

import pytest

from asgi_dbconn import run_sync
from asgi_dbconn.loops.managed_loop import ManagedLoop, WakeupQueue
from tests.loops.situations import LoopFactory, in_threads, open_loop

number: ContextVar[int] = ContextVar("number", default=0)


def test_in_order_and_each_in_its_context(factory: LoopFactory) -> None:
    with open_loop(factory) as loop:
        mailbox, seen = WakeupQueue(loop), list[tuple[int, int]]()
        for index in range(1, 4):
            context = Context()
            context.run(number.set, index)
            mailbox.put(lambda put: seen.append((put, number.get())), index, context=context)
        mailbox.put(loop.stop, context=Context())
        loop.run_forever()
        assert seen == [(1, 1), (2, 2), (3, 3)]
        mailbox.close(loop)


def test_more_letters_than_the_socket_takes_bytes(factory: LoopFactory) -> None:
    """A loop that stands still for long misses none of them."""
    count = 100_000
    with open_loop(factory) as loop:
        mailbox, seen = WakeupQueue(loop), list[int]()
        context = Context()
        for number in range(count):
            mailbox.put(seen.append, number, context=context)
        mailbox.put(loop.stop, context=context)
        loop.run_forever()
        assert seen == list(range(count))
        mailbox.close(loop)


def test_from_many_threads(factory: LoopFactory) -> None:
    each, threads = 500, 4
    with open_loop(factory) as like:
        own, seen, all_seen = ManagedLoop(like), list[int](), threading.Event()
        own.start("for a test")

        def read(letter: int) -> None:
            seen.append(letter)
            if len(seen) == each * threads:
                all_seen.set()

        def write(thread: int) -> None:
            for letter in range(each):
                own.submit(read, thread * each + letter, context=Context())

        in_threads(threads, write)
        assert all_seen.wait(10)
        assert sorted(seen) == list(range(each * threads))
        own.close()


def test_nobody_posts_to_a_loop_that_has_ended(factory: LoopFactory) -> None:
    with open_loop(factory) as like:
        own = ManagedLoop(like)
        own.start("for a test")
        post = own.submit
        own.close()
        with pytest.raises(OSError):
            post(print, context=Context())
        with pytest.raises(RuntimeError):
            own.submit(print, context=Context())


class Proactor(asyncio.SelectorEventLoop):
    """Cannot wait for sockets, as on Windows."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:  # type: ignore[override]
        raise NotImplementedError


Proactor.__module__ = "asyncio.imagined"  # its subloops are of the same kind, then


def test_a_loop_that_cannot_wait_for_sockets_has_none() -> None:
    async def here() -> Any:
        return asyncio.get_running_loop()

    with open_loop(Proactor) as like:
        own = ManagedLoop(like)
        own.start("for a test")
        assert isinstance(own.loop, Proactor)
        assert run_sync(here(), loop=own.loop) is own.loop
        own.close()
