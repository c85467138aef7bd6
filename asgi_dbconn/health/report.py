"""What a health check says: values that may be shown to anybody who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["DatabaseHealth", "HealthReport"]


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """How one database answered."""

    is_healthy: bool
    seconds: float | None = None
    """From the question to the answer, acquiring a connection included; None without an answer."""
    reason: str = ""
    """The name and code of the error; never its text, which may name hosts."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All databases of a registry at one moment, by name; the default's is None."""

    databases: Mapping[str | None, DatabaseHealth]

    @property
    def is_healthy(self) -> bool:
        """Whether every database answered."""
        return all(each.is_healthy for each in self.databases.values())

    def __bool__(self) -> bool:
        return self.is_healthy
