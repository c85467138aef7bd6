"""`make conformance` tells how every wrapper did in every scenario, ours and the incumbents'."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asgi_dbconn.testing.conformance import CHECKS
from tests.conformance.incumbents.adapters import ADAPTERS
from tests.conformance.incumbents.report import results_of
from tests.conformance.incumbents.table import Result, Row, in_short, table
from tests.support.environments import ROOT

INCUMBENTS = [name for name in ADAPTERS if name != "ours"]
NUMBERS = {check.number for check in CHECKS}

server = [pytest.mark.server, pytest.mark.timeout(400)]  # a first run makes the environment


@pytest.fixture(scope="module")
def results() -> dict[str, dict[int, dict[str, str]]]:
    """By wrapper and number: the outcome and its reason."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.conformance.incumbents.report", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    report: Any = json.loads(ran.stdout)
    return {
        name: {check["number"]: check["results"][name] for check in report["checks"]}
        for name in ADAPTERS
    }


class TestTheReport:
    pytestmark = server

    def test_ours_passes_everything(self, results: Any) -> None:
        assert [number for number, got in results["ours"].items() if got["outcome"] != "ok"] == []

    @pytest.mark.parametrize("name", ADAPTERS)
    def test_every_wrapper_has_an_outcome_for_every_check(self, name: str, results: Any) -> None:
        assert results[name].keys() == NUMBERS
        for got in results[name].values():
            assert got["outcome"] in {"ok", "failed", "n/a"}
            assert bool(got["reason"]) is (got["outcome"] != "ok")

    @pytest.mark.parametrize("name", INCUMBENTS)
    def test_what_an_incumbent_does_right_is_said(self, name: str, results: Any) -> None:
        # Were an adapter broken, nothing would pass.
        assert results[name][6]["outcome"] == "ok"
        assert results[name][38]["outcome"] == "ok"

    @pytest.mark.parametrize("name", ["monkay", "databasez"])
    def test_two_of_them_disconnect_before_the_inner_shutdown(
        self, name: str, results: Any
    ) -> None:
        assert in_short(results[name][1]["reason"]) == "closed before inner shutdown"
        assert in_short(results[name][17]["reason"]) == "never closes"
        assert results[name][2]["outcome"] == "ok"

    def test_monkay_loses_the_message_under_another_key(self, results: Any) -> None:
        assert in_short(results["monkay"][8]["reason"]) == "no 'message'"
        assert "lacks 'ConnectionRefusedError'" in results["databasez"][8]["reason"]

    def test_asgi_lifespan_middleware_says_goodbye_twice(self, results: Any) -> None:
        theirs = results["asgi-lifespan-middleware"]
        assert in_short(theirs[4]["reason"]) == "shutdown.complete again"
        assert theirs[35]["reason"] == "KeyboardInterrupt() was swallowed"

    def test_what_a_wrapper_does_not_offer_is_no_failure(self, results: Any) -> None:
        theirs = results["asgi-lifespan-middleware"]
        assert {number for number, got in theirs.items() if got["outcome"] == "n/a"} >= {2, 9}
        for name in ("ours", "monkay", "databasez"):
            assert all(got["outcome"] != "n/a" for got in results[name].values())


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("exit 3", "ends the process, with status 3"),
        ("exec sleep 30", "hangs the process: nothing happened for 0.5 s"),
    ],
)
async def test_a_check_that_takes_its_process_with_it_is_an_outcome(
    end: str, reason: str, tmp_path: Path
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(
        "#!/bin/sh\n"
        "shift 3\n"
        "echo '{\"ready\": true}'\n"
        'for number in "$@"; do\n'
        f"    if [ $number = 8 ]; then {end}; fi\n"
        '    echo "{\\"number\\": $number, \\"outcome\\": \\"ok\\", \\"reason\\": \\"\\"}"\n'
        "done\n"
    )
    interpreter.chmod(0o755)

    results = await results_of(str(interpreter), "theirs", silence=0.5)

    assert results.keys() == NUMBERS
    assert results[8] == Result("failed", reason)
    assert {number for number in NUMBERS if results[number].outcome != "ok"} == {8}


async def test_a_wrapper_that_cannot_be_imported_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"nobody did not start:(?s:.*)KeyError: 'nobody'"):
        await results_of(sys.executable, "nobody")


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("the story: ['open', 'closed'] instead of ['open', 'closed']", ""),
        ("the story: ['b', 'a'] instead of ['a', 'b']", "b before a"),
        ("the story: ['open'] instead of ['open', 'closed']", "never closes"),
        ("the story: ['a', 'a', 'z'] instead of ['a']", "a again; z"),
        ("the calls: [] instead of ['a', 'b', 'c', 'd']", "no a; no b; no c; …"),
        ("raised: ValueError('no') instead of None", "raises ValueError"),
        ("raised None instead of the original error", "raises nothing"),
        ("hangs: nothing happened for 3 s", "hangs"),
        ("the key 'message' is 'x' and lacks 'y'", "'message' lacks 'y'"),
        ("the cancellation was swallowed: <Task finished>", "the cancellation was swallowed"),
    ],
)
def test_a_reason_in_short(reason: str, short: str) -> None:
    assert in_short(reason) == short


def test_the_table_has_a_row_for_each_scenario_and_the_totals() -> None:
    rows = [
        Row(1, "The order is right.", {"ours": Result("ok"), "theirs": Result("n/a", "not there")}),
        Row(22, "All is well.", {"ours": Result("ok"), "theirs": Result("failed", "hangs: 3 s")}),
    ]
    head, _, one, two, _, total = table(rows, {"ours": "ours", "theirs": "theirs 1.0"}).split("\n")

    assert head.split()[-3:] == ["ours", "theirs", "1.0"]
    assert (one.split()[0], one.split()[-2:]) == ("1", ["ok", "n/a"])
    assert (two.split()[0], two.split()[-2:]) == ("22", ["ok", "hangs"])
    assert total.split() == ["passed", "2", "of", "2", "0", "of", "1"]
