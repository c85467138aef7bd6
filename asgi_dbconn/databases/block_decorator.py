"""Blocks as decorators of async functions: each call runs in a block of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, ParamSpec, TypeAlias, TypeVar

__all__ = ["AsyncFunction", "in_block"]

P = ParamSpec("P")
T = TypeVar("T")

AsyncFunction: TypeAlias = Callable[P, Coroutine[Any, Any, T]]
Block = AbstractAsyncContextManager[Any] | AbstractContextManager[Any]


def in_block(function: AsyncFunction[P, T], make_block: Callable[[], Block]) -> AsyncFunction[P, T]:
    """Return ``function``, whose every call runs inside a new block of ``make_block``.

    Raises TypeError for what is no async function.
    """
    _require_async_function(function)

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        block = make_block()
        if isinstance(block, AbstractContextManager):
            with block:
                return await function(*args, **kwargs)
        async with block:
            return await function(*args, **kwargs)

    return call


def _require_async_function(function: Any) -> None:
    if iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__):
        return
    name = getattr(function, "__qualname__", repr(function))
    if isasyncgenfunction(function):
        problem = "is an async generator, whose block would be open while others run"
    elif isgeneratorfunction(function):
        problem = "is a generator"
    else:
        problem = "is not `async def`, so the block would end before its queries are awaited"
    raise TypeError(
        f"A block decorates an async function, and {name} {problem}. "
        "Open the block inside of it with `async with`."
    )
