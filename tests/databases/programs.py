"""Programs of nested blocks made by chance, what they do, and what has to be left of them.

The expectation knows nothing of connections: a level is a transaction or a savepoint, a block that
joins has none of its own, and whatever goes wrong in a level spoils that level.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from asgi_dbconn import TransactionAborted
from tests.models import Cast

JOINING = ("connection", "session")
DEPTH = 4


class Failed(Exception):
    """How a block ends in an error; whoever is around it goes on."""


@dataclass(frozen=True)
class Create:
    name: str


@dataclass(frozen=True)
class FailingStatement:
    pass


@dataclass(frozen=True)
class RollBack:
    """By the handle of the transaction that it stands in."""


@dataclass(frozen=True)
class Gather:
    branches: tuple[Block, ...]


@dataclass(frozen=True)
class Block:
    kind: str
    number: int
    steps: tuple[Step, ...]
    fails: bool
    force_rollback: bool = False


Step = Create | FailingStatement | RollBack | Gather | Block


@dataclass
class Left:
    """What is there in the end: rows, and the blocks whose callbacks were called."""

    rows: set[str] = field(default_factory=set)
    called: set[int] = field(default_factory=set)

    def __ior__(self, other: Left) -> Left:
        self.rows |= other.rows
        self.called |= other.called
        return self


# -- by chance


def program(seed: int) -> tuple[Step, ...]:
    """The same for the same seed."""
    author = _Author(random.Random(seed))
    return sum((author.steps(DEPTH, inside=None, spoils=True) for _ in range(2)), ())


class _Author:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._numbers = count(1)

    def steps(self, depth: int, inside: str | None, *, spoils: bool) -> tuple[Step, ...]:
        return tuple(
            self._step(depth, inside, spoils=spoils) for _ in range(self._chance.randint(1, 4))
        )

    def _step(self, depth: int, inside: str | None, *, spoils: bool) -> Step:
        """``spoils``: whether what goes wrong may spoil the level that it is in. Siblings in a
        gather share one, and would notice it or not by chance.
        """
        chance = self._chance.random()
        if depth == 0 or chance < 0.35:
            return Create(f"u{next(self._numbers)}")
        if chance < 0.42 and spoils:
            return FailingStatement()
        if chance < 0.48 and inside == "transaction" and spoils:
            return RollBack()
        if chance < 0.6:
            branches = range(self._chance.randint(2, 4))
            apart = spoils and inside is None
            return Gather(tuple(self._block(depth - 1, inside, spoils=apart) for _ in branches))
        return self._block(depth - 1, inside, spoils=spoils)

    def _block(self, depth: int, inside: str | None, *, spoils: bool) -> Block:
        kind = self._chance.choice(("transaction", "transaction", *JOINING))
        joins = kind in JOINING and inside is not None
        may_fail = spoils or not joins
        return Block(
            kind,
            next(self._numbers),
            self.steps(depth, kind, spoils=may_fail),
            fails=may_fail and self._chance.random() < 0.3,
            force_rollback=kind == "transaction" and self._chance.random() < 0.15,
        )


# -- what has to be left


class _Spoilt(Exception):
    """The level cannot be committed any more; as TransactionAborted."""


class _Level:
    def __init__(self) -> None:
        self.left = Left()
        self.is_spoilt = False

    def use(self) -> None:
        if self.is_spoilt:
            raise _Spoilt


def expected(steps: tuple[Step, ...]) -> Left:
    """What a program leaves that is run outside of any scope."""
    left = Left()
    for step in steps:
        match step:
            case Create(name):
                left.rows.add(name)
            case Gather(branches):
                for branch in branches:
                    left |= expected((branch,))
            case Block():
                with contextlib.suppress(Failed, _Spoilt):
                    left |= _of_a_level_of_its_own(step)
            case FailingStatement() | RollBack():
                continue
    return left


def _of_a_level_of_its_own(block: Block) -> Left:
    level = _Level()
    _take_steps(block, level)
    if block.fails:
        raise Failed
    if block.force_rollback:
        return Left()
    level.use()
    if block.kind == "transaction":
        level.left.called.add(block.number)
    return level.left


def _take_steps(block: Block, level: _Level) -> None:
    for step in block.steps:
        with contextlib.suppress(Failed, _Spoilt):
            _take(step, level)


def _take(step: Step, level: _Level) -> None:
    match step:
        case RollBack():
            level.left, level.is_spoilt = Left(), False
            return
        case Create(name):
            level.use()
            level.left.rows.add(name)
        case FailingStatement():
            level.use()
            level.is_spoilt = True
        case Gather(branches):
            for branch in branches:
                with contextlib.suppress(Failed, _Spoilt):
                    _take(branch, level)
        case Block(kind) if kind in JOINING:
            level.use()
            _take_steps(step, level)
            if step.fails:
                level.is_spoilt = True
                raise Failed
        case Block():
            level.use()
            level.left |= _of_a_level_of_its_own(step)


# -- what is done


class Runner:
    """Runs programs on a database, and notes whose callbacks are called."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self.called: list[int] = []

    async def run(self, steps: tuple[Step, ...], handle: object = None) -> None:
        for step in steps:
            with _what_was_meant():
                await self._run(step, handle)

    async def left(self) -> Left:
        names = await self._cast.User.query.values_list("name", flat=True)
        return Left(set(names), set(self.called))

    async def _run(self, step: Step, handle: object) -> None:
        models = self._cast.models
        match step:
            case Create(name):
                await self._cast.User.query.create(name=name)
            case FailingStatement():
                await models.database.run(
                    lambda connection: connection.execute(text("SELECT * FROM nowhere")),
                    autocommit=True,
                )
            case RollBack():
                await handle.rollback()  # type: ignore[attr-defined]
            case Gather(branches):
                await asyncio.gather(*(self.run((branch,)) for branch in branches))
            case Block("transaction"):
                async with models.transaction(force_rollback=step.force_rollback) as transaction:
                    await self.run(step.steps, transaction)
                    # After the steps: one of them may be a rollback.
                    transaction.on_commit(partial(self.called.append, step.number))
                    _end(step)
            case Block(kind):
                async with getattr(models, kind)():
                    await self.run(step.steps)
                    _end(step)


def _end(block: Block) -> None:
    if block.fails:
        raise Failed


@contextmanager
def _what_was_meant() -> Iterator[None]:
    try:
        yield
    except (Failed, TransactionAborted):
        return
    except DBAPIError as error:
        if "nowhere" not in str(error):
            raise
