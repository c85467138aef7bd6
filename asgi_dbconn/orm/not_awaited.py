"""The errors of a query that is used as if it were the list that it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

__all__ = ["NotAwaited"]


class NotAwaited:
    """The base that raises TypeError, with what to write instead, where ``await`` was forgotten."""

    __slots__ = ()

    if not TYPE_CHECKING:  # or type checkers would take it for a list, too

        def __iter__(self) -> Never:
            raise self._mistake(
                "cannot be iterated by a plain `for`, or unpacked",
                "Write `async for each in query:`, or `for each in await query:`.",
            )

        def __len__(self) -> Never:
            raise self._mistake("has no length", "Write `await query.count()`.")

        def __bool__(self) -> Never:
            raise self._mistake(
                "is neither true nor false",
                "Write `if await query.exists():`, or `if query is not None:`.",
            )

        def __getitem__(self, index: Any) -> Never:
            raise self._mistake(
                "has no items",
                "Write `await query.offset(3).first()`, or `await query.offset(3).limit(5)`.",
            )

        def __contains__(self, member: Any) -> Never:
            raise self._mistake(
                "contains nothing", "Write `await query.filter(pk=each.id).exists()`."
            )

        def __eq__(self, other: object) -> bool:
            # Two queries are the same or not, as anything else; a list is a sign of a mistake.
            if isinstance(other, list | tuple):
                raise self._mistake("is no list", "Compare what it gives: `await query == [...]`.")
            return NotImplemented

        __hash__ = object.__hash__

    def _mistake(self, what: str, remedy: str) -> TypeError:
        return TypeError(f"{self!r} {what}: it asks the database when it is awaited. {remedy}")
