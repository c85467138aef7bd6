"""Waiting for a change of state that another task makes, in whatever loop or thread."""

from __future__ import annotations

import asyncio

from asgi_dbconn.databases.reference_count import Outcome

__all__ = ["outcome_of", "same_again"]


async def outcome_of(outcome: Outcome) -> BaseException | None:
    """Return what went wrong, or None. A cancelled waiter does not cancel what the others await."""
    return await asyncio.shield(asyncio.wrap_future(outcome))


def same_again(error: BaseException) -> BaseException:
    """Return a copy for each waiter: one exception raised in several tasks mixes up tracebacks."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy
