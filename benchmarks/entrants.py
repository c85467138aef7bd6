"""Who takes part in `queries`: the names of the contenders, and the programs that play them."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks import peers
from benchmarks.programs import Program

__all__ = [
    "DJANGO",
    "DRIVER",
    "EDGY",
    "MAPPERS",
    "OURS",
    "OWN",
    "PICCOLO",
    "SESSION",
    "TORTOISE",
    "TUNED",
    "existing",
    "programs",
]

DRIVER: Final = "asyncpg pool, no objects"
OURS: Final = "asgi-dbconn"
SESSION: Final = "SQLAlchemy session"
TUNED: Final = "SQLAlchemy session, tuned"
PICCOLO: Final = "Piccolo"
TORTOISE: Final = "Tortoise ORM"
EDGY: Final = "Edgy"
DJANGO: Final = "Django, in threads"

_OWN: Final[Mapping[str, Program]] = {
    DRIVER: Program(Path(sys.executable), "asyncpg_pool"),
    OURS: Program(Path(sys.executable), "dbconn"),
    SESSION: Program(Path(sys.executable), "sqlalchemy_session"),
    TUNED: Program(Path(sys.executable), "sqlalchemy_session", ["tuned"]),
}
_PEERS: Final = {PICCOLO: "piccolo", TORTOISE: "tortoise", EDGY: "edgy", DJANGO: "django"}
"""By contender: the environment, of which its program has the name."""

OWN: Final[Sequence[str]] = tuple(_OWN)
"""Those that live in our own environment."""
MAPPERS: Final[Sequence[str]] = (SESSION, TUNED, *_PEERS)
"""Those that we want to be faster than: whoever makes objects out of rows."""


def existing() -> Collection[str]:
    """Those that can start at once, because their environments were made before."""
    return [*OWN, *(name for name, peer in _PEERS.items() if peers.existing(peer))]


def programs(among: Collection[str] | None) -> dict[str, Program]:
    """The programs of these contenders (None: of all), in environments made where missing."""
    found = {name: entrant for name, entrant in _OWN.items() if among is None or name in among}
    for name, peer in _PEERS.items():
        if among is None or name in among:
            found[name] = Program(peers.python(peer), f"{peer}_orm")
    return found
