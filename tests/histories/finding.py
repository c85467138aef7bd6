"""One broken promise, as the judge says it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """A symptom and what it looked like in this history."""

    symptom: str
    """The same for the same kind of fault, whatever the program was."""
    detail: str

    def __str__(self) -> str:
        return f"{self.symptom}: {self.detail}"
