"""New objects of all kinds, by chance, and what is changed on them later."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

from tests.orm.models_stored import (
    ByHand,
    Child,
    Defaulted,
    Everything,
    Mood,
    OfIdentity,
    OfPython,
    OfSequence,
    Parent,
    Point,
    Renamed,
    Seat,
)

__all__ = ["CHANGES", "NEW"]

Values = dict[str, Any]


def of_everything(chance: Random) -> Values:
    values: Values = {
        "ratio": chance.choice([None, 0.0, 1 / 3, -1e300, float("inf")]),
        "is_active": chance.choice([None, True, False]),
        "price": chance.choice([None, Decimal("12.3"), Decimal("-0.01")]),
        "at": chance.choice([None, datetime.datetime(2026, 1, 2, 3, 4, 5, 6)]),
        "on": chance.choice([None, datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]),
        "lasted": chance.choice([None, datetime.timedelta(days=-1, microseconds=5)]),
        "uid": chance.choice([None, uuid.UUID(int=chance.getrandbits(128))]),
        "data": chance.choice([None, {}, {"a": [1, None]}, [], "x", 0, False]),
        "no_null": chance.choice([None, {"a": None}, ""]),
        "blob": chance.choice([None, b"", b"\0\xff'"]),
        "mood": chance.choice([None, *Mood]),
        "note": chance.choice([None, "", "'; DROP TABLE everything; --", "🙂 %s :x"]),
        "secret": chance.choice([None, "", "abc"]),
        "never_none": chance.choice([None, "", "x"]),
        "loud": chance.choice([None, "quiet"]),
        "trim": chance.choice([None, " trimmed "]),
    }
    chosen = {name: value for name, value in values.items() if chance.random() < 0.6}
    return {"name": f"{chance.random()}", **chosen}


def of_defaulted(chance: Random) -> Values:
    values: Values = {
        "name": chance.choice([None, "n"]),
        "size": chance.choice([None, 0, 3]),
        "word": chance.choice([None, "", "said"]),
        "seen": chance.choice([None, "nothing"]),
        "price": chance.choice([None, Decimal("3")]),
        "length": chance.choice([None, 9]),
        "both": chance.choice([None, 9]),
        "at": chance.choice([None, datetime.datetime(2000, 1, 1)]),
        "reversed": chance.choice([None, "xyz"]),
        "changed": chance.choice([None, 1]),
        "called": chance.choice([None, "c"]),
        "measured": chance.choice([None, 2]),
    }
    return {name: value for name, value in values.items() if chance.random() < 0.5}


def one_of(chance: Random, *values: Values) -> Values:
    return chance.choice(values)


NEW: dict[str, Callable[[Random], Any]] = {
    "everything": lambda chance: Everything(**of_everything(chance)),
    "defaults": lambda chance: Defaulted(**of_defaulted(chance)),
    "a key of Python's": lambda chance: OfPython(
        **one_of(chance, {}, {"id": None}, {"id": "given"}, {"id": "", "name": "n"})
    ),
    "a key of a sequence": lambda chance: OfSequence(**one_of(chance, {}, {"name": "n"})),
    "a key that is given": lambda chance: OfSequence(id=chance.choice([0, 77]), name="n"),
    "an identity": lambda chance: OfIdentity(
        **one_of(chance, {}, {"price": Decimal("7"), "cost": Decimal("8")}, {"id": 3})
    ),
    "one of two defaults": lambda chance: OfIdentity(price=Decimal("7")),
    "several keys": lambda chance: Seat(number=chance.randrange(9), row="a"),
    "other names": lambda chance: Renamed(
        **one_of(chance, {"title": " t "}, {"label": "x "}, {"loud_label": "abc"})
    ),
    "a dataclass": lambda chance: Point(
        x=1, **one_of(chance, {}, {"y": 2}, {"name": "n", "tags": [1]}, {"y": 0, "name": None})
    ),
    "an empty collection": lambda chance: Parent(name="p"),
    "a foreign key": lambda chance: Child(parent_id=None),
    "a class mapped by hand": lambda chance: named(ByHand(), _name=chance.choice([None, "h"])),
    "what no column has": lambda chance: named(Seat(number=1, row="a"), local="kept"),
    "nothing at all": lambda chance: Parent(),
}


def named(instance: Any, **values: Any) -> Any:
    for name, value in values.items():
        setattr(instance, name, value)
    return instance


CHANGES: dict[str, Callable[[Random], Values]] = {
    "everything": of_everything,
    "defaults": lambda chance: {"name": "changed", **of_defaulted(chance)},
    "a key of Python's": lambda chance: {"name": "changed"},
    "a key of a sequence": lambda chance: {"name": "changed"},
    "an identity": lambda chance: {"price": chance.choice([None, Decimal("9"), Decimal("9.00")])},
    "several keys": lambda chance: {"name": chance.choice(["changed", "again"])},
    "other names": lambda chance: {"title": " changed "},
    "a dataclass": lambda chance: {"y": chance.choice([70, 80]), "tags": {"a": None}},
    "a class mapped by hand": lambda chance: {"_name": "changed"},
    "an empty collection": lambda chance: {"name": None},
}
"""What is changed on objects of these kinds once they are stored."""
