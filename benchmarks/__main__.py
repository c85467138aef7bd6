"""``python -m benchmarks``."""

from __future__ import annotations

import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from benchmarks import imports, middleware, pools, queries, reads, record, scopes, sync
from benchmarks.report import Outcome, table


class Benchmark(Protocol):
    __doc__: str | None
    run: Callable[..., Outcome]


BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "imports": imports,
    "middleware": middleware,
    "pools": pools,
    "queries": queries,
    "reads": reads,
    "scopes": scopes,
    "sync": sync,
}


def main(words: Sequence[str] | None = None) -> None:
    """Run those that are named, or all; print what they found, and store it."""
    parser = ArgumentParser(
        prog="python -m benchmarks",
        description="Measure against the peers. The README here says what each number means.",
        epilog="what there is:\n" + _listing(),
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="*", help="which to run (default: all)")
    parser.add_argument("--quick", action="store_true", help="a short look; the spread is larger")
    parser.add_argument("--list", action="store_true", help="only list what there is")
    arguments = parser.parse_args(words)
    unknown = [name for name in arguments.name if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are:\n{_listing()}")
    if arguments.list:
        print(_listing())
        return
    _print_circumstances()
    for name in arguments.name or BENCHMARKS:
        _run(name, quick=arguments.quick)


def _listing() -> str:
    width = max(map(len, BENCHMARKS))
    summaries = {
        name: (benchmark.__doc__ or "").split("\n")[0] for name, benchmark in BENCHMARKS.items()
    }
    return "\n".join(f"  {name:{width}}  {text}" for name, text in summaries.items())


def _print_circumstances() -> None:
    for label, facts in (("machine", record.machine()), ("versions", record.versions())):
        print(f"{label}: " + ", ".join(f"{key} {fact}" for key, fact in facts.items()))


def _run(name: str, *, quick: bool) -> None:
    print(f"\n{name}: measuring ...", flush=True)
    started = time.perf_counter()
    outcome = BENCHMARKS[name].run(quick=quick)
    for comparison in outcome.comparisons:
        print(f"\n{table(comparison)}")
    for finding in outcome.findings:
        print(f"\n{finding}")
    path = record.write(name, outcome, quick=quick)
    print(f"\n{name}: {time.perf_counter() - started:.0f} s, all samples in {path.name}")


if __name__ == "__main__":
    main()
