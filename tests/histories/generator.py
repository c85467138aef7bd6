"""Random programs, made without any knowledge of faults of the product.

Every kind of step that is possible at a place is about equally likely there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from typing import Final, Literal

from tests.histories import steps as language
from tests.histories.steps import Database, Fault, Program, Request, Step, Steps, bodies
from tests.histories.vocabulary import BASE_TOKENS, COUNTERS, EVERYTHING, Vocabulary

__all__ = ["generate"]

_CHANGED: Final = 8
"""So many of them are changed by all requests."""
_LONGEST_BODY: Final = 4
_CONTAINERS: Final = (0.7, 0.5, 0.4, 0.15)
"""Share of containers among the steps at each depth; deeper there are none."""
_ALWAYS: Final = frozenset({"Block", "Create", "Sleep"})
"""Kinds that no program does without, if there are any."""
_WEIGHTS: Final = {"Raise": 0.6, "Violate": 0.3, "Sleep": 2.5, "Block": 5.0, "Spawn": 2.0}
"""Other weights than 1: less of what ends a body, so that most programs come to more than that.

More of the time in which other tasks go on, and of what comes in several kinds.
"""
_CROSSING: Final = 0.4
"""Share of the updates in transactions that are two, of the rows that most requests want."""
_PAUSES: Final = (0.0, 0.002, 0.01, 0.03)
_TIMES: Final = (0.0005, 0.002, 0.005, 0.015)


def generate(seed: int, database: Database, vocabulary: Vocabulary = EVERYTHING) -> Program:
    """Make the program of ``seed``; the same for ever as long as this module is the same."""
    return _Author(seed, database, vocabulary).program()


@dataclass(frozen=True)
class _Place:
    """The surroundings of a step."""

    depth: int = 0
    block: str | None = None
    """The kind of the innermost block."""
    outermost: str | None = None
    is_own: bool = True
    """Whether the innermost block belongs to this task, and not to one that started it."""
    names: list[str] = field(default_factory=list)
    """Objects of this task."""
    families: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Not empty once the block, or one around it, has started other tasks."""


class _Author:
    def __init__(self, seed: int, database: Database, vocabulary: Vocabulary) -> None:
        self._seed = seed
        self._database = database
        self._random = random.Random(f"{database} {seed}")
        self._vocabulary = self._choose(vocabulary)
        self._values = count(100)
        self._tokens = count(1)
        self._names = count(1)
        self._marks = count(1)

    def _choose(self, vocabulary: Vocabulary) -> Vocabulary:
        # Swarm testing: half of the programs do without half of the kinds, so that those which are
        # left meet each other more often.
        kinds = sorted(vocabulary.steps | vocabulary.faults)
        dropped = [kind for kind in kinds if self._random.random() < 0.5]
        if self._random.random() < 0.5:
            return vocabulary
        return vocabulary.without(kind for kind in dropped if kind not in _ALWAYS)

    def program(self) -> Program:
        chance = self._random
        processes = self._vocabulary.processes if chance.random() < 0.15 else 1
        requests = tuple(
            Request(
                self._body(_Place(), chance.randint(1, _LONGEST_BODY)),
                process=chance.randrange(processes),
            )
            for _ in range(chance.randint(1, 4))
        )
        if all(request.process for request in requests):
            requests = (replace(requests[0], process=0), *requests[1:])
        program = Program(
            self._seed,
            self._database,
            chance.randint(1, 4),
            requests,
            # For SQLite longer: whoever waits for its lock looks at it only now and then.
            query_timeout=chance.choice((None, 4.0 if self._database == "sqlite" else 2.0)),
        )
        return replace(program, faults=self._faults(program))

    # -- faults

    def _faults(self, program: Program) -> tuple[Fault, ...]:
        chance = self._random
        possible: dict[str, Callable[[], Fault]] = {
            "Cancel": partial(self._cancel, program),
            "Hold": lambda: language.Hold(self._moment(), chance.choice((0.02, 0.1))),
        }
        if self._database == "postgresql":
            possible["Kill"] = lambda: language.Kill(self._moment(), chance.randrange(8))
            possible["Network"] = self._network
            possible["CutCommit"] = lambda: language.CutCommit(
                chance.randint(1, 4), chance.choice(("before", "after"))
            )
        if program.needs_worker:
            possible["Terminate"] = lambda: language.Terminate(
                self._moment(), chance.random() < 0.5
            )
        kinds = [kind for kind in possible if kind in self._vocabulary.faults]
        if not kinds:
            return ()
        weights = [4 if kind in ("Cancel", "Terminate") else 1 for kind in kinds]
        amount = chance.choice((0, 1, 2, 2, 3, 4))
        return tuple(possible[kind]() for kind in chance.choices(kinds, weights, k=amount))

    def _cancel(self, program: Program) -> Fault:
        chance = self._random
        request = chance.randrange(len(program.requests))
        tasks = _tasks_of(program.requests[request].body)
        task = chance.randrange(len(tasks))
        return language.Cancel(
            request=request,
            task=task,
            # A statement is about three awaits, with its connection and its commit.
            at=chance.randint(1, 3 * tasks[task] + 2),
            after=chance.choice((0.0, 0.0, 0.0005, 0.003, 0.015)),
            again=chance.choice((None, None, 1, 1, 2, 3)),
        )

    def _network(self) -> Fault:
        chance = self._random
        modes: tuple[Literal["stall", "refuse", "cut"], ...] = ("stall", "refuse", "cut")
        mode = chance.choice(modes)
        seconds = 0.0 if mode == "cut" else chance.choice((0.01, 0.1, 0.1, 0.5))
        if mode == "stall" and chance.random() < 0.05:
            seconds = 3.0
        return language.Network(mode, self._moment(), seconds)

    def _moment(self) -> int:
        # About as many early ones as late ones, however long the program is.
        return int(2 ** self._random.uniform(0, 6.5))

    # -- steps

    def _body(self, place: _Place, length: int) -> Steps:
        made: list[Step] = []
        for _ in range(length):
            made += self._step(place)
        return tuple(made)

    def _short_body(self, place: _Place, **changes: object) -> Steps:
        inner = replace(place, depth=place.depth + 1, **changes)  # type: ignore[arg-type]
        return self._body(inner, self._random.randint(1, _LONGEST_BODY - 1))

    def _step(self, place: _Place) -> list[Step]:
        chance = self._random
        makers: dict[str, Callable[[_Place], list[Step]]] = {
            "Create": self._create, "BulkCreate": self._bulk_create, "Update": self._update,
            "Remove": self._remove, "Increment": self._increment, "New": self._new,
            "Family": self._family, "Load": self._load, "Slow": self._slow,
            "Violate": self._violate, "Sleep": self._sleep, "Abandon": self._abandon,
            "Get": lambda _: [language.Get(self._base())],
            "Count": lambda _: [language.Count()],
            "Raise": lambda _: [language.Raise()],
        }  # fmt: skip
        if place.names or place.families:
            makers |= {"Save": self._save, "Change": self._change, "Refresh": self._refresh}
        if place.names:
            makers |= {"Delete": self._delete, "BulkUpdate": self._bulk_update}
        if place.block is None:
            makers["Forsake"] = self._forsake
        if place.outermost == "transaction" and not place.others:
            # Two tasks of one transaction may well read before either of them writes.
            makers["Compute"] = self._compute
        if place.block is not None and (place.is_own or place.block == "transaction"):
            makers["Raw"] = self._raw
        if place.is_own and place.block == "session":
            makers |= {
                "SessionAdd": lambda _: [language.SessionAdd(self._token(), next(self._values))],
                "SessionCommit": lambda _: [language.SessionCommit()],
                "SessionRollback": lambda _: [language.SessionRollback()],
            }
        if place.is_own and place.block == "transaction":
            makers["RollBack"] = lambda _: [language.RollBack()]
            makers["OnCommit"] = lambda _: [language.OnCommit(f"mark{next(self._marks)}")]
        makers = {kind: maker for kind, maker in makers.items() if self._vocabulary.has(kind)}
        if place.depth < len(_CONTAINERS):
            containers: dict[str, Callable[[_Place], list[Step]]] = {
                "Stream": self._stream, "Block": self._block, "Rerun": self._rerun,
                "Gather": self._gather, "Group": self._group, "Spawn": self._spawn,
                "Attempt": self._attempt, "Timeout": self._timeout,
            }  # fmt: skip
            if chance.random() < _CONTAINERS[place.depth]:
                has_tasks = self._vocabulary.tasks_in_blocks or place.block is None
                containers = {
                    kind: maker
                    for kind, maker in containers.items()
                    if self._vocabulary.has(kind)
                    and (has_tasks or kind not in ("Gather", "Group", "Spawn"))
                }
                kinds = list(containers)
                (kind,) = chance.choices(kinds, [_WEIGHTS.get(kind, 1.0) for kind in kinds])
                return containers[kind](place)
        kinds = list(makers)
        (kind,) = chance.choices(kinds, [_WEIGHTS.get(kind, 1.0) for kind in kinds])
        return makers[kind](place)

    def _token(self) -> str:
        return f"row{next(self._tokens)}"

    def _create(self, _: _Place) -> list[Step]:
        return [language.Create(self._token(), next(self._values))]

    def _bulk_create(self, _: _Place) -> list[Step]:
        tokens = tuple(self._token() for _ in range(self._random.randint(2, 4)))
        return [language.BulkCreate(tokens, next(self._values))]

    def _update(self, place: _Place) -> list[Step]:
        chance = self._random
        if place.outermost != "transaction" or chance.random() > _CROSSING:
            return [language.Update(self._base(), next(self._values))]
        # In an order of its own: two of these may each wait for what the other has locked.
        first, second = chance.sample(BASE_TOKENS[:2], 2)
        return [
            language.Update(first, next(self._values)),
            language.Sleep(chance.choice(_PAUSES)),
            language.Update(second, next(self._values)),
        ]

    def _remove(self, _: _Place) -> list[Step]:
        return [language.Remove(self._base())]

    def _base(self) -> str:
        # Some rows are more popular than others, so that requests meet.
        numbers = range(_CHANGED)
        return BASE_TOKENS[min(self._random.choices(numbers, k=3))]

    def _increment(self, _: _Place) -> list[Step]:
        return [language.Increment(self._random.choice(COUNTERS))]

    def _compute(self, _: _Place) -> list[Step]:
        return [language.Compute(self._random.choice(COUNTERS), self._random.choice(_PAUSES))]

    def _new(self, place: _Place) -> list[Step]:
        name = f"x{next(self._names)}"
        place.names.append(name)
        new = language.New(name, self._token(), next(self._values))
        return [new, language.Save(name)] if self._random.random() < 0.7 else [new]

    def _family(self, place: _Place) -> list[Step]:
        name = f"x{next(self._names)}"
        place.families.append(name)
        return [language.Family(name, self._token(), next(self._values)), language.Save(name)]

    def _load(self, place: _Place) -> list[Step]:
        name = f"x{next(self._names)}"
        place.names.append(name)
        return [language.Load(name, self._base())]

    def _change(self, place: _Place) -> list[Step]:
        name = self._random.choice([*place.names, *place.families])
        change = language.Change(name, next(self._values))
        return [change, language.Save(name)] if self._random.random() < 0.7 else [change]

    def _save(self, place: _Place) -> list[Step]:
        return [language.Save(self._random.choice([*place.names, *place.families]))]

    def _delete(self, place: _Place) -> list[Step]:
        return [language.Delete(self._random.choice(place.names))]

    def _refresh(self, place: _Place) -> list[Step]:
        return [language.Refresh(self._random.choice([*place.names, *place.families]))]

    def _bulk_update(self, place: _Place) -> list[Step]:
        chance = self._random
        names = tuple(chance.sample(place.names, min(len(place.names), chance.randint(1, 2))))
        changes = [language.Change(name, next(self._values)) for name in names]
        return [*changes, language.BulkUpdate(names)]

    def _slow(self, _: _Place) -> list[Step]:
        return [language.Slow(self._random.choice((0.002, 0.01, 0.03)))]

    def _violate(self, _: _Place) -> list[Step]:
        return [language.Violate(self._base())]

    def _raw(self, place: _Place) -> list[Step]:
        doors = ["session" if place.block == "session" else "connection"]
        # Takes no turns with other tasks; in the other blocks it may come before any BEGIN.
        if place.is_own and not place.others and place.outermost == "transaction":
            doors.append("driver")
        door = self._random.choice(doors)
        return [language.Raw(door, self._token(), next(self._values))]  # type: ignore[arg-type]

    def _sleep(self, _: _Place) -> list[Step]:
        return [language.Sleep(self._random.choice(_PAUSES))]

    def _forsake(self, _: _Place) -> list[Step]:
        return [language.Forsake(self._token(), self._random.choice(("sql", "driver")))]

    def _abandon(self, _: _Place) -> list[Step]:
        return [language.Abandon(self._random.randint(1, 3))]

    # -- containers

    def _stream(self, place: _Place) -> list[Step]:
        # A stream of its own is a scope without a handle.
        changes = {} if place.block else {"block": "stream", "outermost": "stream", "others": []}
        body = self._short_body(place, is_own=False, **changes)
        return [language.Stream(self._random.choice((1, 3, 20)), body)]

    def _block(self, place: _Place) -> list[Step]:
        chance = self._random
        kind = chance.choice(self._vocabulary.blocks)
        outermost = place.outermost or kind
        changes: dict[str, object] = {} if place.block else {"others": []}
        body = self._short_body(place, block=kind, outermost=outermost, is_own=True, **changes)
        if kind != "transaction" or not self._vocabulary.has_options:
            return [language.Block(kind, body)]
        is_outermost = place.block is None and self._database == "postgresql"
        serializable = is_outermost and chance.random() < 0.2
        return [
            language.Block(
                kind,
                body,
                force_rollback=chance.random() < 0.08,
                isolation="SERIALIZABLE" if serializable else None,
            )
        ]

    def _rerun(self, place: _Place) -> list[Step]:
        outermost = place.outermost or "transaction"
        # The function gets no handle.
        changes: dict[str, object] = {} if place.block else {"others": []}
        body = self._short_body(place, block="rerun", outermost=outermost, is_own=False, **changes)
        serializable = (
            place.block is None and self._database == "postgresql" and self._random.random() < 0.5
        )
        return [language.Rerun(body, "SERIALIZABLE" if serializable else None)]

    def _branches(self, place: _Place) -> tuple[Steps, ...]:
        place.others.append("branches")
        # The handle of a block is for one task at a time, so one branch may have it.
        return tuple(
            self._short_body(
                place,
                is_own=False,
                names=[],
                families=[],
                block=place.block if number == 0 or place.block is None else "shared",
            )
            for number in range(self._random.randint(2, 3))
        )

    def _gather(self, place: _Place) -> list[Step]:
        return [language.Gather(self._branches(place))]

    def _group(self, place: _Place) -> list[Step]:
        return [language.Group(self._branches(place))]

    def _spawn(self, place: _Place) -> list[Step]:
        block = None if place.block is None else "shared"
        place.others.append("spawned")
        return [
            language.Spawn(
                self._short_body(place, is_own=False, names=[], families=[], block=block)
            )
        ]

    def _attempt(self, place: _Place) -> list[Step]:
        return [language.Attempt(self._short_body(place))]

    def _timeout(self, place: _Place) -> list[Step]:
        return [language.Timeout(self._random.choice(_TIMES), self._short_body(place))]


def _tasks_of(body: Steps) -> list[int]:
    """Return for each task of a request how many steps it has, its own first."""
    own = 0
    others: list[int] = []
    for step in body:
        own += 1
        for inner in bodies(step):
            first, *rest = _tasks_of(inner)
            if isinstance(step, language.Gather | language.Group | language.Spawn):
                others.append(first)
            else:
                own += first
            others += rest
    return [own, *others]
