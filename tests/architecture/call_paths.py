"""The files of the package that a call runs through, and the moves between them.

``python -m tests.architecture.call_paths`` prints both for ``run_sync`` under a running loop and
for an awaited query. A move is a call into another file than the call before it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import Queryable, Registry, run_sync
from tests.architecture.layers import PACKAGE

models = Registry("sqlite://")


class Base(Queryable, DeclarativeBase, registry=models):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


@dataclass
class CallPath:
    """Calls inside the package, in the order in which they happen in all threads."""

    files: list[str] = field(default_factory=list)

    @property
    def distinct(self) -> int:
        return len(set(self.files))

    @property
    def moves(self) -> int:
        pairs = zip(self.files, self.files[1:], strict=False)
        return sum(file != previous for previous, file in pairs)

    def record(self, frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in path.parents:
            self.files.append(str(path.relative_to(PACKAGE)))


@contextmanager
def recorded(path: CallPath) -> Iterator[None]:
    """Record the calls of this thread, and of those that it starts, into ``path``."""
    before = sys.getprofile()
    threading.setprofile(path.record)
    sys.setprofile(path.record)
    try:
        yield
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


async def nothing() -> None:
    """Leave only the way there and back."""


async def path_of_run_sync() -> CallPath:
    """Return the path of the third call: the first two make the subloop and warm up."""
    path = CallPath()
    with recorded(path):
        for _ in range(3):
            path.files.clear()
            run_sync(nothing())
        return CallPath(list(path.files))  # without the end of the subloop


async def path_of_query() -> CallPath:
    path = CallPath()
    async with models:
        await models.create_all()
        with recorded(path):
            for _ in range(3):
                path.files.clear()
                await User.query.filter(name="Ada")
            return CallPath(list(path.files))


if __name__ == "__main__":
    for name, find in (("run_sync", path_of_run_sync), ("query", path_of_query)):
        path = asyncio.run(find())
        print(f"{name}: {path.distinct} files, {path.moves} moves, {len(path.files)} calls")
