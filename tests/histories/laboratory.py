"""Run programs one after another: prepare, run, disturb, look, judge."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.histories.errors import Finding
from tests.histories.judge import Evidence, judge
from tests.histories.log import Entry, Log
from tests.histories.network import BreakingProxy
from tests.histories.product import Product, ProductRunner
from tests.histories.runner import Place
from tests.histories.steps import CutCommit, Database, Hold, Kill, Network, Program
from tests.histories.witness import PostgreSQLWitness, Snapshot, SQLiteWitness, Witness
from tests.histories.worker import Worker
from tests.support.postgres import PostgresServer

__all__ = ["Laboratory", "Verdict", "laboratory"]

_QUIET: Final = 2.0
"""Seconds in which connections that are closed in the background have to be gone."""
_ATTEMPTS: Final = 6
"""Writes of a stranger after a network broke; each may meet one connection that is gone."""


@dataclass(frozen=True)
class Verdict:
    """One history and what is wrong with it."""

    program: Program
    entries: list[Entry]
    findings: list[Finding]

    @property
    def symptoms(self) -> set[str]:
        return {finding.symptom for finding in self.findings}


class Laboratory:
    """A database of one kind, and registries for it that are used again and again."""

    def __init__(
        self, url: str, witness: Witness, worker: Worker, proxy: BreakingProxy | None
    ) -> None:
        self._url = url
        self._witness = witness
        self._worker = worker
        self._proxy = proxy
        self._products: dict[tuple[str, int, float | None], Product] = {}

    def run(self, program: Program) -> Verdict:
        """Execute the program on fresh tables and judge it."""
        self._witness.reset()
        if self._proxy is not None and program.needs_proxy:
            self._proxy.set_mode("pass")
            self._proxy.plan_cuts(
                [
                    (fault.nth, fault.when)
                    for fault in program.faults
                    if isinstance(fault, CutCommit)
                ]
            )
        if program.needs_worker:
            self._worker.start(program, self._url)
        log, evidence = Log(), Evidence()
        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(lambda *_: None)
            runner.run(self._history(program, log, evidence))
        return Verdict(program, log.entries, judge(program, log.entries, evidence))

    def look(self) -> Snapshot:
        """Return what everybody can see now."""
        return self._witness.look()

    async def _history(self, program: Program, log: Log, evidence: Evidence) -> None:
        witness = self._witness
        product = self._product(program)
        runner = ProductRunner(product, program, log)
        outside = runner.outside()
        await product.models.connect()
        try:
            self._plan_faults(program, runner, log)
            await runner.run()
            self._heal(program, log)
            if program.needs_worker:
                log.entries += await asyncio.to_thread(self._worker.wait)
            await asyncio.to_thread(witness.release)
            await self._strangers(runner, program, outside)
            evidence.open_transactions = await asyncio.to_thread(witness.wait_for_quiet, _QUIET)
            evidence.can_write = await asyncio.to_thread(witness.can_write)
            evidence.before_saving = witness.look()
            runner.describe_objects("before")
            await self._save_all(runner, outside)
            runner.describe_objects("after")
            evidence.at_the_end = witness.look()
        finally:
            await product.models.disconnect()
        evidence.can_write_after_disconnect = await asyncio.to_thread(witness.can_write)

    def _product(self, program: Program) -> Product:
        url = self._url
        if self._proxy is not None and program.needs_proxy:
            url = self._proxy.url_for(url)
        key = (url, program.pool_size, program.query_timeout)
        if key not in self._products:
            self._products[key] = Product(*key)
        return self._products[key]

    # -- faults

    def _plan_faults(self, program: Program, runner: ProductRunner, log: Log) -> None:
        for fault in program.faults:
            if isinstance(fault, Kill):
                runner.at_await(fault.at, self._killing(fault, runner, log))
            elif isinstance(fault, Hold):
                runner.at_await(fault.at, self._holding(fault, log))
            elif isinstance(fault, Network):
                runner.at_await(fault.at, self._disturbing(fault, runner, log))

    def _killing(self, fault: Kill, runner: ProductRunner, log: Log) -> Callable[[], None]:
        def kill() -> None:
            doing = list(runner.doing())
            what = self._witness.kill(fault.which)
            if what is not None:
                log.write("killed", what=what, doing=doing)

        return kill

    def _holding(self, fault: Hold, log: Log) -> Callable[[], None]:
        def hold() -> None:
            log.write("held", seconds=fault.seconds)
            self._witness.hold(fault.seconds)

        return hold

    def _disturbing(self, fault: Network, runner: ProductRunner, log: Log) -> Callable[[], None]:
        proxy = self._proxy
        if proxy is None:
            raise RuntimeError("a program disturbs a network that there is not")

        def disturb() -> None:
            log.write("network", mode=fault.mode, doing=list(runner.doing()))
            if fault.mode == "cut":
                proxy.reset_connections()
                return
            proxy.set_mode(fault.mode)
            loop = asyncio.get_running_loop()
            loop.call_later(fault.seconds, proxy.set_mode, "pass")

        return disturb

    def _heal(self, program: Program, log: Log) -> None:
        if self._proxy is not None and program.needs_proxy:
            self._proxy.set_mode("pass")
            for when in self._proxy.cuts:
                log.write("cut at a commit", when=when)
            self._proxy.plan_cuts([])

    # -- afterwards

    async def _strangers(self, runner: ProductRunner, program: Program, at: Place) -> None:
        """Requests that have done nothing wrong write through every connection of the pool."""
        is_disturbed = any(
            isinstance(fault, Kill | Network | CutCommit) for fault in program.faults
        )

        async def in_transaction(token: str) -> None:
            async with runner.models.transaction():
                await runner.create(token, 1)

        async def write(name: str, number: int, call: Callable[[str], Awaitable[Any]]) -> None:
            for attempt in range(_ATTEMPTS if is_disturbed else 1):
                token = f"{name} {number}.{attempt}"
                try:
                    await runner.operation(
                        at, f"stranger's {name}", [("put", token, 1)], partial(call, token)
                    )
                except Exception:
                    continue
                return
            runner.log.write("refused", name=name)

        ways: list[tuple[str, Callable[[str], Awaitable[Any]]]] = [
            ("create()", lambda token: runner.create(token, 1)),
            ("transaction", in_transaction),
            ("save()", lambda token: runner.save_new(token, 1)),
        ]
        for name, call in ways:
            await asyncio.gather(
                *(write(name, number, call) for number in range(program.pool_size))
            )

    async def _save_all(self, runner: ProductRunner, at: Place) -> None:
        for name in runner.objects:
            try:
                await runner.save(name, at, as_operation="final save")
            except Exception:
                continue


@contextmanager
def laboratory(
    database: Database, folder: Path, server: PostgresServer | None = None
) -> Iterator[Laboratory]:
    """A place to run programs on a database of that kind."""
    with ExitStack() as stack:
        worker = stack.enter_context(Worker(folder))
        if database == "sqlite":
            file = folder / "histories.sqlite"
            small = SQLiteWitness(file)
            stack.callback(small.close)
            yield Laboratory(f"sqlite:///{file}", small, worker, None)
            return
        if server is None:
            server = stack.enter_context(PostgresServer())
        url = stack.enter_context(server.database("histories"))
        large = PostgreSQLWitness(url)
        stack.callback(large.close)
        large.prepare()
        proxy = stack.enter_context(BreakingProxy(server.host, server.port))
        yield Laboratory(url, large, worker, proxy)
        gc.collect()
