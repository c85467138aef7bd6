"""What a health check says: values that may be shown to anybody who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["DatabaseHealth", "HealthReport"]


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """How one database answered."""

    is_healthy: bool
    seconds: float | None = None
    """From the question to the answer, acquiring a connection included; None without an answer."""
    reason: str = ""
    """The name and code of the error; never its text, which may name hosts."""
    is_optional: bool = False
    """Whether the application goes on without it."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All databases of a registry at one moment, by name; the default's is None."""

    databases: Mapping[str | None, DatabaseHealth]

    @property
    def is_healthy(self) -> bool:
        """Whether every database answered that the application cannot do without."""
        return all(each.is_healthy or each.is_optional for each in self.databases.values())

    @property
    def degraded(self) -> tuple[str | None, ...]:
        """The names of the optional databases that did not answer."""
        return tuple(
            name
            for name, each in self.databases.items()
            if each.is_optional and not each.is_healthy
        )

    @property
    def status(self) -> Literal["healthy", "degraded", "unhealthy"]:
        """In one word; ``degraded`` is without some of the optional databases."""
        if not self.is_healthy:
            return "unhealthy"
        return "degraded" if self.degraded else "healthy"

    def __bool__(self) -> bool:
        return self.is_healthy
