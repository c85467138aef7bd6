"""Counters of a pool, snapshots of its state, and the report of a drain."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

__all__ = ["Counters", "DrainReport", "PoolStats"]


@dataclass(slots=True)
class Counters:
    """The counts of one pool, made on its own loop only: no number is lost between threads."""

    acquired: int = 0
    wait_seconds: float = 0.0
    connects: int = 0
    connect_errors: int = 0
    lost: int = 0
    timeouts: int = 0
    overloads: int = 0
    retired: int = 0
    leaks: int = 0
    unclean: int = 0
    unknown_commits: int = 0

    def add(self, other: Counters) -> None:
        """Add the counts of ``other``, whose pool has ended."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStats:
    """One database at one moment, summed over its loops. A snapshot: it does not change."""

    loops: int = 0
    """Event loops on which it has a pool."""
    size: int = 0
    """Connections that it may have on these loops."""
    idle: int = 0
    """Connections that are open and not in use."""
    in_use: int = 0
    """Connections acquired, or being opened for a task."""
    waiting: int = 0
    """Acquires in the queue."""
    acquired: int = 0
    """Connections acquired since the process began; the fields below count from there, too."""
    wait_seconds: float = 0.0
    """Seconds that acquires have spent in the queue, all together."""
    connects: int = 0
    """Physical connections opened."""
    connect_errors: int = 0
    """Attempts to open one that failed."""
    lost: int = 0
    """Connections that died: noticed by a statement, or by the check of an idle one."""
    timeouts: int = 0
    """Acquires that ended in PoolTimeout."""
    overloads: int = 0
    """Acquires that ended in PoolOverloaded."""
    retired: int = 0
    """Connections replaced for their age, or because of ``refresh()``."""
    leaks: int = 0
    """Connections that were not released within ``leak_after``."""
    unclean: int = 0
    """Connections that came back with a transaction or a statement still open on them."""
    unknown_commits: int = 0
    """Commits that were cancelled or cut off: whether they took effect is not known."""
    transient_uses: int = 0
    """Verbs and scopes that opened an engine for themselves: the database was not connected."""

    def __add__(self, other: Self) -> PoolStats:
        return PoolStats(
            **{
                field.name: getattr(self, field.name) + getattr(other, field.name)
                for field in fields(self)
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """The end of a database in numbers, summed over its loops."""

    closed: int = 0
    """Connections closed in good order."""
    cancelled: int = 0
    """Connections still in use after the grace: their statement was cancelled on the server."""
    cut: int = 0
    """Connections whose network did not answer in time, or whose loop was gone."""

    def __str__(self) -> str:
        return f"{self.closed} closed, {self.cancelled} cancelled, {self.cut} cut"

    def __add__(self, other: DrainReport) -> DrainReport:
        return DrainReport(
            closed=self.closed + other.closed,
            cancelled=self.cancelled + other.cancelled,
            cut=self.cut + other.cut,
        )
