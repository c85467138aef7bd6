"""Programs that must be processes of their own: forks, exits, signals, missing descriptors.

``python -m tests.loops.programs NAME [KIND]`` prints what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import resource
import signal
import sys
import threading
import warnings
from typing import Any

from asgi_dbconn import LoopGoneError, run_sync
from asgi_dbconn.loops import deadlines
from asgi_dbconn.loops.default_loop import (
    Environment,
    app_loop,
    current_environment,
    process_default,
    register_app_loop,
)
from tests.loops.situations import (
    KINDS,
    LoopFactory,
    Place,
    forever,
    loop_in_thread,
    open_loop,
    run,
)


async def thread_name() -> str:
    await asyncio.sleep(0)
    return threading.current_thread().name


def in_child(work: Any) -> Any:
    """What ``work()`` returns in a forked child, or 'hangs' if it is not done in 10 seconds."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        try:
            answer = work()
        except BaseException as error:
            answer = repr(error)
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    answer = os.read(reading, 65536)
    os.close(reading)
    os.waitpid(pid, 0)
    return json.loads(answer or '"hangs"')


def fork_beside_a_subloop(factory: LoopFactory) -> Any:
    """The child of a program whose loop has a subloop, forked between calls and inside of one."""

    async def fork_inside() -> Any:
        return in_child(lambda: run(outer(), factory))

    async def outer() -> str:
        return str(run_sync(thread_name()))

    async def parent() -> Any:
        before = run_sync(thread_name())
        beside = in_child(lambda: run(outer(), factory))
        inside = run_sync(fork_inside())
        return [before, beside, inside, run_sync(thread_name())]

    return run(parent(), factory)


def fork_inside_an_environment(factory: LoopFactory) -> Any:
    """The child has none of what its parent had, and makes its own."""

    def child() -> Any:
        mine = [current_environment() is None, process_default() is None, app_loop() is None]
        return [*mine, run_sync(thread_name())]

    with Environment.choose() as environment:
        run_sync(thread_name())
        register_app_loop(environment.loop)
        return [in_child(child), run_sync(thread_name())]


def fork_beside_a_running_loop(factory: LoopFactory) -> Any:
    """The loop says that it runs, but its thread was left behind."""

    def child(loop: Any) -> Any:
        try:
            return run_sync(thread_name(), loop=loop)
        except LoopGoneError:
            return "gone"

    with loop_in_thread() as loop:
        return [in_child(lambda: child(loop)), run_sync(thread_name(), loop=loop)]


def no_descriptors(factory: LoopFactory) -> Any:
    """A subloop and a private loop when no file can be opened."""
    seen: list[Any] = []

    def attempt() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            seen.append(run_sync(thread_name()))
        except OSError as error:
            seen.append(error.errno)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def outer() -> None:
        attempt()
        seen.append(run_sync(thread_name()))

    # asyncio's own half-made loops complain of themselves.
    warnings.simplefilter("ignore", ResourceWarning)
    sys.unraisablehook = lambda _: None
    attempt()
    run(outer(), asyncio.SelectorEventLoop)
    return seen


def at_exit(factory: LoopFactory) -> Any:
    """Synchronous code that runs when the interpreter exits, registered before us and after."""

    async def outer() -> str:
        return str(run_sync(thread_name()))

    def say() -> None:
        print(json.dumps([run_sync(thread_name()), run(outer(), factory)]), file=sys.stderr)

    atexit.register(say)
    kept = factory()
    kept.run_until_complete(outer())
    atexit.register(say)
    atexit.register(kept.close)
    return "exiting"


def exit_with_a_subloop(factory: LoopFactory) -> Any:
    """A program that never closes its loop: the subloop is ended in good order all the same."""

    async def linger() -> None:
        try:
            await forever()
        finally:
            print("unwound", file=sys.stderr)

    async def start() -> None:
        tasks.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)

    async def outer() -> None:
        run_sync(start())

    tasks: list[Any] = []
    warnings.simplefilter("ignore", ResourceWarning)
    globals()["kept"] = loop = factory()
    loop.run_until_complete(outer())
    return "exiting"


def ctrl_c(factory: LoopFactory, place: str) -> Any:
    """One press while the main thread waits."""
    seen: list[Any] = []

    async def work() -> None:
        try:
            # In a moment, when the loop sleeps: sooner it would hit this very line, or the next.
            threading.Timer(0.1, os.kill, args=(os.getpid(), signal.SIGINT)).start()
            await forever()
            seen.append("finished")
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            seen.append("cancelled")
            raise

    try:
        Place(place, factory).run(work)
    except KeyboardInterrupt:
        seen.append("KeyboardInterrupt")
    seen.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    return seen


def ctrl_c_below_asyncio_run(factory: LoopFactory, slowly: str = "") -> Any:
    """One press below asyncio.run, which would only note it: at once, or while we wait longer."""
    seen: list[Any] = []

    async def work() -> None:
        try:
            if slowly:  # after the time in which a waiting thread looks for the first time
                await asyncio.sleep(4 * deadlines.FIRST_POLL)
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
            await forever()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        before = signal.getsignal(signal.SIGINT)
        try:
            run_sync(work())
        finally:
            seen.append(signal.getsignal(signal.SIGINT) is before)

    try:
        run(main(), factory)
    except KeyboardInterrupt:
        seen.append("KeyboardInterrupt")
    return seen


def ctrl_c_on_an_idle_loop(factory: LoopFactory) -> Any:
    """Nothing is left pending on the user's loop."""
    seen: list[Any] = []

    async def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await forever()
        finally:
            seen.append("unwound")

    with open_loop(factory) as loop:
        try:
            run_sync(work(), loop=loop)
        except KeyboardInterrupt:
            seen.append("KeyboardInterrupt")
        seen.append(len(asyncio.all_tasks(loop)))
        seen.append(run_sync(thread_name(), loop=loop))
    return seen


def main(name: str, kind: str, *rest: str) -> None:
    # Python warns of forks in multi-threaded programs since 3.12; that is what is tested here.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    saw = globals()[name](KINDS[kind], *rest)
    print(json.dumps(saw))


if __name__ == "__main__":
    main(*sys.argv[1:])
