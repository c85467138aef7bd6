"""What ended a block leaves it, whatever the clean-up meets.

A commit that was cancelled or cut off raises what ended it, with a note: its outcome is unknown.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text

from asgi_dbconn import ConnectionLost
from tests.blocks.children import connection_of
from tests.blocks.ends import BlockError
from tests.blocks.kinds import KINDS, Handle, Kind, kinds_of
from tests.blocks.other_process import OtherProcess
from tests.blocks.stage import INSERT, Stage, open_stage
from tests.support.proxy import Proxy

SHORT = {
    False: text("SELECT pg_sleep(0.005)"),
    True: text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 15000) "
        "SELECT count(*) FROM n"
    ),
}


async def query(stage: Stage) -> None:
    await stage.models.database.run(
        lambda connection: connection.execute(SHORT[stage.is_sqlite]), autocommit=False
    )


async def _single(stage: Stage) -> None:
    async with stage.models.transaction():
        for _ in range(4):
            await query(stage)


async def _gathered(stage: Stage) -> None:
    async with stage.models.transaction():
        await asyncio.gather(*(query(stage) for _ in range(4)))


async def _grouped(stage: Stage) -> None:
    async with stage.models.transaction(), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(query(stage))


async def _nested(stage: Stage) -> None:
    async with stage.models.transaction():
        for _ in range(4):
            async with stage.models.transaction():
                await query(stage)


async def _session(stage: Stage) -> None:
    async with stage.models.session() as session:
        for _ in range(4):
            await session.execute(SHORT[stage.is_sqlite])


async def _gathered_in_a_session(stage: Stage) -> None:
    async with stage.models.session():
        await asyncio.gather(*(query(stage) for _ in range(4)))


async def _left_alone(stage: Stage) -> None:
    tasks: list[asyncio.Task[None]] = []
    try:
        async with stage.models.connection():
            tasks += [asyncio.create_task(query(stage)) for _ in range(4)]
            await asyncio.sleep(0.01)
    finally:
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    "work",
    [_single, _gathered, _grouped, _nested, _session, _gathered_in_a_session, _left_alone],
)
async def test_a_timeout_at_any_moment_is_a_timeout(
    stage: Stage, work: Callable[[Stage], Awaitable[None]]
) -> None:
    chance, ends = random.Random(1), Counter[str]()

    async def one() -> None:
        try:
            async with asyncio.timeout(chance.random() * 0.04):
                await work(stage)
        except BaseException as error:
            ends[f"{type(error).__name__}: {error}"] += 1

    for _ in range(15):
        await asyncio.gather(*(one() for _ in range(2)))
    assert set(ends) <= {"TimeoutError: "}, ends
    await stage.check()


@pytest.mark.parametrize("kind", kinds_of(isolated=False), ids=lambda kind: kind.name)
@pytest.mark.parametrize("is_silent", [False, True], ids=["killed", "killed under a statement"])
async def test_a_lost_connection_does_not_replace_the_error_of_the_block(
    postgres_stage: Stage, kind: Kind, is_silent: bool
) -> None:
    stage, error = postgres_stage, BlockError()

    async def body(handle: Handle) -> None:
        await stage.create("own")
        if is_silent:
            stage.watcher.hold()
            task = asyncio.create_task(stage.create("slow"))
            task.add_done_callback(lambda ended: ended.exception())
            await stage.until_held()
        stage.postgres.terminate()
        raise error

    with pytest.raises(BlockError) as caught:
        await kind.run(stage, body)
    assert caught.value is error
    stage.watcher.release()
    await stage.check()


@pytest.mark.parametrize("kind", kinds_of(isolated=False), ids=lambda kind: kind.name)
async def test_a_lost_connection_does_not_replace_a_cancellation(
    postgres_stage: Stage, kind: Kind
) -> None:
    stage = postgres_stage

    async def body(handle: Handle) -> None:
        await stage.create("own")
        stage.postgres.terminate()
        limit.reschedule(asyncio.get_running_loop().time())
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(None) as limit:
            await kind.run(stage, body)
    assert type(caught.value) is TimeoutError
    await stage.check()


async def test_a_cut_network_does_not_replace_the_error_of_the_block(
    postgres_url: str, proxy: Proxy, other_process: OtherProcess
) -> None:
    url = proxy.url_for(postgres_url)
    async with open_stage(postgres_url, other_process, through=url) as stage:
        for kind in ("transaction", "session", "connection", "savepoint"):

            async def body(handle: Handle) -> None:
                await stage.create("own")
                await asyncio.to_thread(proxy.reset_connections)
                raise BlockError

            with pytest.raises(BlockError):
                await KINDS[kind].run(stage, body)
        await stage.check()


async def test_what_the_clean_up_met_is_a_note(postgres_stage: Stage) -> None:
    stage = postgres_stage
    with pytest.raises(BlockError) as caught:
        async with stage.models.transaction():
            await stage.create("own")
            stage.postgres.terminate()
            raise BlockError
    assert getattr(caught.value, "__notes__", [])
    await stage.check()


# -- commits whose outcome is unknown

DEFERRED = """
CREATE FUNCTION wait_at_commit() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.name = 'late' THEN PERFORM held(); END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON items DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_at_commit();
"""
COMMITTING = ("transaction", "session", "connection", "run_transaction", "joined session")


class Commit:
    """A block whose COMMIT waits on the server."""

    def __init__(self, stage: Stage, kind: Kind) -> None:
        self.called: list[str] = []
        self.error: BaseException | None = None
        self._stage = stage
        self._kind = kind
        self.task: asyncio.Task[None]

    @property
    def notes(self) -> str:
        return "\n".join(getattr(self.error, "__notes__", []))

    async def start(self) -> None:
        """Return when the COMMIT is under way."""
        self._stage.watcher.hold()
        self.task = asyncio.create_task(self._run())
        await self._stage.until_held()

    async def _run(self) -> None:
        async def body(handle: Handle) -> None:
            await self._stage.create("late")
            async with self._stage.models.transaction() as transaction:
                transaction.on_commit(lambda: self.called.append("called"))

        try:
            await self._kind.run(self._stage, body)
        except BaseException as error:
            self.error = error
            raise


@asynccontextmanager
async def committing(stage: Stage, kind: str) -> AsyncIterator[Commit]:
    """Start a commit; after the block, check what is said of it."""
    stage.postgres.execute(DEFERRED)
    commit = Commit(stage, KINDS[kind])
    await commit.start()
    yield commit
    stage.watcher.release()
    assert "unknown" in commit.notes
    assert commit.called == []
    assert stage.stats.unknown_commits == 1


@pytest.mark.parametrize("kind", COMMITTING)
async def test_a_cancelled_commit(postgres_stage: Stage, kind: str) -> None:
    async with committing(postgres_stage, kind) as commit:
        commit.task.cancel()
        await asyncio.wait({commit.task}, timeout=3)
        assert commit.task.cancelled()
    stored = [name for name in postgres_stage.watcher.names() if name == "late"]
    await postgres_stage.check(*stored)


@pytest.mark.parametrize("kind", COMMITTING)
async def test_a_commit_that_takes_too_long(postgres_stage: Stage, kind: str) -> None:
    async with committing(postgres_stage, kind) as commit:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(commit.task, 0.05)
        assert isinstance(commit.error, asyncio.CancelledError)


@pytest.mark.parametrize("kind", COMMITTING)
async def test_a_commit_whose_backend_is_killed(postgres_stage: Stage, kind: str) -> None:
    async with committing(postgres_stage, kind) as commit:
        postgres_stage.postgres.terminate()
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(commit.task, 3)
    await postgres_stage.check()


@pytest.mark.parametrize("kind", ["transaction", "run_transaction"])
async def test_a_commit_whose_network_is_cut(
    postgres_url: str, proxy: Proxy, other_process: OtherProcess, kind: str
) -> None:
    url = proxy.url_for(postgres_url)
    async with open_stage(postgres_url, other_process, through=url) as stage:
        async with committing(stage, kind) as commit:
            await asyncio.to_thread(proxy.reset_connections)
            with pytest.raises(ConnectionLost):
                await asyncio.wait_for(commit.task, 3)


async def test_a_commit_by_hand_that_is_cancelled(postgres_stage: Stage) -> None:
    stage = postgres_stage
    stage.postgres.execute(DEFERRED)
    errors: list[BaseException] = []

    async def commit() -> None:
        async with stage.models.session() as session:
            await session.execute(INSERT, {"name": "late"})
            try:
                await session.commit()
            except BaseException as error:
                errors.append(error)
                raise

    stage.watcher.hold()
    task = asyncio.create_task(commit())
    await stage.until_held()
    task.cancel()
    await asyncio.wait({task}, timeout=3)
    assert task.cancelled()
    assert "unknown" in "\n".join(getattr(errors[0], "__notes__", []))
    assert stage.stats.unknown_commits == 1


async def test_no_cancelled_block_has_stored_in_silence(stage: Stage) -> None:
    called: list[str] = []
    loud: set[str] = set()
    unknown: set[str] = set()

    async def store(name: str) -> None:
        try:
            async with stage.models.transaction() as transaction:
                await stage.create(name)
                transaction.on_commit(lambda: called.append(name))
        except asyncio.CancelledError as error:
            notes = "\n".join(getattr(error, "__notes__", [])).lower()
            if "commit" in notes:
                loud.add(name)
            if "unknown" in notes:
                unknown.add(name)
            raise

    ended_well: set[str] = set()
    for number in range(120):
        task = asyncio.create_task(store(f"item {number}"))
        for _ in range(number % 40):
            await asyncio.sleep(0 if number % 3 else 0.0002)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            ended_well.add(f"item {number}")
    stored = set(stage.watcher.names())
    # A block may also be cancelled after its commit, while its connection is given back.
    assert ended_well <= stored
    assert set(called) <= stored
    assert stored <= ended_well | loud | set(called)
    assert stage.stats.unknown_commits == len(unknown)
    await stage.check(*stored)


async def test_a_commit_that_is_refused_is_not_unknown(postgres_stage: Stage) -> None:
    stage: Any = postgres_stage
    stage.postgres.execute(
        "CREATE TABLE parents (id INT PRIMARY KEY);"
        "CREATE TABLE children (id INT REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
    )
    with pytest.raises(Exception, match="foreign key") as caught:
        async with stage.models.transaction() as transaction:
            connection = await connection_of(transaction.connection)
            await connection.execute(text("INSERT INTO children VALUES (1)"))
    assert "unknown" not in "\n".join(getattr(caught.value, "__notes__", []))
    assert stage.stats.unknown_commits == 0
    await stage.check()
