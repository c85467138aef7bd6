"""One wrapper through the checks, in a process that may hang or die: a line of JSON for each."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection

from asgi_dbconn.testing.conformance import CHECKS, run
from tests.conformance.incumbents.adapters import ADAPTERS, Watched

__all__ = ["play"]


def play(name: str, numbers: Collection[int]) -> None:
    """Perform the checks of these numbers; each is told as soon as it is over."""
    adapter = ADAPTERS[name]
    print(json.dumps({"ready": name}), flush=True)
    for check in CHECKS:
        if check.number not in numbers:
            continue
        wrapper = Watched(adapter)
        outcome = run(check, wrapper)
        kind, reason = ("ok" if outcome.passed else "failed"), outcome.reason
        if wrapper.missing:
            kind, reason = "n/a", wrapper.missing
        told = {"number": check.number, "outcome": kind, "reason": reason}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    play(sys.argv[1], {int(number) for number in sys.argv[2:]})
