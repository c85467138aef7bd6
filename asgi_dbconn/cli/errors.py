"""Errors of the package as a message and an exit code: 2 for a mistake of the user, else 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from asgi_dbconn.errors import ConfigurationError, DBConnError

__all__ = ["Failure", "Misuse", "report_errors"]


class Failure(click.ClickException):
    """An error that ends the command with a message: a correct command that did not succeed."""


class Misuse(Failure):
    """A mistake on the command line or in the user's code."""

    exit_code = 2


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn errors of this package into a :class:`Failure`; other errors are bugs, and propagate."""
    try:
        yield
    except DBConnError as error:
        raise _failure([error]) from error
    except BaseExceptionGroup as group:
        ours, others = group.split(DBConnError)
        if ours is None or others is not None:
            raise
        raise _failure(list(_leaves(ours))) from group


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for exception in error.exceptions:
            yield from _leaves(exception)
    else:
        yield error


def _failure(errors: list[BaseException]) -> Failure:
    is_mistake = all(isinstance(error, ConfigurationError) for error in errors)
    return (Misuse if is_mistake else Failure)("\n".join(map(str, errors)))
