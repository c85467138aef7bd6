"""`make conformance`: our wrapper and the incumbents', scenario by scenario."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, Final

from asgi_dbconn.testing.conformance import CHECKS
from tests.conformance.incumbents.adapters import ADAPTERS
from tests.conformance.incumbents.environment import REQUIREMENTS, python
from tests.conformance.incumbents.table import Result, Row, in_full, table
from tests.support.environments import ROOT

__all__ = ["main", "results_of"]

_SILENCE: Final = 15.0
"""Seconds without a word after which a process is ended; a check's own limit is 3."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all, print the comparison; 1 if a check fails ours."""
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--verbose", action="store_true", help="print every reason in full")
    chosen = parser.parse_args(arguments)

    results = asyncio.run(_every_wrapper(str(python())))
    rows = [
        Row(check.number, check.behaviour, {name: results[name][check.number] for name in ADAPTERS})
        for check in CHECKS
    ]
    titles = {name: " ".join([name, REQUIREMENTS.get(name, "")]).strip() for name in ADAPTERS}
    if chosen.json:
        print(json.dumps(_as_data(rows, titles), indent=1))
    else:
        print(table(rows, titles))
        if chosen.verbose:
            print(in_full(rows, titles))
    return int(any(row.results["ours"].outcome != "ok" for row in rows))


def _as_data(rows: Sequence[Row], titles: dict[str, str]) -> dict[str, Any]:
    return {
        "wrappers": titles,
        "checks": [
            {
                "number": row.number,
                "behaviour": row.behaviour,
                "results": {name: vars(result) for name, result in row.results.items()},
            }
            for row in rows
        ],
    }


async def _every_wrapper(interpreter: str) -> dict[str, dict[int, Result]]:
    played = await asyncio.gather(*(results_of(interpreter, name) for name in ADAPTERS))
    return dict(zip(ADAPTERS, played, strict=True))


async def results_of(
    interpreter: str, name: str, *, silence: float = _SILENCE
) -> dict[int, Result]:
    """All checks of one wrapper, going on in a new process after one that hangs or dies."""
    results: dict[int, Result] = {}
    while left := [check.number for check in CHECKS if check.number not in results]:
        ending = await _one_process(interpreter, name, left, results, silence)
        if ending:
            culprit = next(number for number in left if number not in results)
            results[culprit] = Result("failed", ending)
    return results


async def _one_process(
    interpreter: str,
    name: str,
    numbers: Sequence[int],
    results: dict[int, Result],
    silence: float,
) -> str:
    """Fill in ``results`` as they come; gives how it ended, or nothing where all were told."""
    with tempfile.TemporaryFile() as complaints:
        process = await asyncio.create_subprocess_exec(
            interpreter,
            *("-m", "tests.conformance.incumbents.play", name, *map(str, numbers)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=complaints,
        )
        assert process.stdout is not None
        is_ready = False
        ending = ""
        try:
            while line := await asyncio.wait_for(process.stdout.readline(), silence):
                told = json.loads(line)
                is_ready = True
                if "number" in told:
                    results[told["number"]] = Result(told["outcome"], told["reason"])
            status = await asyncio.wait_for(process.wait(), silence)
        except BaseException as error:
            process.kill()
            status = await process.wait()
            if not isinstance(error, TimeoutError):
                raise
            ending = f"hangs the process: nothing happened for {silence:g} s"
        if not is_ready:
            complaints.seek(0)
            raise RuntimeError(f"{name} did not start:\n{complaints.read().decode()}")
        if all(number in results for number in numbers):
            return ""
        return ending or f"ends the process, with status {status}"


if __name__ == "__main__":
    sys.exit(main())
