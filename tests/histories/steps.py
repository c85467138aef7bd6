"""The language of the programs: requests of steps and blocks, and the faults that meet them.

Every program is plain data: it can be made from a seed, sent to another process, cut down, and
printed as Python. Tokens name rows and are never used for a second row; each written value is
written by one step only, so a row says by itself who wrote it last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

__all__ = [
    "Abandon", "Attempt", "Block", "BlockKind", "BulkCreate", "BulkUpdate", "Cancel", "Change",
    "Compute", "Count", "Create", "CutCommit", "Database", "Delete", "Family", "Fault", "Forsake",
    "Gather", "Get", "Group", "Hold", "Increment", "Kill", "Load", "Network", "New", "OnCommit",
    "Program", "Raise", "Raw", "RawDoor", "Refresh", "Remove", "Request", "Rerun", "RollBack",
    "Save", "SessionAdd", "SessionCommit", "SessionRollback", "Sleep", "Slow", "Spawn", "Step",
    "Steps", "Stream", "Terminate", "Timeout", "Update", "Violate", "bodies", "replace_bodies",
    "walk",
]  # fmt: skip

Database: TypeAlias = Literal["sqlite", "postgresql"]
BlockKind: TypeAlias = Literal["transaction", "connection", "session"]
RawDoor: TypeAlias = Literal["connection", "session", "driver"]


@dataclass(frozen=True)
class Create:
    """``Item.query.create()``."""

    token: str
    value: int


@dataclass(frozen=True)
class BulkCreate:
    tokens: tuple[str, ...]
    value: int


@dataclass(frozen=True)
class BulkUpdate:
    """``Item.query.bulk_update()`` of objects that were changed."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Update:
    """UPDATE of one row that every request may change."""

    token: str
    value: int


@dataclass(frozen=True)
class Remove:
    """DELETE of one row by its token."""

    token: str


@dataclass(frozen=True)
class Increment:
    """Add one to a counter in a single statement."""

    counter: int


@dataclass(frozen=True)
class Compute:
    """Read a counter, wait, and write one more; inside of ``transaction()`` only."""

    counter: int
    pause: float


@dataclass(frozen=True)
class New:
    """An object that is not stored yet. Nothing is sent."""

    name: str
    token: str
    value: int


@dataclass(frozen=True)
class Family:
    """A new object with two new ones related to it."""

    name: str
    token: str
    value: int


@dataclass(frozen=True)
class Load:
    """Get the object of a row."""

    name: str
    token: str


@dataclass(frozen=True)
class Change:
    """Set a field. Nothing is sent."""

    name: str
    value: int


@dataclass(frozen=True)
class Save:
    name: str


@dataclass(frozen=True)
class Delete:
    name: str


@dataclass(frozen=True)
class Refresh:
    name: str


@dataclass(frozen=True)
class Get:
    token: str


@dataclass(frozen=True)
class Count:
    pass


@dataclass(frozen=True)
class Slow:
    """A statement that takes some time on the server."""

    seconds: float


@dataclass(frozen=True)
class Violate:
    """An INSERT that the server refuses: the token exists."""

    token: str


@dataclass(frozen=True)
class Raw:
    """An INSERT on the handle of the innermost block, past the query layer."""

    door: RawDoor
    token: str
    value: int


@dataclass(frozen=True)
class SessionAdd:
    token: str
    value: int


@dataclass(frozen=True)
class SessionCommit:
    pass


@dataclass(frozen=True)
class SessionRollback:
    pass


@dataclass(frozen=True)
class RollBack:
    """``rollback()`` of the innermost transaction block."""


@dataclass(frozen=True)
class OnCommit:
    mark: str


@dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclass(frozen=True)
class Raise:
    """An error of the application."""


@dataclass(frozen=True)
class Forsake:
    """A transaction of the driver's own, on a connection of the engine, that is never ended."""

    token: str
    how: Literal["sql", "driver"]


@dataclass(frozen=True)
class Abandon:
    """A task that leaves an async generator, which streams, after its first row."""

    rows: int


@dataclass(frozen=True)
class Stream:
    """``Item.query.stream(rows)``: ``body`` runs after the first row, then the rest is read."""

    rows: int
    body: Steps


@dataclass(frozen=True)
class Block:
    """A scope. ``force_rollback`` is for transactions only."""

    kind: BlockKind
    body: Steps
    force_rollback: bool = False
    isolation: Literal["SERIALIZABLE"] | None = None


@dataclass(frozen=True)
class Rerun:
    """``run_transaction()``."""

    body: Steps
    isolation: Literal["SERIALIZABLE"] | None = None


@dataclass(frozen=True)
class Gather:
    branches: tuple[Steps, ...]


@dataclass(frozen=True)
class Group:
    """A TaskGroup."""

    branches: tuple[Steps, ...]


@dataclass(frozen=True)
class Spawn:
    """A task that is created and not awaited."""

    body: Steps


@dataclass(frozen=True)
class Attempt:
    """``try: ... except Exception: pass``."""

    body: Steps


@dataclass(frozen=True)
class Timeout:
    seconds: float
    body: Steps


Step: TypeAlias = (
    Create | BulkCreate | BulkUpdate | Update | Remove | Increment | Compute | New | Family | Load
    | Change | Save | Delete | Refresh | Get | Count | Slow | Violate | Raw | SessionAdd
    | SessionCommit | SessionRollback | RollBack | OnCommit | Sleep | Raise | Forsake | Abandon
    | Stream | Block | Rerun | Gather | Group | Spawn | Attempt | Timeout
)  # fmt: skip
Steps: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True)
class Cancel:
    """Cancel the ``task``-th task that a request starts (0: itself) in its ``at``-th await.

    ``again``: once more, so many awaits later. ``after``: seconds between the await and the call.
    """

    request: int
    task: int
    at: int
    after: float = 0.0
    again: int | None = None


@dataclass(frozen=True)
class Kill:
    """Terminate one backend at the ``at``-th await of the whole program."""

    at: int
    which: int


@dataclass(frozen=True)
class Network:
    """Disturb the network for some time; ``cut`` breaks all connections once."""

    mode: Literal["stall", "refuse", "cut"]
    at: int
    seconds: float = 0.0


@dataclass(frozen=True)
class CutCommit:
    """Break the connection at the ``nth`` COMMIT: before the server gets it, or its answer."""

    nth: int
    when: Literal["before", "after"]


@dataclass(frozen=True)
class Hold:
    """Another program locks the rows against writers for some time."""

    at: int
    seconds: float


@dataclass(frozen=True)
class Terminate:
    """SIGTERM to the second process, at its ``at``-th await."""

    at: int
    graceful: bool


Fault: TypeAlias = Cancel | Kill | Network | CutCommit | Hold | Terminate


@dataclass(frozen=True)
class Request:
    """What one task of the application does; ``process`` 1 is another process."""

    body: Steps
    process: int = 0


@dataclass(frozen=True)
class Program:
    seed: int
    database: Database
    pool_size: int
    requests: tuple[Request, ...]
    faults: tuple[Fault, ...] = ()
    query_timeout: float | None = None

    @property
    def needs_worker(self) -> bool:
        return any(request.process for request in self.requests)

    @property
    def needs_proxy(self) -> bool:
        return any(isinstance(fault, Network | CutCommit) for fault in self.faults)


def bodies(step: Step) -> tuple[Steps, ...]:
    """Return the sequences of steps inside ``step``."""
    if isinstance(step, Gather | Group):
        return step.branches
    if isinstance(step, Stream | Block | Rerun | Spawn | Attempt | Timeout):
        return (step.body,)
    return ()


def replace_bodies(step: Step, inner: tuple[Steps, ...]) -> Step:
    """Return a container like ``step`` around other sequences."""
    if isinstance(step, Gather | Group):
        return replace(step, branches=inner)
    if isinstance(step, Stream | Block | Rerun | Spawn | Attempt | Timeout):
        return replace(step, body=inner[0])
    return step


def walk(steps: Steps) -> list[Step]:
    """Return all steps, containers before their contents."""
    found: list[Step] = []
    for step in steps:
        found.append(step)
        for body in bodies(step):
            found += walk(body)
    return found
