"""Cut a failing program down: leave out whatever the failure does not need.

Programs meet real servers, so a run may go well that went wrong before. A smaller program is tried
several times before it counts as one that does not fail.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Final

from tests.histories.steps import Cancel, Fault, Program, Step, Steps, bodies, replace_bodies, walk

__all__ = ["shrink", "size"]

_TRIES: Final = 2


def shrink(program: Program, fails: Callable[[Program], bool], seconds: float) -> Program:
    """Return the smallest program found within that time that still fails."""
    deadline = time.monotonic() + seconds
    has_shrunk = True
    while has_shrunk:
        has_shrunk = False
        tried = 0
        while (candidate := next(islice(_smaller(program), tried, None), None)) is not None:
            if time.monotonic() > deadline:
                return program
            if any(fails(candidate) for _ in range(_TRIES)):
                # What stands before this place has been tried; the next pass tries it once more.
                program, has_shrunk = candidate, True
            else:
                tried += 1
    return program


def size(program: Program) -> int:
    """Return the number of steps and faults."""
    return len(program.faults) + sum(len(walk(request.body)) for request in program.requests)


def _smaller(program: Program) -> Iterator[Program]:
    """Yield programs with less in them, the boldest cuts first."""
    requests, faults = program.requests, program.faults
    for number in range(len(requests) if len(requests) > 1 else 0):
        yield _without_request(program, number)
    for number in range(len(faults)):
        yield replace(program, faults=faults[:number] + faults[number + 1 :])
    for number, request in enumerate(requests):
        if request.process:
            moved = replace(request, process=0)
            yield replace(program, requests=(*requests[:number], moved, *requests[number + 1 :]))
    for number, request in enumerate(requests):
        for body in _shorter(request.body):
            yield _with_body(program, number, body)
    if program.pool_size > 1:
        yield replace(program, pool_size=1)


def _without_request(program: Program, number: int) -> Program:
    faults: list[Fault] = []
    for fault in program.faults:
        if not isinstance(fault, Cancel) or fault.request < number:
            faults.append(fault)
        elif fault.request > number:
            faults.append(replace(fault, request=fault.request - 1))
    requests = program.requests[:number] + program.requests[number + 1 :]
    return replace(program, requests=requests, faults=tuple(faults))


def _with_body(program: Program, number: int, body: Steps) -> Program:
    changed = replace(program.requests[number], body=body)
    requests = program.requests
    return replace(program, requests=(*requests[:number], changed, *requests[number + 1 :]))


def _shorter(steps: Steps) -> Iterator[Steps]:
    half = len(steps) // 2
    if half > 1:
        yield steps[:half]
        yield steps[half:]
    for number in range(len(steps)):
        yield steps[:number] + steps[number + 1 :]
    for number, step in enumerate(steps):
        for replacement in _simpler(step):
            yield steps[:number] + replacement + steps[number + 1 :]


def _simpler(step: Step) -> Iterator[Steps]:
    inner = bodies(step)
    for body in inner:
        yield body  # without the container
    if len(inner) > 1:
        yield tuple(chain.from_iterable(inner))  # one after the other
        for number in range(len(inner)):
            yield (replace_bodies(step, inner[:number] + inner[number + 1 :]),)
    for number, body in enumerate(inner):
        for shorter in _shorter(body):
            yield (replace_bodies(step, (*inner[:number], shorter, *inner[number + 1 :])),)
