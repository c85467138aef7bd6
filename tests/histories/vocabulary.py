"""The kinds of steps and faults that programs are made of, and the rows that they start with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from tests.histories import steps as language
from tests.histories.steps import BlockKind

__all__ = ["BASE_TOKENS", "COUNTERS", "EVERYTHING", "PORTABLE", "Vocabulary"]

BASE_TOKENS: Final = tuple(f"base{number}" for number in range(72))
"""Rows that exist before the program: more than a driver fetches of a stream in one go."""
COUNTERS: Final = (1, 2)


@dataclass(frozen=True)
class Vocabulary:
    """The kinds of steps and faults that programs are made of."""

    steps: frozenset[str]
    faults: frozenset[str]
    blocks: tuple[BlockKind, ...] = ("transaction", "transaction", "connection", "session")
    has_options: bool = True
    """Whether blocks take ``force_rollback`` and isolation levels."""
    processes: int = 2
    tasks_in_blocks: bool = True

    def has(self, kind: str) -> bool:
        return kind in self.steps

    def without(self, kinds: Iterable[str]) -> Vocabulary:
        """Return one that lacks these kinds of steps and faults."""
        left_out = frozenset(kinds)
        return replace(self, steps=self.steps - left_out, faults=self.faults - left_out)

    def with_tasks_outside_of_blocks(self) -> Vocabulary:
        """Return one whose blocks start no tasks."""
        return replace(self, tasks_in_blocks=False)


_ALL_STEPS: Final = frozenset(
    name
    for name, kind in vars(language).items()
    if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__")
)
_ALL_FAULTS: Final = frozenset(
    {"Cancel", "Kill", "Network", "CutCommit", "Hold", "Terminate"},
)
EVERYTHING: Final = Vocabulary(_ALL_STEPS, _ALL_FAULTS)
PORTABLE: Final = Vocabulary(
    frozenset({
        *("Create", "Update", "Remove", "Increment", "Compute", "Get", "Count", "Slow", "Violate"),
        *("Sleep", "Raise", "Block", "Gather", "Group", "Spawn", "Attempt", "Timeout"),
    }),
    frozenset({"Cancel", "Kill"}),
    blocks=("transaction",),
    has_options=False,
    processes=1,
)  # fmt: skip
"""What every object mapper can say: transactions, rows and tasks."""
