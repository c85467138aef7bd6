"""Fifty customers of the bank at once: what they ask for, what is right, and what they leave."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise
from typing import Any, Final

from tests.servers.watching import name_in, sessions
from tests.support.postgres import PostgresServer
from tests.support.servers import ServerProcess
from tests.support.waiting import wait_until

CUSTOMERS: Final = 50
ACCOUNTS: Final = 10
BALANCE: Final = 1000
TOO_MUCH: Final = ACCOUNTS * BALANCE + 1
OWNERS: Final = [f"owner {number}" for number in range(ACCOUNTS)]


@dataclass(frozen=True)
class Errand:
    """One request, and what its answer must say besides the status."""

    method: str
    path: str
    status: int = HTTPStatus.OK
    key: str | None = None
    value: object = None

    def is_done_by(self, status: int, said: dict[str, Any]) -> bool:
        """Whether that is the right answer."""
        if status != self.status or self.key is None:
            return status == self.status
        found = said[self.key]
        if isinstance(found, list):  # others have opened accounts in the meantime
            return found[:ACCOUNTS] == self.value
        return bool(0 < found <= ACCOUNTS * BALANCE)


def errands(count: int, prefixes: Sequence[str] = ("",)) -> list[Errand]:
    """``count`` of them, of every kind in turn; ``prefixes`` are where names and transfers live."""
    found: list[Errand] = []
    for number in range(count):
        prefix = prefixes[number // 5 % len(prefixes)]
        giver, taker = number % ACCOUNTS + 1, (number * 3 + 1) % ACCOUNTS + 1
        if giver == taker:
            taker = taker % ACCOUNTS + 1
        transfer = f"{prefix}/transfer/{giver}/{taker}"
        found.append(
            [
                Errand("GET", f"{prefix}/names", key="names", value=OWNERS),
                Errand("GET", f"/balance/{giver}", key="balance"),
                Errand("POST", f"/open/customer {number}", key="id"),
                Errand("POST", f"{transfer}/1", key="left"),
                Errand("POST", f"{transfer}/{TOO_MUCH}", HTTPStatus.CONFLICT),
            ][number % 5]
        )
    return found


@dataclass(frozen=True)
class Day:
    """What was seen while all of them were served."""

    answers: list[dict[str, Any]]
    wrong: list[str]
    """The answers that are not right, in words."""
    samples: list[set[int]]
    """The sessions that the database had, every now and then."""

    @property
    def most(self) -> int:
        """How many there were at most."""
        return max(map(len, self.samples))

    @property
    def most_staying(self) -> int:
        """The same without those that were only saying goodbye: a session ends on the server a
        moment later than for its client, who may have opened another one by then.
        """
        return max(len(before & after) for before, after in pairwise(self.samples))

    def values(self, key: str) -> list[Any]:
        """What the answers say under ``key``, each value once."""
        found: list[Any] = []
        for answer in self.answers:
            if answer[key] not in found:
                found.append(answer[key])
        return found


def open_the_bank(postgres: PostgresServer, url: str) -> None:
    """Create the accounts that the customers' errands are about."""
    postgres.execute(
        f"""
        CREATE TABLE accounts (
            id serial PRIMARY KEY, name text NOT NULL UNIQUE, balance int NOT NULL);
        INSERT INTO accounts (name, balance)
        SELECT 'owner ' || number, {BALANCE} FROM generate_series(0, {ACCOUNTS - 1}) number
        """,
        database=name_in(url),
    )


def serve(
    server: ServerProcess,
    postgres: PostgresServer,
    url: str,
    todo: Sequence[Errand],
    workers: int = 1,
) -> Day:
    """Run all errands, ``CUSTOMERS`` at once, and look at the database meanwhile.

    It begins when each of ``workers`` processes has answered once, which counts too.
    """
    answers: list[dict[str, Any]] = []
    wrong: list[str] = []
    samples: list[set[int]] = []

    def run(errand: Errand) -> None:
        response = server.request(errand.method, errand.path)
        said = response.json() if "json" in response.headers.get("Content-Type", "") else {}
        if errand.is_done_by(response.status_code, said):
            answers.append(said)
        else:
            wrong.append(f"{errand}: {response.status_code} {response.text}")

    with ThreadPoolExecutor(CUSTOMERS, "test-customer") as customers:

        def all_work() -> bool:
            list(customers.map(run, [Errand("GET", "/names")] * CUSTOMERS))
            return bool(wrong) or len({answer["worker"] for answer in answers}) >= workers

        wait_until(all_work, 20, message=lambda: f"{workers} workers answer:\n{server.log}")
        running = [customers.submit(run, errand) for errand in todo]
        pending = set(running)
        while pending:
            samples.append({session.pid for session in sessions(postgres, url)})
            pending = wait(pending, timeout=0.02).not_done
    for future in running:
        future.result()
    return Day(answers, wrong, samples)


def books(postgres: PostgresServer, url: str) -> dict[str, int]:
    """Everybody's balance, as the database has it."""
    rows = postgres.fetch("SELECT name, balance FROM accounts", database=name_in(url))
    return {row["name"]: row["balance"] for row in rows}


def expected_books(done: Sequence[Errand]) -> dict[str, int]:
    """Everybody's balance once all of ``done`` are done."""
    balances = dict.fromkeys(OWNERS, BALANCE)
    for errand in done:
        if errand.path.startswith("/open/"):
            balances[errand.path.removeprefix("/open/")] = 0
        elif "/transfer/" in errand.path and errand.status == HTTPStatus.OK:
            giver, taker, amount = map(int, errand.path.split("/")[-3:])
            balances[OWNERS[giver - 1]] -= amount
            balances[OWNERS[taker - 1]] += amount
    return balances
