"""Call sites: the lines of the user's code that a warning is about.

A fixed ``stacklevel`` is wrong here: between that line and ours lie contextlib, SQLAlchemy, and
any number of awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from types import FrameType
from typing import Any, Final

import anyio
import greenlet
import sqlalchemy

__all__ = ["CallSite", "find_blamed_line", "find_call_site", "format_call_lines"]


def _folder(module: Any) -> str:
    return str(os.path.dirname(os.path.abspath(module.__file__))) + os.sep


_OURS: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
_DEMO: Final = os.path.join(_OURS, "demo") + os.sep
_BETWEEN: Final = (_folder(sqlalchemy), os.path.abspath(contextlib.__file__))
# Code that starts an awaitable in a task of its own: no line of the user awaits it.
_STARTERS: Final = (_folder(asyncio), _folder(anyio))


@dataclass(frozen=True, slots=True)
class CallSite:
    """A line of the user's code, kept without its frame, which would keep its variables alive."""

    filename: str
    line: int
    module_globals: dict[str, Any]

    def warn(self, message: str, category: type[Warning]) -> None:
        """Issue a warning there, subject to that module's filters and its once-per-line rule."""
        warnings.warn_explicit(
            message,
            category,
            self.filename,
            self.line,
            module=self.module_globals.get("__name__"),
            registry=self.module_globals.setdefault("__warningregistry__", {}),
        )


def find_blamed_line(call_site: CallSite | None) -> CallSite:
    """Return the line that awaits us; ``call_site`` if a task was started on the awaitable."""
    return _first_line(stop_at_starters=True) or call_site or find_call_site()


def find_call_site() -> CallSite:
    """Return the line that calls us; for a task started on us, the one that runs its loop."""
    return _first_line(stop_at_starters=False) or CallSite("<unknown>", 1, {})


def _first_line(*, stop_at_starters: bool) -> CallSite | None:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename.startswith(_STARTERS):
            if stop_at_starters:
                return None
        elif _is_users(filename):
            return CallSite(filename, frame.f_lineno, frame.f_globals)
        frame = frame.f_back
    return None


def format_call_lines(limit: int) -> str:
    """Return the user's lines that lead to us, the innermost last, as a traceback shows them.

    This works inside SQLAlchemy's greenlets, too: the stack goes on in the parent greenlet.
    """
    lines = (
        line
        for line in takewhile(_is_below_the_task, _lines_of_all_greenlets(sys._getframe(1)))
        if _is_users(line[0].f_code.co_filename)
    )
    summary = traceback.StackSummary.extract(islice(lines, limit), lookup_lines=False)
    summary.reverse()
    return "".join(summary.format()).rstrip()


def _lines_of_all_greenlets(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    current: greenlet.greenlet | None = greenlet.getcurrent()
    while current is not None:
        yield from traceback.walk_stack(frame)
        current = current.parent
        frame = current.gr_frame if current is not None else None
        if frame is None:
            return


def _is_below_the_task(line: tuple[FrameType, int]) -> bool:
    return not line[0].f_code.co_filename.startswith(_STARTERS)


def _is_users(filename: str) -> bool:
    ours = filename.startswith(_OURS) and not filename.startswith(_DEMO)
    return not (ours or filename.startswith(_BETWEEN))
