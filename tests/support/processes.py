"""Whether a process runs, for those that are not our own children."""

from __future__ import annotations

from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether the process exists and has not ended; Linux only."""
    try:
        # A process that nobody has waited for is still listed, but it has ended.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
