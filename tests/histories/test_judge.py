"""The judge on logs written by hand: it must be able to find what it looks for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.histories.errors import Finding
from tests.histories.story import Story


@pytest.fixture
def story() -> Story:
    return Story()


def symptoms(findings: list[Finding]) -> set[str]:
    return {finding.symptom for finding in findings}


# -- rows


def test_an_acknowledged_row_that_is_there_is_right(story: Story) -> None:
    task = story.task()
    story.verb(task, None, ("put", "a", 7))
    assert not story.judge({"a": 7})


def test_an_acknowledged_row_that_is_not_there_is_lost(story: Story) -> None:
    task = story.task()
    story.verb(task, None, ("put", "a", 7))
    assert symptoms(story.judge()) == {"an acknowledged row is not stored"}


def test_a_row_of_a_block_is_acknowledged_by_its_end(story: Story) -> None:
    task = story.task()
    block = story.begin(task)
    story.verb(task, block, ("put", "a", 7))
    story.end(block)
    assert symptoms(story.judge()) == {"an acknowledged row is not stored"}
    assert not story.judge({"a": 7})


def test_a_savepoint_is_acknowledged_by_the_outermost_block_only(story: Story) -> None:
    task = story.task()
    outer = story.begin(task)
    inner = story.begin(task, outer)
    story.verb(task, inner, ("put", "a", 7))
    story.end(inner)
    own = story.error("ApplicationError")
    story.end(outer, own, own)
    assert not story.judge()
    assert symptoms(story.judge({"a": 7})) == {"what was rolled back is stored"}


def test_a_savepoint_that_failed_leaves_nothing_behind(story: Story) -> None:
    task = story.task()
    outer = story.begin(task)
    inner = story.begin(task, outer)
    story.verb(task, inner, ("put", "a", 7))
    own = story.error("ApplicationError")
    story.end(inner, own, own)
    story.end(outer)
    assert not story.judge()
    assert symptoms(story.judge({"a": 7})) == {"what was rolled back is stored"}


def test_a_rollback_by_hand_takes_back_what_was_before_it(story: Story) -> None:
    task = story.task()
    block = story.begin(task)
    story.verb(task, block, ("put", "a", 7))
    story.write("by hand", number=900, block=block, task=task, what="rollback")
    story.write("by hand done", number=900)
    story.verb(task, block, ("put", "b", 8))
    story.end(block)
    assert not story.judge({"b": 8})
    assert symptoms(story.judge({"a": 7, "b": 8})) == {"what was rolled back is stored"}
    assert symptoms(story.judge()) == {"an acknowledged row is not stored"}


def test_a_commit_by_hand_outlives_the_block(story: Story) -> None:
    task = story.task()
    block = story.begin(task, kind="session")
    story.verb(task, block, ("put", "a", 7))
    story.write("by hand", number=900, block=block, task=task, what="commit")
    story.write("by hand done", number=900)
    own = story.error("ApplicationError")
    story.verb(task, block, ("put", "b", 8))
    story.end(block, own, own)
    assert not story.judge({"a": 7})
    assert symptoms(story.judge()) == {"an acknowledged row is not stored"}
    assert symptoms(story.judge({"a": 7, "b": 8})) == {"what was rolled back is stored"}


def test_what_is_unknown_may_be_either(story: Story) -> None:
    task = story.task()
    cancelled = story.error("CancelledError")
    story.verb(task, None, ("put", "a", 7), error=cancelled, cancelling=1)
    story.end_task(task, cancelled, 1)
    assert not story.judge({"a": 7})
    assert not story.judge()


def test_an_unknown_block_is_stored_as_a_whole(story: Story) -> None:
    task = story.task()
    block = story.begin(task)
    story.verb(task, block, ("put", "a", 7))
    story.verb(task, block, ("put", "b", 8))
    cancelled = story.error("CancelledError")
    story.end(block, None, cancelled, cancelling=1)
    story.end_task(task, cancelled, 1)
    assert not story.judge()
    assert not story.judge({"a": 7, "b": 8})
    assert symptoms(story.judge({"a": 7})) == {"a part of a block is stored"}


def test_the_value_of_another_row_is_nobodys(story: Story) -> None:
    task = story.task()
    story.verb(task, None, ("put", "a", 7))
    story.verb(task, None, ("put", "b", 8))
    assert symptoms(story.judge({"a": 8, "b": 8})) == {"a row has the value of another row"}


def test_a_later_change_wins_over_an_earlier_one(story: Story) -> None:
    task = story.task()
    story.verb(task, None, ("put", "base0", 7), name="update", hits=1)
    story.verb(task, None, ("put", "base0", 8), name="update", hits=1)
    assert not story.judge({"base0": 8})
    assert symptoms(story.judge({"base0": 7})) == {"an acknowledged change is lost"}


def test_changes_side_by_side_may_come_in_any_order(story: Story) -> None:
    first, second = story.task(), story.task()
    outer, other = story.begin(first), story.begin(second)
    story.verb(first, outer, ("put", "base0", 7), name="update", hits=1)
    story.verb(second, other, ("put", "base0", 8), name="update", hits=1)
    story.end(outer)
    story.end(other)
    assert not story.judge({"base0": 8})
    assert not story.judge({"base0": 7})


def test_an_update_that_found_no_row_has_changed_none(story: Story) -> None:
    task = story.task()
    story.verb(task, None, ("put", "base0", 7), name="update", hits=0)
    assert not story.judge()


def test_an_attempt_that_was_repeated_is_rolled_back(story: Story) -> None:
    task = story.task()
    story.write("call", call=50, task=task, block=None)
    for number, token in ((60, "a"), (61, "b")):
        story.write(
            "block", block=number, task=task, outer=None, type="attempt", force_rollback=False,
            call=50,
        )  # fmt: skip
        story.write("entered", block=number)
        story.verb(task, number, ("put", token, 7))
        story.write("body ended", block=number, error=None)
    story.write("returned", call=50, error=None)
    assert not story.judge({"b": 7})
    assert symptoms(story.judge({"a": 7, "b": 7})) == {"what was rolled back is stored"}
    assert symptoms(story.judge()) == {"an acknowledged row is not stored"}


def test_a_counter_counts_what_was_acknowledged_and_at_most_the_unknown(story: Story) -> None:
    task = story.task()
    cancelled = story.error("CancelledError")
    story.verb(task, None, ("add", "1", 1), name="increment")
    story.verb(task, None, ("add", "1", 1), name="increment", error=cancelled, cancelling=1)
    story.end_task(task, cancelled, 1)
    assert not story.judge(totals={1: 1})
    assert not story.judge(totals={1: 2})
    assert symptoms(story.judge(totals={1: 0})) == {"an increment is lost"}
    assert symptoms(story.judge(totals={1: 3})) == {"a rolled-back increment is stored"}


# -- objects


def describe(story: Story, when: str, value: int = 7, **state: Any) -> None:
    story.write(
        "object", when=when, name="x", token="a", value=value, id=11, parts=[], is_unknown=False,
        **{"is_stored": True, "is_modified": False, **state},
    )  # fmt: skip


def test_an_object_that_says_it_is_stored_has_its_row(story: Story) -> None:
    task = story.task()
    block = story.begin(task)
    story.verb(task, block, ("put", "a", 7), name="save", object="x")
    own = story.error("ApplicationError")
    story.end(block, own, own)
    describe(story, "before")
    says_so = "an object says that it is stored as it is, and is not"
    assert symptoms(story.judge()) == {says_so}
    assert symptoms(story.judge({"b": 7}, keys={11: "b"})) >= {says_so}


def test_an_object_that_says_it_has_changes_is_right(story: Story) -> None:
    describe(story, "before", is_stored=False)
    describe(story, "before", is_modified=True)
    assert not story.judge()


def test_a_row_that_others_have_changed_is_not_the_objects_fault(story: Story) -> None:
    task = story.task()
    story.verb(task, None, ("put", "a", 7), name="save", object="x")
    story.verb(task, None, ("put", "a", 8), name="update", hits=1)
    describe(story, "before")
    assert not story.judge({"a": 8}, keys={11: "a"})


def test_what_is_saved_once_more_is_stored(story: Story) -> None:
    task = story.task()
    story.verb(task, None, name="final save", object="x")
    describe(story, "after")
    assert symptoms(story.judge()) == {"an object was saved once more, and is not stored"}


# -- tasks, blocks, errors


def test_a_cancelled_task_ends_with_its_cancellation(story: Story) -> None:
    task = story.task()
    story.write("cancel", task=task, again=False, statement=None, doing="")
    interrupted = story.error("OperationalError", "DBAPIError", text="interrupted")
    story.verb(task, None, error=interrupted, name="get")
    story.end_task(task, interrupted, 1)
    assert "a cancelled task ended with OperationalError (interrupted)" in symptoms(story.judge())


def test_a_cancellation_is_not_swallowed(story: Story) -> None:
    task = story.task()
    story.write("cancel", task=task, again=False, statement=None, doing="")
    story.end_task(task, None, 1)
    assert symptoms(story.judge()) == {"a cancellation is swallowed"}


def test_what_gather_hands_on_is_the_affair_of_the_child(story: Story) -> None:
    task = story.task()
    child = story.task(parent=task)
    own = story.error("ApplicationError")
    story.write("cancel", task=task, again=False, statement=None, doing="")
    story.end_task(child, own)
    story.end_task(task, own, 1)
    assert not story.judge()


def test_what_ended_a_block_leaves_it(story: Story) -> None:
    task = story.task()
    block = story.begin(task)
    own, other = story.error("ApplicationError"), story.error("ConnectionLost")
    story.end(block, own, other)
    assert symptoms(story.judge()) == {
        "a block ended with ConnectionLost in place of its own error"
    }


def test_a_cancellation_may_replace_the_error_of_a_block(story: Story) -> None:
    task = story.task()
    block = story.begin(task)
    story.end(block, story.error("ApplicationError"), story.error("CancelledError"), cancelling=1)
    assert not story.judge()


@pytest.mark.parametrize("kind", ["InterfaceError", "OperationalError", "AttributeError"])
def test_an_error_that_no_page_names_is_found(story: Story, kind: str) -> None:
    task = story.task()
    error = story.error(kind)
    story.verb(task, None, error=error, name="get")
    story.end_task(task, error)
    assert symptoms(story.judge()) == {f"undocumented here: {kind} outside of blocks"}


def test_a_lost_connection_needs_somebody_who_cut_it() -> None:
    for is_disturbed in (True, False):
        story = Story(is_disturbed=is_disturbed)
        error = story.error("ConnectionLost", "DatabaseUnavailable")
        story.verb(story.task(), None, error=error, name="get")
        assert bool(story.judge()) is not is_disturbed


def test_transaction_closed_is_for_tasks_that_a_block_has_left_behind(story: Story) -> None:
    task, child = story.task(), story.task()
    block = story.begin(task)
    story.verb(child, block, error=story.error("TransactionClosed"), name="get")
    assert not story.judge()
    story.verb(task, block, error=story.error("TransactionClosed"), name="get")
    assert symptoms(story.judge()) == {"undocumented here: TransactionClosed inside of a block"}


def test_a_refused_row_has_to_be_there_already(story: Story) -> None:
    task = story.task()
    refused = story.error("IntegrityError", "DBAPIError")
    story.verb(task, None, ("put", "base0", -1), error=refused, name="violate")
    assert not story.judge()
    story.verb(task, None, ("put", "a", 1), error=refused, name="create")
    assert symptoms(story.judge()) == {"undocumented here: IntegrityError outside of blocks"}


# -- connections and callbacks


def test_connections_are_left_clean(story: Story) -> None:
    assert symptoms(story.judge(open_transactions=["idle in transaction: SELECT 1"])) == {
        "a backend is left inside of a transaction"
    }
    assert symptoms(story.judge(can_write=False)) == {
        "another program cannot write within a second"
    }
    assert symptoms(story.judge(can_write_after_disconnect=False)) == {
        "another program cannot write even after disconnect()"
    }


def test_a_callback_is_called_if_and_only_if_its_block_was_committed(story: Story) -> None:
    task = story.task()
    committed, failed = story.begin(task), story.begin(task)
    story.write("registered", block=committed, mark="one")
    story.write("registered", block=failed, mark="two")
    own = story.error("ApplicationError")
    story.end(failed, own, own)
    story.end(committed)
    assert symptoms(story.judge()) == {"a callback of what was committed is not called"}
    story.write("called back", mark="one")
    assert not story.judge()
    story.write("called back", mark="two")
    assert symptoms(story.judge()) == {"a callback of what was rolled back is called"}


def test_a_callback_that_two_attempts_register(story: Story) -> None:
    task = story.task()
    lost, repeated = story.begin(task), story.begin(task)
    story.write("registered", block=lost, mark="one")
    conflict = story.error("OperationalError")
    story.end(lost, conflict, conflict)
    story.write("registered", block=repeated, mark="one")
    story.end(repeated)
    assert "a callback of what was committed is not called" in symptoms(story.judge())
    story.write("called back", mark="one")
    assert "a callback of what was rolled back is called" not in symptoms(story.judge())
