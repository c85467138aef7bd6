"""The report on the end of a database."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DrainReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """The end of a database in numbers, summed over its loops."""

    closed: int = 0
    """Connections closed in good order."""
    cancelled: int = 0
    """Connections still in use after the grace: their statement was cancelled on the server."""
    cut: int = 0
    """Connections whose network did not answer in time, or whose loop was gone."""

    def __str__(self) -> str:
        return f"{self.closed} closed, {self.cancelled} cancelled, {self.cut} cut"

    def __add__(self, other: DrainReport) -> DrainReport:
        return DrainReport(
            closed=self.closed + other.closed,
            cancelled=self.cancelled + other.cancelled,
            cut=self.cut + other.cut,
        )
