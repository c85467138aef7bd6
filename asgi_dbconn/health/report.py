"""The results of a health check: values that may be shown to every caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["DatabaseHealth", "HealthReport"]


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """The health of one database."""

    is_healthy: bool
    seconds: float | None = None
    """Duration of the ping, with acquiring a connection; None without an answer."""
    reason: str = ""
    """The name and code of the error; never its text, which may name hosts."""
    is_optional: bool = False
    """True if the application runs without this database."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """All databases of a registry at one moment, by name; the default's is None."""

    databases: Mapping[str | None, DatabaseHealth]

    @property
    def is_healthy(self) -> bool:
        """True if every database answered that is not optional."""
        return all(health.is_healthy or health.is_optional for health in self.databases.values())

    @property
    def degraded(self) -> tuple[str | None, ...]:
        """The names of the optional databases that did not answer."""
        return tuple(
            name
            for name, health in self.databases.items()
            if health.is_optional and not health.is_healthy
        )

    @property
    def status(self) -> Literal["healthy", "degraded", "unhealthy"]:
        """The health in one word; ``degraded`` means that only optional databases are missing."""
        if not self.is_healthy:
            return "unhealthy"
        return "degraded" if self.degraded else "healthy"

    def __bool__(self) -> bool:
        return self.is_healthy
