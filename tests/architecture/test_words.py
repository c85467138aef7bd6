"""The words of the code: names by the glossary, loop variables that are nouns, plain docstrings."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.architecture.layers import ROOT, Module, modules
from tests.architecture.vocabulary import (
    EMPTY_NAMES,
    QUESTION,
    docstrings,
    functions,
    is_participle,
    is_singular_of,
    loop_variables,
    names,
    plural_loops,
    prose,
)

MODULES = modules()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)

# The words of the field for these modules end like participles.
FIELD_WORDS = {"binding", "loading", "locking", "streaming"}
ADJECTIVES = {"aborted", "gated", "included", "loaded", "locked", "managed", "missing", "named"} | {
    "pooled"
}
"""First words of modules whose last word is the noun, as in ``managed_loop``."""

# Two folders may have a module of these names: each is the word of its own field.
TWICE = {"check", "database", "errors", "statistics"}

# Old names, one by one: the glossary says what each is called now. A name that is public, or that
# means something else in its field, is not among them.
RENAMED = {
    *("look_at", "goes_straight", "hand_over", "visit", "Verdict", "create_task_at_once", "drive"),
    *("drive_to_the_end", "Turn", "turn", "turn_of", "take_now", "OwnLoop", "own_loop"),
    *("before_end", "wind_down", "Mailbox", "mailbox", "Watch", "EndGuard", "dismiss", "disarm"),
    *("calls_above", "stands_still", "object_to_blocking", "ambient", "is_at_home"),
    *("refuse_green_threads", "Held", "presses", "first_press_counts", "park"),
    *("FIRST_LOOK", "LONGEST_PAUSE", "PATIENCE", "GRACE", "DEPTH", "Way", "Situation"),
    *("Goodbyes", "goodbyes", "goodbye", "was_said", "part_with", "aftermath", "take_care_of"),
    *("when_ended", "Opener", "Attempts", "Recovery", "may_pass", "Share", "wants_one"),
    *("LeakAlarm", "outdate", "renew", "note_aborted", "forget_aborted"),
    *("Leases", "leases", "lease", "give_back", "Lead", "outcome_of", "same_again", "Blocks"),
    *("held_open", "AfterCommit", "Terms", "repeated", "Crossing", "crossing", "errand"),
    *("Isolations", "TwoSteps", "Absence", "absence", "prove_it_answers", "prove_it_answers_now"),
    *("forget_all", "leave_to_parent", "is_out_of_play", "named_memory"),
    *("Building", "Reading", "Writing", "NotAwaited", "Description", "narrowed", "limited"),
    *("statement_for", "Place", "place", "place_of", "settled", "whereabouts", "note_origin"),
    *("hanging_on", "BeingStored", "take_out", "is_stored_alone", "is_to_be_stored"),
    *("outdated_relations", "is_overheard", "kept", "gone", "insert_plainly", "update_plainly"),
    *("remove_alone", "plan_of", "storing_plan_of", "noted", "updating", "deleting", "Insertion"),
    *("Changes", "built_at", "WarmLoops", "SchemaChoice", "carried", "Conversation", "attend"),
    *("IncludedLives", "EnvironmentForTests", "home_of", "OnPostgreSQL", "OnSQLite", "Stage"),
    *("recognised", "told_to_the_user", "telling_the_line", "blamed_line", "building_line"),
}
FORBIDDEN = re.compile(
    r"\b(?:who(?:ever|soever)|somebody|nobody|goodbyes?|at once)\b", re.IGNORECASE
)


@every_module
def test_a_loop_variable_is_the_noun_of_what_is_iterated(module: Module) -> None:
    assert not [found for found in loop_variables(module.tree) if found[0] in EMPTY_NAMES]


def test_over_a_plural_the_loop_variable_is_its_singular() -> None:
    pairs = [pair for module in MODULES for pair in plural_loops(module.tree)]
    others = Counter(pair for pair in pairs if not is_singular_of(*pair))

    assert len(pairs) > 100
    assert others.total() <= 0.2 * len(pairs), others.most_common()


@every_module
def test_a_docstring_does_not_begin_with_a_question(module: Module) -> None:
    assert not [text for text in docstrings(module.tree) if QUESTION.match(text)]


@every_module
def test_renamed_words_do_not_come_back_as_names(module: Module) -> None:
    assert not [found for found in names(module.tree) if found[0].strip("_") in RENAMED]


@every_module
def test_a_module_is_named_by_a_noun(module: Module) -> None:
    name = module.path.stem
    assert not is_participle(name) or name in FIELD_WORDS or name.split("_")[0] in ADJECTIVES


def test_a_function_is_named_by_a_verb_or_a_noun() -> None:
    defined = [node.name for module in MODULES for node in functions(module.tree)]
    participles = Counter(filter(is_participle, defined))

    assert len(defined) > 1000
    assert participles.total() <= 0.02 * len(defined), participles.most_common()


def test_a_module_name_is_found_in_one_folder() -> None:
    stems = Counter(module.path.stem for module in MODULES if module.path.stem[:2] != "__")

    assert {stem for stem, count in stems.items() if count > 1} - TWICE == set()


@every_module
def test_the_words_of_the_code_are_plain(module: Module) -> None:
    assert not FORBIDDEN.findall(module.path.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_words_of_the_docs_are_plain(page: Path) -> None:
    assert not FORBIDDEN.findall(prose(page))
