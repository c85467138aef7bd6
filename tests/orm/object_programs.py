"""Programs made by chance: objects that are changed, stored and deleted in blocks that may fail.

Beside the objects a model of them goes along: what the user has set on each, and what is known of
its row. A block that fails takes back what is known, and what was read from rows; never what the
user has set.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from sqlalchemy import inspect

from tests.orm.shop import Shop

__all__ = ["Program"]

BLOCKS = ("transaction", "transaction", "transaction", "session", "connection")


class Failed(Exception):
    pass


@dataclass
class Order:
    """One order, or an item, which has no lines, as its user sees it."""

    number: int
    instance: Any
    amount: str
    """The field beside its name."""
    values: dict[str, Any]
    lines: list[Line] = field(default_factory=list)
    known: dict[str, Any] | None = None
    known_lines: list[Line] = field(default_factory=list)
    set_at: dict[str, int] = field(default_factory=dict)
    """When each value was set, by whomever."""
    is_deleted: bool = False
    """Nobody uses it then, unless that is rolled back."""


@dataclass
class Line:
    instance: Any
    text: str
    known: str | None = None


Row = tuple[dict[str, Any], frozenset[str]]


@dataclass
class Snapshot:
    known: dict[int, tuple[dict[str, Any] | None, list[Line], bool]]
    lines: list[tuple[Line, str | None]]
    rows: dict[int, Row]
    read: list[tuple[Order, str, Any, int]] = field(default_factory=list)
    """The values that were read in the block, with what was known before."""


class Program:
    """Runs on tables that nobody else uses. ``seed`` decides everything."""

    def __init__(self, cast: Shop, seed: int) -> None:
        self._cast = cast
        self._chance = Random(seed)
        self._orders: list[Order] = []
        self._lines: list[Line] = []
        self._rows: dict[int, Row] = {}
        self._levels: list[Snapshot] = []
        self._clock = 0
        self.said: list[str] = []
        """The program, step by step, to be shown if it fails."""

    async def run(self) -> None:
        """Run it, and look at all objects and rows after each outermost block."""
        for _ in range(2):
            self._make_order()
        for _ in range(self._chance.randint(2, 4)):
            await self._step()
            await self._block(0)
            self._check_objects()
            await self._check_rows()
        for order in self._orders:
            if not order.is_deleted:
                self.said.append(f"save {order.number} in the end")
                await self._save(order)
        self._check_objects()
        await self._check_rows()

    # -- steps

    async def _block(self, depth: int) -> None:
        kind, fails = self._chance.choice(BLOCKS), self._chance.random() < 0.5
        isolated = depth == 0 and self._chance.random() < 0.2
        kind = "rollback" if isolated else kind if depth == 0 else "transaction"
        fails = fails or isolated
        self.said.append(f"{'  ' * depth}{kind}{' that fails' if fails else ''}:")
        self._levels.append(self._snapshot())
        with suppress(Failed):
            async with getattr(self._cast.models, kind)():
                await self._cast.Label.query.count()  # whatever joins it finds a transaction
                for _ in range(self._chance.randint(2, 6)):
                    if depth < 3 and self._chance.random() < 0.35:
                        await self._block(depth + 1)
                    else:
                        await self._step("  " * (depth + 1))
                if fails and not isolated:
                    raise Failed
        self._end(self._levels.pop(), fails=fails)

    async def _step(self, indent: str = "") -> None:
        order = self._chance.choice(self._orders)
        if order.is_deleted:
            return
        verbs: list[Callable[[Order], Awaitable[None]]] = [
            *[self._set] * 5, *[self._save] * 5, self._add_line, self._change_line,
            self._remove_line, self._refresh, self._delete, self._bulk_update, self._visit,
        ]  # fmt: skip
        verb = self._chance.choice(verbs)
        self.said.append(f"{indent}{verb.__name__[1:]} {order.number}")
        await verb(order)

    def _make_order(self) -> None:
        number = len(self._orders)
        model, amount = ((self._cast.Order, "total"), (self._cast.Item, "count"))[number % 2]
        values = {"name": f"order {number}", amount: self._chance.choice([None, 0])}
        self._orders.append(Order(number, model(**values), amount, values))

    async def _set(self, order: Order) -> None:
        name = self._chance.choice(["name", order.amount])
        value = f"name {self._chance.random()}" if name == "name" else self._chance.randrange(3)
        setattr(order.instance, name, value)
        self._put(order, name, value)

    async def _save(self, order: Order) -> None:
        await order.instance.save()
        self._store(order)

    async def _add_line(self, order: Order) -> None:
        if order.amount == "count" or (order.known and "lines" not in vars(order.instance)):
            return
        text = f"line {len(self._lines)} {self._chance.random()}"
        line = Line(self._cast.Line(text=text), text)
        order.instance.lines.append(line.instance)
        order.lines.append(line)
        self._lines.append(line)

    async def _change_line(self, order: Order) -> None:
        if order.lines:
            line = self._chance.choice(order.lines)
            line.text = line.instance.text = f"changed {self._chance.random()}"

    async def _remove_line(self, order: Order) -> None:
        if order.lines:
            line = order.lines.pop(self._chance.randrange(len(order.lines)))
            order.instance.lines.remove(line.instance)

    async def _refresh(self, order: Order) -> None:
        if order.known is None:
            return
        name = order.amount
        await order.instance.refresh(name)
        before, value = order.known[name], self._rows[order.number][0][name]
        self._put(order, name, value)
        if self._levels:
            self._levels[-1].read.append((order, name, before, order.set_at[name]))
        order.known = {**order.known, name: value}

    async def _delete(self, order: Order) -> None:
        if order.known is None or self._chance.random() < 0.5:
            return
        if order.known_lines != order.lines or any(line.known is None for line in order.lines):
            return  # what was removed, and not stored, has a fate of its own
        await order.instance.delete()
        del self._rows[order.number]
        order.known, order.known_lines, order.is_deleted = None, [], True
        for line in order.lines:
            line.known = None

    async def _bulk_update(self, order: Order) -> None:
        if order.known is None or order.amount == "total":  # orders count versions
            return
        await self._cast.Item.query.bulk_update([order.instance], ["count"])
        order.known = {**order.known, "count": order.values["count"]}
        values, texts = self._rows[order.number]
        self._rows[order.number] = ({**values, "count": order.values["count"]}, texts)

    async def _visit(self, order: Order) -> None:
        if order.amount == "total" and order.known and "lines" not in vars(order.instance):
            return
        async with self._cast.models.session() as session:
            session.add(order.instance)
        self._store(order)

    # -- the model

    def _put(self, order: Order, name: str, value: Any) -> None:
        self._clock += 1
        order.values[name] = value
        order.set_at[name] = self._clock

    def _store(self, order: Order) -> None:
        for line in order.known_lines:
            if line not in order.lines:
                line.known = None
        for line in order.lines:
            line.known = line.text
        order.known, order.known_lines = dict(order.values), list(order.lines)
        texts = frozenset(line.text for line in order.lines)
        self._rows[order.number] = (dict(order.values), texts)

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            {
                order.number: (order.known, list(order.known_lines), order.is_deleted)
                for order in self._orders
            },
            [(line, line.known) for line in self._lines],
            copy.copy(self._rows),
        )

    def _end(self, level: Snapshot, *, fails: bool) -> None:
        if not fails:
            if self._levels:
                self._levels[-1].read += level.read
            return
        for order in self._orders:
            order.known, order.known_lines, order.is_deleted = level.known[order.number]
        for line in self._lines:
            line.known = None
        for line, known in level.lines:
            line.known = known
        for order, name, before, at in reversed(level.read):
            if order.set_at[name] == at:
                order.values[name] = before
        self._rows = level.rows

    # -- looking

    def _check_objects(self) -> None:
        for order in self._orders:
            instance = order.instance
            said = "\n".join([*self.said, f"order {order.number}"])
            if order.is_deleted:
                continue
            assert inspect(instance).transient == (order.known is None), said
            assert ("id" in vars(instance)) == (order.known is not None), said
            for name in order.values:
                assert getattr(instance, name) == order.values[name], (
                    f"{said}.{name}: {getattr(instance, name)!r}, not {order.values[name]!r}"
                )
            if order.known is not None:
                known = {name: inspect(instance).attrs[name].history for name in order.values}
                for name, history in known.items():
                    is_changed = order.values[name] != order.known[name]
                    # Of what was in a user's session nobody knows whether it was loaded there.
                    is_known = history.deleted or not history.added
                    assert history.has_changes() == is_changed or not is_known, (
                        f"{said}.{name} {history}"
                    )
                    assert history.has_changes() or not is_changed, f"{said}.{name} {history}"

    async def _check_rows(self) -> None:
        found = await self._cast.Order.query.prefetch_related("lines")
        rows = [
            (order.name, order.total, sorted(line.text for line in order.lines)) for order in found
        ]
        rows += [(item.name, item.count, []) for item in await self._cast.Item.query]
        expected = [(*values.values(), sorted(lines)) for values, lines in self._rows.values()]
        assert sorted(map(repr, rows)) == sorted(map(repr, expected)), "\n".join(self.said)
