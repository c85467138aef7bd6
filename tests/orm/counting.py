"""What something costs in calls of Python functions: the same on every machine."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import sqlalchemy

import asgi_dbconn

__all__ = ["calls", "calls_of_ours"]


def calls(work: Callable[[], Any]) -> int:
    """How many Python functions ``work`` calls, once it is warm, SQLAlchemy's own included."""
    count = -1  # `work` itself

    def profile(frame: Any, kind: str, _: Any) -> None:
        nonlocal count
        count += kind == "call"

    work()
    gc.collect()  # nothing of the first time is cleaned up during the second
    sys.setprofile(profile)
    try:
        result = work()
    finally:
        sys.setprofile(None)
    del result  # not before: taking an object apart calls functions, too
    return count


async def calls_of_ours(verb: Callable[[], Awaitable[Any]]) -> int:
    """How many functions of ours and of SQLAlchemy's ``verb`` calls or resumes, once it is warm.

    Not those of the event loop, which may have something else to do in between.
    """
    count = 0

    def profile(frame: Any, kind: str, _: Any) -> None:
        nonlocal count
        count += kind == "call" and frame.f_code.co_filename.startswith(_FOLDERS)

    for _ in range(3):
        await verb()
    gc.collect()
    sys.setprofile(profile)
    try:
        result = await verb()
    finally:
        sys.setprofile(None)
    del result
    return count


def _folder(module: Any) -> str:
    return f"{Path(module.__file__).resolve().parent}{os.sep}"


_FOLDERS: Final = (_folder(asgi_dbconn), _folder(sqlalchemy))
