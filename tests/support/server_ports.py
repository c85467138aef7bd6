"""On which ports the processes of a group listen, for servers that do not tell; Linux only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LISTENS: Final = "0A"


def listening_ports(group: int) -> set[int]:
    """The TCP ports on which a process of the process group `group` listens, over IPv4."""
    ports = _listening_sockets()
    return {ports[inode] for inode in _sockets_of(group) if inode in ports}


def _listening_sockets() -> dict[str, int]:
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9]: int(row[1].partition(":")[2], 16) for row in rows if row[3] == _LISTENS}


def _sockets_of(group: int) -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        # Any process may end while we look at it.
        try:
            if os.getpgid(int(process.name)) != group:
                continue
            names = [_target(descriptor) for descriptor in (process / "fd").iterdir()]
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            continue
        for name in names:
            if name.startswith("socket:["):
                yield name.removeprefix("socket:[").removesuffix("]")


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return ""
