"""Count the awaits of a coroutine, and say what it is waiting for."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, Final, TypeVar

__all__ = ["counted", "statement_of"]

T = TypeVar("T")

_SQL_NAMES: Final = ("query", "sql", "statement", "operation", "statements", "arguments")
"""Names that drivers and their adapters give to SQL."""
_VERBS: Final = frozenset({
    "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SELECT", "INSERT", "UPDATE", "DELETE",
    "WITH", "SET", "PRAGMA",
})  # fmt: skip
_ENDS: Final = {"commit": "COMMIT", "rollback": "ROLLBACK", "begin_transaction": "BEGIN"}
"""Methods of drivers that send such a statement themselves."""


@types.coroutine
def counted(
    coroutine: Coroutine[Any, Any, T], on_await: Callable[[], None]
) -> Generator[Any, Any, T]:
    """Run ``coroutine`` and call ``on_await`` whenever it has begun to wait.

    The task stays the same, and so do its context and the errors that are thrown in.
    """
    thrown: list[BaseException] = []
    while True:
        try:
            # Held by nobody here while it is on its way: its traceback holds connections.
            waiting = coroutine.throw(thrown.pop()) if thrown else coroutine.send(None)
        except StopIteration as finished:
            result: T = finished.value
            return result
        on_await()
        try:
            yield waiting
        except BaseException as error:
            thrown.append(error)


def _frames(waiting: Any) -> Iterator[types.FrameType]:
    while waiting is not None:
        for frame_name, next_name in (
            ("cr_frame", "cr_await"),
            ("gi_frame", "gi_yieldfrom"),
            ("ag_frame", "ag_await"),
        ):
            if hasattr(waiting, frame_name):
                frame = getattr(waiting, frame_name)
                if frame is not None:
                    yield frame
                waiting = getattr(waiting, next_name)
                break
        else:
            return


def statement_of(coroutine: Any) -> str | None:
    """Return the first word of the SQL that ``coroutine`` waits for, if it waits for any."""
    found = None
    for frame in _frames(coroutine):
        if frame.f_globals.get("__name__", "").startswith("tests."):
            continue
        for text in _texts(frame):
            word = text.split(None, 1)[0].strip(";").upper() if text.strip() else ""
            if word in _VERBS:
                found = word  # of the innermost function, in the end
        if frame.f_code.co_name in _ENDS:
            found = _ENDS[frame.f_code.co_name]
    return found


def _texts(frame: types.FrameType) -> Iterator[str]:
    for name in _SQL_NAMES:
        value = frame.f_locals.get(name)
        for text in value if isinstance(value, tuple | list) else (value,):
            if isinstance(text, str):
                yield text
