"""The undo log by itself: levels that end, and objects that nobody holds."""

from __future__ import annotations

import weakref
from typing import Any

from asgi_dbconn.pools.undo_log import Level, UndoLog


class Thing:
    """Remembers what was done about it."""

    def __init__(self) -> None:
        self.told: list[str] = []


class Recorder:
    has_notes = True

    def undo(self, owners: list[Any], level: Level, *, uncertain: bool) -> None:
        for thing in owners:
            thing.told.append("perhaps undone" if uncertain else "undone")

    def promote(self, owners: list[Any], level: Level, outer: Level) -> None:
        outer.add(self, owners)

    def forget(self, owners: list[Any], level: Level) -> None:
        for thing in owners:
            thing.told.append("committed")


recorder = Recorder()


def added(log: UndoLog) -> Thing:
    thing = Thing()
    log.level.add(recorder, [thing])
    return thing


def test_a_commit_forgets() -> None:
    log = UndoLog()
    thing = added(log)
    log.commit()
    log.roll_back()
    assert thing.told == ["committed"]


def test_a_rollback_undoes_once() -> None:
    log = UndoLog()
    outer = added(log)
    log.begin_savepoint("a")
    inner = added(log)
    log.roll_back()
    log.roll_back()
    assert outer.told == inner.told == ["undone"]


def test_a_savepoint_undoes_its_own_and_those_inside() -> None:
    log = UndoLog()
    outer = added(log)
    log.begin_savepoint("a")
    first = added(log)
    log.begin_savepoint("b")
    second = added(log)
    log.roll_back_to("a")
    third = added(log)
    assert (outer.told, first.told, second.told, third.told) == ([], ["undone"], ["undone"], [])
    log.roll_back_to("a")  # it is still there, as in SQL
    assert third.told == ["undone"]
    log.commit()
    assert outer.told == ["committed"]


def test_a_released_savepoint_is_a_part_of_what_is_around() -> None:
    log = UndoLog()
    log.begin_savepoint("a")
    first = added(log)
    log.begin_savepoint("b")
    second = added(log)
    log.begin_savepoint("c")
    third = added(log)
    log.release("b")
    assert not second.told
    assert not third.told
    log.roll_back_to("a")
    assert first.told == second.told == third.told == ["undone"]


def test_the_innermost_of_one_name_is_meant() -> None:
    log = UndoLog()
    log.begin_savepoint("a")
    outer = added(log)
    log.begin_savepoint("a")
    inner = added(log)
    log.roll_back_to("a")
    assert (outer.told, inner.told) == ([], ["undone"])
    log.release("a")
    log.roll_back_to("a")
    assert outer.told == ["undone"]
    log.roll_back_to("unknown")
    log.release("unknown")


def test_an_isolation_outlives_commits() -> None:
    log = UndoLog(is_isolated=True)
    first = added(log)
    log.commit()
    second = added(log)
    log.roll_back()
    assert (first.told, second.told) == ([], ["undone"])
    log.begin_part("part")
    third = added(log)
    log.commit()
    log.begin_savepoint("a")
    fourth = added(log)
    log.commit()
    log.roll_back()
    assert not third.told
    log.roll_back_part("part")
    assert (first.told, third.told, fourth.told) == ([], ["undone"], ["undone"])
    log.end()
    assert first.told == ["undone"]


def test_a_commit_without_an_answer() -> None:
    log = UndoLog()
    thing = added(log)
    log.is_committing = True
    log.roll_back()
    assert thing.told == ["perhaps undone"]


def test_who_fails_keeps_nobody_else_from_going_back(caplog: Any) -> None:
    class Failing(Recorder):
        def undo(self, owners: list[Any], level: Level, *, uncertain: bool) -> None:
            raise ValueError

    log, failing = UndoLog(), Failing()
    thing = Thing()
    log.level.add(failing, [thing])
    other = added(log)
    log.roll_back()
    assert other.told == ["undone"]
    assert "could not be restored" in caplog.text


def test_a_hundred_thousand_are_not_kept() -> None:
    log = UndoLog()
    log.begin_savepoint("a")
    things = [Thing() for _ in range(100_000)]
    dead = [weakref.ref(thing) for thing in things]
    for thing in things:
        log.level.add(recorder, [thing])
    kept = things.pop()
    del thing
    things.clear()
    assert [reference for reference in dead if reference() is not None] == [weakref.ref(kept)]
    assert log.level.size == 1
    log.release("a")
    assert log.level.size == 1
    del kept
    assert log.level.size == 0
