"""What is timed, what is not, and by what it is divided."""

from __future__ import annotations

import time

from benchmarks.harness import Contender, Effort, compare
from benchmarks.spreading import spread

ROUNDS = 3


async def test_every_batch_is_undone_before_the_next_and_its_undoing_takes_no_time() -> None:
    steps: list[str] = []

    def do(_: int) -> None:
        steps.append("do")

    async def undo() -> None:
        steps.append("undo")
        began = time.perf_counter()
        while time.perf_counter() - began < 0.05:
            pass

    contender = Contender("it", do, undo=undo)
    comparison = await compare("order", [contender], Effort(ROUNDS, 0.0), baseline="it")

    assert steps == ["do", "undo"] * (len(steps) // 2)
    assert len(comparison.measurements["it"].wall) == ROUNDS
    assert min(comparison.measurements["it"].wall) < 0.05


async def test_the_time_of_an_operation_is_divided_among_its_units() -> None:
    operations: list[int] = []

    def busy(count: int) -> None:
        operations.append(count)
        began = time.perf_counter()
        while time.perf_counter() - began < 0.02:
            pass

    contenders = [Contender("whole", busy), Contender("parts", busy, units=4)]
    comparison = await compare("units", contenders, Effort(ROUNDS, 0.0), baseline="whole")

    assert set(operations) == {1}
    assert min(comparison.measurements["whole"].wall) >= 0.02
    assert 0.005 <= min(comparison.measurements["parts"].wall) < 0.02


async def test_items_are_done_once_each_by_the_tasks_that_share_them() -> None:
    done: list[int] = []

    async def do(item: int) -> None:
        done.append(item)

    await spread(range(10), do, tasks=3)
    await spread(range(10), do, tasks=1)

    assert sorted(done) == sorted([*range(10), *range(10)])
