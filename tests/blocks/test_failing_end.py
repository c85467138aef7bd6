"""A block that ends by an error or a cancellation while a task started inside it is at work.

What ended the block leaves it, in at most two seconds. The task's statement is cancelled on the
server, and the task gets TransactionClosed. Nothing of either is stored, and the connection serves
the next request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from asgi_dbconn import TransactionAborted, TransactionClosed
from tests.blocks.children import CHILDREN, Child, children_of, driver_of
from tests.blocks.ends import FAILING_ENDS, LONGEST, BlockError, Run
from tests.blocks.kinds import KINDS, Kind, kinds_of
from tests.blocks.other_process import OtherProcess
from tests.blocks.stage import Stage, open_stage
from tests.support.proxy import Proxy

End = Callable[[Run], Awaitable[None]]

CANCELLING = ("second cancel", "endless cancels")


def is_wanted(kind: Kind, child: Child, end: str) -> bool:
    if kind.name == "transaction" or end == "error":
        return True
    return child.name == "verb" and (kind.is_thorough or end in ("timeout", "second cancel"))


def matrix() -> list[Any]:
    """Return every child and end of a transaction, and enough of both for the other kinds."""
    return [
        pytest.param(kind, child, end, id=f"{kind.name}-{child.name}-{name}")
        for kind in kinds_of()
        for child in children_of(kind)
        for name, end in FAILING_ENDS.items()
        if is_wanted(kind, child, name)
    ]


async def check_isolation(stage: Stage, *, is_lost: bool) -> None:
    """Check that the isolation has all that was done before the block, or says that it is lost."""
    if is_lost:
        with pytest.raises(TransactionAborted):
            await stage.create("more")
        return
    strangers = await stage.serve_strangers()
    names = await stage.Item.query.order_by("name").values_list("name", flat=True)
    assert list(names) == ["before", *strangers]


async def play(stage: Stage, kind: Kind, child: Child | None, end: End) -> Run:
    """Run the block to its end, and check what it leaves."""
    before = ["before"]
    async with kind.isolate(stage):
        await stage.create("before")

        async def run_block() -> Run:
            run = Run(stage, kind, child)
            await end(run)
            await run.settle()
            return run

        run = await kind.call(run_block)
        if kind.is_isolated:
            before = []
            await check_isolation(
                stage, is_lost=not (child is None or child.can_be_interrupted(stage))
            )
    stage.watcher.release()
    await stage.check(*before)
    assert run.seconds < LONGEST
    return run


# SQLAlchemy's own remark about a session whose transaction was ended by the block around it.
@pytest.mark.filterwarnings("ignore:transaction already deassociated")
@pytest.mark.parametrize(("kind", "child", "end"), matrix())
async def test_what_ended_the_block_leaves_it(
    stage: Stage, kind: Kind, child: Child, end: End
) -> None:
    (await play(stage, kind, child, end)).check_child()


@pytest.mark.parametrize("end", CANCELLING)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_a_block_without_children_that_is_cancelled_twice(
    stage: Stage, kind: Kind, end: str
) -> None:
    await play(stage, kind, None, FAILING_ENDS[end])


@pytest.mark.parametrize("name", ["joined connection", "joined session", "savepoint"])
async def test_a_child_that_is_between_two_statements_of_its_own_block(
    stage: Stage, name: str
) -> None:
    run = Run(stage, KINDS["transaction"], CHILDREN[name])

    async def let_it_finish() -> None:
        stage.watcher.release()
        await run.pause.is_reached.wait()

    run.on_ending = let_it_finish
    await FAILING_ENDS["error"](run)
    await run.settle()

    assert type(run.child_error) is TransactionClosed
    assert run.seconds < LONGEST
    await stage.check()


async def gather_with(stage: Stage, other: Callable[[], Awaitable[object]]) -> None:
    async with stage.models.transaction():
        creates = (stage.create(f"item {number}") for number in range(20))
        await asyncio.gather(other(), *creates)


async def fail_soon() -> None:
    await asyncio.sleep(0.002)
    raise BlockError


async def test_a_gather_in_which_something_else_fails(stage: Stage) -> None:
    for _ in range(10):
        with pytest.raises(BlockError):
            await gather_with(stage, fail_soon)
    await stage.check()


async def test_a_gather_in_which_a_statement_fails(stage: Stage) -> None:
    await stage.create("seed")
    for _ in range(10):
        with pytest.raises(IntegrityError):
            await gather_with(stage, partial(stage.create, "seed"))
    await stage.check("seed")


async def test_a_child_whose_statement_waits_in_line_never_sends_it(stage: Stage) -> None:
    run = Run(stage, KINDS["transaction"], CHILDREN["verb"])
    waiting: list[asyncio.Task[object]] = []

    async def start_another() -> None:
        waiting.append(asyncio.ensure_future(stage.create("waiting")))
        await asyncio.sleep(0)

    run.on_ending = start_another

    await FAILING_ENDS["cancel"](run)
    await run.settle()

    with pytest.raises(TransactionClosed):
        await asyncio.wait_for(waiting[0], 2)
    run.check_child()
    await stage.check()


async def test_the_isolated_connection_stays(stage: Stage) -> None:
    child = CHILDREN["reading verb" if stage.is_sqlite else "verb"]

    async def ask() -> object:
        async with stage.models.connection() as connection:
            if stage.is_sqlite:
                return await driver_of(connection)
            return (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()

    async with stage.models.rollback():
        await stage.create("before")
        connection = await ask()
        for name in FAILING_ENDS:
            run = Run(stage, KINDS["transaction"], child)
            await FAILING_ENDS[name](run)
            await run.settle()
            stage.watcher.release()
            run.check_child()
        assert await ask() == connection
        assert [item.name for item in await stage.Item.query.all()] == ["before"]
    await stage.check()


# -- a server that does not answer


@pytest.fixture
async def silent_stage(
    postgres_url: str, proxy: Proxy, other_process: OtherProcess
) -> AsyncIterator[Stage]:
    async with open_stage(postgres_url, other_process, through=proxy.url_for(postgres_url)) as it:
        yield it
        proxy.set_mode("pass")


@pytest.mark.parametrize("child", ["verb", "execute", "savepoint"])
@pytest.mark.parametrize("end", FAILING_ENDS)
async def test_a_silent_server_is_waited_for_at_most_two_seconds(
    silent_stage: Stage, proxy: Proxy, child: str, end: str
) -> None:
    run = Run(silent_stage, KINDS["transaction"], CHILDREN[child])
    run.on_ending = partial(asyncio.to_thread, proxy.set_mode, "stall")

    await FAILING_ENDS[end](run)

    assert run.seconds < (0.5 if end in CANCELLING else LONGEST)
    await run.settle()
    run.check_child()
    proxy.set_mode("pass")
    silent_stage.watcher.release()
    await silent_stage.check()


async def test_a_silent_server_aborts_the_blocks_around_a_savepoint(
    silent_stage: Stage, proxy: Proxy
) -> None:
    with pytest.raises(TransactionAborted):
        async with silent_stage.models.transaction():
            await silent_stage.create("outer")
            run = Run(silent_stage, KINDS["transaction"], CHILDREN["verb"])
            run.on_ending = partial(asyncio.to_thread, proxy.set_mode, "stall")
            await FAILING_ENDS["error"](run)
            proxy.set_mode("pass")
            with pytest.raises(TransactionAborted):
                await silent_stage.create("more")
    await run.settle()
    silent_stage.watcher.release()
    await silent_stage.check()


async def test_a_statement_of_sqlite_that_cannot_be_interrupted(sqlite_stage: Stage) -> None:
    # One step of it takes as long as it likes: SQLite looks at an interrupt between two steps.
    sqlite_stage.watcher.step = 60.0  # type: ignore[attr-defined]
    run = Run(sqlite_stage, KINDS["transaction"], CHILDREN["verb"])

    await FAILING_ENDS["error"](run)

    assert run.seconds < LONGEST
    sqlite_stage.watcher.release()
    await run.settle()
    run.check_child()
    await sqlite_stage.check()
