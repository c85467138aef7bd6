"""Translation of Alembic's errors: Alembic is not installed, or refuses a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from asgi_dbconn.errors import ConfigurationError, MigrationError
from asgi_dbconn.pools.driver_errors import driver_error

__all__ = ["describe_error", "is_refusal", "translate_errors"]


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn refusals of Alembic in the block into errors of this package.

    Raises ConfigurationError if Alembic is not installed, and MigrationError in place of its
    CommandError.
    """
    if find_spec("alembic") is None:
        raise ConfigurationError(
            'Migrations need Alembic, which is not installed: pip install "asgi-dbconn[migrations]"'
        )
    try:
        yield
    except Exception as error:
        if isinstance(error, MigrationError) or not is_refusal(error):
            raise
        raise MigrationError(describe_error(error)) from error


def is_refusal(error: BaseException) -> bool:
    """Return whether ``error`` is a refusal of Alembic, or of this package in its place."""
    from alembic.util import CommandError

    return isinstance(error, CommandError | MigrationError)


def describe_error(error: BaseException) -> str:
    """Return the text of an error as a sentence; with its class, unless it is a refusal."""
    original = driver_error(error) or error
    text = BaseException.__str__(original).rstrip(". ")
    return f"{text}." if is_refusal(error) else f"{type(original).__name__}: {text}."
