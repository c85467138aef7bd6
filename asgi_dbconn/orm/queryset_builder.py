"""The building verbs of a QuerySet. Each returns a new one and sends nothing. A missing ``await``
is an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, Never, Self, TypeVar

from sqlalchemy import Select, UnaryExpression
from sqlalchemy.orm import Mapper, RelationshipProperty, joinedload, load_only, selectinload
from sqlalchemy.sql.visitors import replacement_traverse

from asgi_dbconn.errors import ConfigurationError, FieldError
from asgi_dbconn.orm.binding import INHERIT, Choice, DatabaseChoice
from asgi_dbconn.orm.lookup_operators import is_expression
from asgi_dbconn.orm.lookups import column, conditions, find_relationship, primary_key
from asgi_dbconn.orm.negation import negate
from asgi_dbconn.orm.object_loading import is_one_statement
from asgi_dbconn.orm.query import Query
from asgi_dbconn.orm.references import references_in
from asgi_dbconn.orm.simple_terms import Ordering, as_expressions, simple_columns
from asgi_dbconn.orm.target import QueryTarget

__all__ = ["AwaitGuard", "QuerySetBuilder"]

if TYPE_CHECKING:
    from sqlalchemy.orm.interfaces import ORMOption
    from sqlalchemy.sql._typing import _ColumnExpressionArgument

T = TypeVar("T")


class AwaitGuard:
    """Raises TypeError, with the way to write it, if ``await`` was forgotten."""

    __slots__ = ()

    if not TYPE_CHECKING:  # or type checkers would take it for a list, too

        def __iter__(self) -> Never:
            raise self._missing_await(
                "cannot be iterated by a plain `for`, or unpacked",
                "Write `async for user in query:`, or `for user in await query:`.",
            )

        def __len__(self) -> Never:
            raise self._missing_await("has no length", "Write `await query.count()`.")

        def __bool__(self) -> Never:
            raise self._missing_await(
                "is neither true nor false",
                "Write `if await query.exists():`, or `if query is not None:`.",
            )

        def __getitem__(self, index: Any) -> Never:
            raise self._missing_await(
                "has no items",
                "Write `await query.offset(3).first()`, or `await query.offset(3).limit(5)`.",
            )

        def __contains__(self, member: Any) -> Never:
            raise self._missing_await(
                "contains nothing", "Write `await query.filter(pk=user.id).exists()`."
            )

        def __eq__(self, other: object) -> bool:
            # Comparing two queries is fine. Comparing with a list is a sign of a mistake.
            if isinstance(other, list | tuple):
                raise self._missing_await(
                    "is no list", "Compare what it gives: `await query == [...]`."
                )
            return NotImplemented

        __hash__ = object.__hash__

    def _missing_await(self, what: str, remedy: str) -> TypeError:
        return TypeError(f"{self!r} {what}: it asks the database when it is awaited. {remedy}")


_HINTS = {
    bool: " Python has compared already: is an attribute of the class on one side? `is` and `not` "
    "are Python's own; write == None and ~(...). For a constant, sqlalchemy.true().",
    str: " SQL of your own goes into sqlalchemy.text().",
}


class QuerySetBuilder(AwaitGuard, Generic[T]):
    """The building verbs of an immutable query. Any task, thread and loop may use it."""

    __slots__ = ("_query", "_target")

    def __init__(self, query: Query[T], target: QueryTarget) -> None:
        self._query = query
        self._target = target.here()

    def __asgi_dbconn_loop__(self) -> asyncio.AbstractEventLoop | None:
        # Where run_sync awaits it if the calling thread has no loop of its own.
        return self._target.database.home_loop

    def again(self) -> Self:
        """Return the same query as if it was built in the line that calls this.

        A warning of an unconnected database names that line. Nothing is sent.
        """
        target = self._target.here()
        if target is self._target:
            return self
        copy = self._with(self._query)
        copy._target = target
        return copy

    def all(self) -> Self:
        """Return the same query, so that you can write ``await User.query.all()``."""
        return self

    def filter(self, *expressions: _ColumnExpressionArgument[bool], **lookups: Any) -> Self:
        """Keep only rows that match all conditions.

        Lookups through the same relation are about the same related row. In another ``filter()``
        they may be about another one. Raises FieldError immediately for a name that the model does
        not have, and for a value that is no SQL expression.
        """
        return self._with(
            self._query.with_conditions(*self._make_conditions("filter", expressions, lookups))
        )

    def exclude(self, *expressions: _ColumnExpressionArgument[bool], **lookups: Any) -> Self:
        """Drop rows that match all conditions. Rows where a condition is NULL are kept."""
        unwanted = self._make_conditions("exclude", expressions, lookups)
        if not unwanted:
            return self
        query = self._query
        return self._with(
            query.with_conditions(negate(as_expressions(unwanted), query.mapper.tables))
        )

    def order_by(self, *fields: _ColumnExpressionArgument[Any] | str) -> Self:
        """Order by expressions or names. ``"-name"`` is descending. Replaces an earlier order."""
        order = tuple(step for field in fields for step in self._make_ordering(field))
        expressions = [step for step in order if not isinstance(step, Ordering)]
        references = (*self._query.references, *references_in(expressions))
        return self._with(self._query.replace(order=order, references=references))

    def limit(self, rows: int) -> Self:
        """Return at most so many rows. Replaces an earlier limit."""
        return self._with(self._query.replace(limit=_count("limit", rows)))

    def offset(self, rows: int) -> Self:
        """Skip so many rows. Use ``order_by`` to say which rows come first."""
        return self._with(self._query.replace(offset=_count("offset", rows)))

    def distinct(self) -> Self:
        """Return each row once: for ``values()``, and for expressions that join another table.

        PostgreSQL orders distinct rows only by selected expressions.
        """
        return self._with(self._query.replace(is_distinct=True))

    def options(self, *options: ORMOption) -> Self:
        """Apply SQLAlchemy's loader options, as ``selectinload(User.posts)``."""
        return self._make_options(options, takes_several=True)

    def select_related(self, *relations: str | Any) -> Self:
        """Load these relations in the same statement, by a join. ``"author__country"`` follows two
        relations.

        For relations to one object: a collection would repeat its parent's row.
        """
        return self._make_options(
            [
                self._relation(joinedload, relation)
                for relation in _some("select_related", relations)
            ],
            takes_several=not all(self._is_joined_at_once(relation) for relation in relations),
        )

    def prefetch_related(self, *relations: str | Any) -> Self:
        """Load these relations, collections too, by one more statement per relation."""
        return self._make_options(
            [
                self._relation(selectinload, relation)
                for relation in _some("prefetch_related", relations)
            ],
            takes_several=True,
        )

    def only(self, *fields: str | Any) -> Self:
        """Load these columns and the primary key, and defer the others.

        Reading a deferred column raises DetachedInstanceError. ``refresh()`` loads it.
        """
        chosen = [self._column("only", field) for field in _some("only", fields)]
        return self._make_options([load_only(*chosen)], takes_several=False)

    def with_for_update(
        self,
        *,
        nowait: bool = False,
        skip_locked: bool = False,
        read: bool = False,
        key_share: bool = False,
    ) -> Self:
        """Lock the rows of this model until the transaction ends.

        Awaited outside of a scope it raises TransactionError: nothing would stay locked. SQLite
        ignores it: its transaction has locked the whole database already.
        """
        if nowait and skip_locked:
            raise ConfigurationError(
                "A row that is locked by others is either an error (nowait) or left out "
                "(skip_locked). Choose one."
            )
        lock = {"nowait": nowait, "skip_locked": skip_locked, "read": read, "key_share": key_share}
        return self._with(self._query.replace(lock=lock))

    def using(
        self,
        *,
        database: DatabaseChoice | Choice = INHERIT,
        schema: str | Choice | None = INHERIT,
    ) -> Self:
        """Run the query on another database or in another schema.

        ``database`` is a name (None is the default) or a ``Database``. ``schema=None`` is no
        schema. An argument that you leave out changes nothing. Raises UnknownDatabase or
        InvalidSchemaName immediately.
        """
        copy = self._with(self._query)
        copy._target = self._target.using(database, schema)
        return copy

    @property
    def statement(self) -> Select[T]:
        """SQLAlchemy's own SELECT for this query, to print, extend, or execute elsewhere.

        It names no schema: a scope's connection adds it.
        """
        return self._query.objects()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._query.model.__name__}>"

    def _with(self, query: Query[T]) -> Self:
        copy = object.__new__(type(self))
        copy._query = query
        copy._target = self._target
        return copy

    def _make_conditions(
        self, verb: str, expressions: tuple[Any, ...], lookups: dict[str, Any]
    ) -> list[Any]:
        for expression in expressions:
            if not is_expression(expression) and not callable(expression):
                raise FieldError(
                    f"{verb}() takes expressions, as User.name == 'x', and lookups, as name='x', "
                    f"not {expression!r}.{_HINTS.get(type(expression), '')}"
                )
        return [*expressions, *conditions(self._query.mapper, lookups)]

    def _make_options(self, options: Iterable[Any], *, takes_several: bool) -> Self:
        before = self._query
        return self._with(
            before.replace(
                options=(*before.options, *options),
                takes_several=before.takes_several or takes_several,
            )
        )

    def _make_ordering(self, by: Any) -> list[Any]:
        if not isinstance(by, str):
            return [_with_names(self._query.mapper, self._column("order_by", by))]
        mapper, name = self._query.mapper, by.removeprefix("-")
        known = simple_columns(mapper).get(name)
        if known is not None:
            return [Ordering(known, is_descending=by.startswith("-"))]
        is_key = name == "pk" and name not in mapper.all_orm_descriptors
        attributes = primary_key(mapper) if is_key else [column(mapper, name)]
        return [
            attribute.desc() if by.startswith("-") else attribute.asc() for attribute in attributes
        ]

    def _column(self, verb: str, chosen: Any) -> Any:
        if isinstance(chosen, str):
            return column(self._query.mapper, chosen)
        if isinstance(getattr(chosen, "property", None), RelationshipProperty):
            return column(chosen.property.parent, chosen.key)  # raises FieldError
        if is_expression(chosen):
            return chosen
        raise FieldError(f"{verb}() takes names and expressions, not {chosen!r}.")

    def _is_joined_at_once(self, relation: str | Any) -> bool:
        """Return whether the related objects load no further relations by default."""
        mapper = self._query.mapper
        if not isinstance(relation, str):
            return is_one_statement(relation.property.mapper)
        for name in relation.split("__"):
            mapper = mapper.relationships[name].mapper
            if not is_one_statement(mapper):
                return False
        return True

    def _relation(self, load: Any, path: str | Any) -> Any:
        if not isinstance(path, str):
            return load(path)
        mapper, option = self._query.mapper, None
        for name in path.split("__"):
            attribute = find_relationship(mapper, name, path)
            step = load if option is None else getattr(option, load.__name__)
            option = step(attribute)
            mapper = attribute.property.mapper
        return option


def _with_names(mapper: Mapper[Any], order: Any) -> Any:
    """Return ``order`` with names inside, as in ``desc("name")``, replaced by columns."""
    if not isinstance(order, UnaryExpression):
        return order

    def replaced(element: Any, **_: Any) -> Any:
        if element.__visit_name__ != "textual_label_reference":
            return None
        known = simple_columns(mapper).get(element.element)
        return None if known is None else known.attribute.__clause_element__()

    return replacement_traverse(order, {}, replaced)


def _some(verb: str, given: tuple[Any, ...]) -> tuple[Any, ...]:
    if not given:
        raise ConfigurationError(f"{verb}() needs at least one name.")
    return given


def _count(verb: str, rows: Any) -> int:
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 0:
        raise ConfigurationError(f"{verb}() takes a number of rows of 0 or more, not {rows!r}.")
    return rows
