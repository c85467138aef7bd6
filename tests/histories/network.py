"""A network that can break between a COMMIT and its answer."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final, Literal

from tests.support.proxy import Proxy
from tests.support.proxy_link import Link

__all__ = ["BreakingProxy"]

_COMMIT: Final = re.compile(rb"COMMIT[;\0]")
"""At the end of a statement: READ COMMITTED is none."""


@dataclass
class _Plan:
    """The COMMIT at which the connection is to break; counted over all connections."""

    nth: int
    when: Literal["before", "after"]
    seen: int = 0


class BreakingProxy(Proxy):
    """Breaks one connection at a COMMIT: before the server gets it, or when it has answered."""

    def __init__(self, target_host: str, target_port: int) -> None:
        super().__init__(target_host, target_port)
        self._plans: list[_Plan] = []
        self.cuts: list[str] = []
        """The cuts that have happened since `plan_cuts`."""

    def plan_cuts(self, cuts: list[tuple[int, Literal["before", "after"]]]) -> None:
        """Replace what was planned before."""
        self._plans = [_Plan(*cut) for cut in cuts]
        self.cuts = []

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        link = _BreakingLink(self, self._conditions, reader, writer)
        if self._mode == "reset":
            link.abort()
            return
        task = asyncio.get_running_loop().create_task(link.run(*self._target))
        self._links[task] = link
        task.add_done_callback(self._links.pop)

    def _decide(self, data: bytes) -> Literal["before", "after"] | None:
        if _COMMIT.search(data.upper()) is None:
            return None
        for plan in self._plans:
            plan.seen += 1
            if plan.seen == plan.nth:
                return plan.when
        return None


class _BreakingLink(Link):
    def __init__(self, proxy: BreakingProxy, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._proxy = proxy
        self._breaks_at_answer = False

    def _look_at(self, data: bytes, *, is_from_client: bool) -> None:
        if is_from_client:
            when = self._proxy._decide(data)
            if when == "after":
                self._breaks_at_answer = True
            elif when == "before":
                self._proxy.cuts.append("before")
                raise ConnectionResetError("cut before a COMMIT")
        elif self._breaks_at_answer:
            self._proxy.cuts.append("after")
            raise ConnectionResetError("cut before the answer to a COMMIT")
