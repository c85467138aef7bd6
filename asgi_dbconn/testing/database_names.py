"""The names of test databases: unique, and with the name of the original and the worker."""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import Final, Self

from asgi_dbconn.errors import ConfigurationError

__all__ = ["RUN_VARIABLE", "Mark", "database_name"]

RUN_VARIABLE: Final = "ASGI_DBCONN_TEST_RUN"
"""The environment variable with the name of the test run, for the processes that it starts."""

_LIMIT: Final = 63
"""Bytes of a name that PostgreSQL keeps; it cuts off the rest without an error."""

_MAKER: Final = "asgi_dbconn.testing"
_OWN_RUN: Final = secrets.token_hex(16)


@dataclass(frozen=True)
class Mark:
    """The mark stored with a test database: only a marked one is dropped as a left-over."""

    run: str = field(default_factory=lambda: os.environ.get(RUN_VARIABLE, _OWN_RUN))
    """The test run that made it: all workers of pytest-xdist together, or this process."""
    made: float = field(default_factory=time.time)

    @property
    def text(self) -> str:
        return f"{_MAKER} {json.dumps(asdict(self))}"

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        """Return the mark in ``text``; None if it is not one of ours."""
        maker, _, rest = (text or "").partition(" ")
        if maker != _MAKER:
            return None
        try:
            values = json.loads(rest)
            return cls(run=str(values["run"]), made=float(values["made"]))
        except (KeyError, TypeError, ValueError):
            return None

    def is_left_over(self, older_than: float, now: float) -> bool:
        return now - self.made >= older_than


def database_name(prefix: str, database: str, worker: str | None) -> str:
    """Return a new name of at most 63 bytes; only ``database`` is cut off if it is too long.

    Raises ConfigurationError if ``prefix`` is so long that the rest does not fit.
    """
    end = "".join(f"_{part}" for part in (worker, secrets.token_hex(4)) if part)
    room = _LIMIT - len(f"{prefix}{end}".encode())
    if room < 1:
        raise ConfigurationError(
            f"The prefix {prefix!r} is too long: a test database's whole name has at most {_LIMIT} "
            "bytes. Choose a shorter prefix."
        )
    return f"{prefix}{database.encode()[:room].decode(errors='ignore')}{end}"
