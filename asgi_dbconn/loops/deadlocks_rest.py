"""Objections to blocking a loop, by those who hold something there that others will wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

__all__ = ["Objection", "object_to_blocking", "objection_to_blocking"]

Objection = Callable[[asyncio.AbstractEventLoop, Awaitable[Any]], str | None]
"""Asked for the loop that would stand still and the awaitable that would run meanwhile: None, or
what is held there, as in "the transaction of database 'default'"."""

_objections: Final[list[Objection]] = []


def object_to_blocking(objection: Objection) -> None:
    """Ask ``objection`` whenever run_sync is about to block the loop that runs in its thread.

    It is called in that thread and in the context of the call, must not wait, and must be quick.
    """
    _objections.append(objection)


def objection_to_blocking(loop: asyncio.AbstractEventLoop, work: Awaitable[Any]) -> str | None:
    """Return the first objection, if any."""
    for objection in _objections:
        held = objection(loop, work)
        if held is not None:
            return held
    return None
