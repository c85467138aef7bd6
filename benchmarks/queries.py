"""What our queries cost, next to the driver and to the object mappers that people know."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks import entrants
from benchmarks.contenders.work import CONNECTIONS, PAGE, USERS
from benchmarks.entrants import DRIVER
from benchmarks.harness import Comparison, Contender, Effort, Spent, compare_now, joined
from benchmarks.programs import Program, Running, keep_on_one_core, running
from benchmarks.query_findings import (
    CREATE,
    DISTANT,
    GET,
    GET_AT_ONCE,
    PAGE_OF_MANY,
    absence,
    loss_table,
    losses,
    ratio_table,
    round_trip_table,
    targets,
    version_table,
)
from benchmarks.report import Outcome
from benchmarks.targets import as_data, target_table
from benchmarks.users_table import UsersTable
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy

__all__ = ["run"]

_LATENCY: Final = 0.001
"""Seconds that the network takes in each direction."""
_COUNTED: Final = 20
"""Operations of which the round trips are counted."""


@dataclass(frozen=True, slots=True)
class Case:
    """What one comparison is about."""

    name: str
    operation: str
    title: str
    tasks: int = 1
    writes: bool = False


_NEAR: Final = (
    Case(GET, "get", "One user by primary key, one after another"),
    Case(GET_AT_ONCE, "get", f"One user by primary key, {CONNECTIONS} tasks", CONNECTIONS),
    Case(PAGE_OF_MANY, "page", f"{PAGE} users in the order of their keys"),
    Case("count", "count", f"Counting {USERS:,} users"),
    Case("update", "update", "Updating one user by primary key", writes=True),
    Case(CREATE, "create", "Creating a user, and learning the key", writes=True),
)
_FAR: Final = Case(
    DISTANT, "get", f"One user by primary key, {_LATENCY * 1000:g} ms of network in each direction"
)


@dataclass(frozen=True, slots=True)
class _Thoroughness:
    effort: Effort
    launches: int
    """A process has its luck with where its memory lies, for as long as it lives."""


_FULL: Final = _Thoroughness(Effort(rounds=15, batch=0.07), launches=2)
_QUICK: Final = _Thoroughness(Effort(rounds=3, batch=0.02), launches=1)


@dataclass(frozen=True, slots=True)
class _Launch:
    """What one life of the contenders' processes has told."""

    found: dict[str, Comparison]
    versions: dict[str, Mapping[str, str]]
    round_trips: dict[str, dict[str, float]]


def run(*, quick: bool, among: Collection[str] | None = None) -> Outcome:
    """Measure on a PostgreSQL server that is made for it, in processes that live over the run.

    A quick run waits for no environment to be made. ``among`` are the contenders that take part.
    """
    how = _QUICK if quick else _FULL
    if among is None and quick:
        among = entrants.existing()
    programs = entrants.programs(among)
    with PostgresServer() as server:
        (shown,) = server.fetch("SHOW server_version")
        # A server that somebody else runs may be anywhere.
        pid = None if server.is_external else server.pid
        together = pid is not None and keep_on_one_core(pid)
        launches = [_launch(server, programs, how.effort) for _ in range(how.launches)]
    first = launches[0]
    found = {name: joined([launch.found[name] for launch in launches]) for name in first.found}
    judged, lost = targets(found, first.round_trips), losses(found)
    findings = [
        ratio_table(found),
        round_trip_table(first.round_trips),
        loss_table(lost),
        target_table(judged),
        version_table(first.versions),
        absence(programs),
    ]
    return Outcome(
        list(found.values()),
        [finding for finding in findings if finding],
        {
            "postgresql": str(shown[0]),
            "users": USERS,
            "connections": CONNECTIONS,
            "latency": _LATENCY,
            "launches": how.launches,
            "one_core": together,
            "contenders": first.versions,
            "round_trips": first.round_trips,
            "losses": [asdict(finding) for finding in lost],
            "targets": as_data(judged),
        },
    )


def _launch(server: PostgresServer, programs: Mapping[str, Program], effort: Effort) -> _Launch:
    with server.database("benchmark") as url:
        table = UsersTable(server, url)
        with _checked(programs, url, table) as contenders:
            found = {case.name: _compare(case, contenders, table, effort) for case in _NEAR}
            versions = {name: contender.versions for name, contender in contenders.items()}
        # In processes of their own: nobody has to have two databases at a time.
        with Proxy(server.host, server.port) as proxy:
            with _checked(programs, proxy.url_for(url), table) as contenders:
                round_trips = {
                    name: _round_trips(contender, proxy) for name, contender in contenders.items()
                }
                proxy.delay(_LATENCY)
                found[DISTANT] = _compare(_FAR, contenders, table, effort)
    return _Launch(found, versions, round_trips)


@contextmanager
def _checked(
    programs: Mapping[str, Program], url: str, table: UsersTable
) -> Iterator[Mapping[str, Running]]:
    """All contenders, connected, after each has shown that it does what the others do."""
    with running(programs, url) as contenders:
        for name, contender in contenders.items():
            table.check(name, contender.check(table.KEY))
            table.restore()
        yield contenders


def _compare(
    case: Case, contenders: Mapping[str, Running], table: UsersTable, effort: Effort
) -> Comparison:
    return compare_now(
        case.title,
        [
            Contender(
                name,
                _turns(contender, case),
                # Twice the tasks, so that the end of a batch is not all of it.
                at_least=2 * case.tasks,
                undo=table.restored if case.writes else None,
            )
            for name, contender in contenders.items()
        ],
        effort,
        baseline=DRIVER,
    )


def _turns(contender: Running, case: Case) -> Callable[[int], Spent]:
    return lambda times: contender.do(case.operation, times, case.tasks)


def _round_trips(contender: Running, proxy: Proxy) -> dict[str, float]:
    counts = {}
    for case in _NEAR:
        if case.tasks == 1:
            # Statements are prepared, and connections that rested are asked, before it counts.
            contender.turns(case.operation, 1)
            with proxy.counting() as count:
                turns = contender.turns(case.operation, _COUNTED)
            counts[case.name] = count.round_trips / turns
    return counts
