"""The part of a QuerySet that describes: every method returns a new one and sends nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import joinedload, load_only, selectinload

from asgi_dbconn.call_site import CallSite
from asgi_dbconn.errors import ConfigurationError, FieldError
from asgi_dbconn.orm.binding import INHERIT, Choice, DatabaseChoice
from asgi_dbconn.orm.description import Description
from asgi_dbconn.orm.lookups import conditions, field, negated, related
from asgi_dbconn.orm.place import Place

if TYPE_CHECKING:
    from sqlalchemy.orm.interfaces import ORMOption
    from sqlalchemy.sql._typing import _ColumnExpressionArgument

__all__ = ["Building"]

T = TypeVar("T")


class Building(Generic[T]):
    """Immutable: may be kept, shared between tasks and loops, and used many times."""

    __slots__ = ("_built_at", "_description", "_place")

    def __init__(self, description: Description[T], place: Place) -> None:
        self._description = description
        self._place = place
        self._built_at: CallSite | None = place.built_at()

    def __asgi_dbconn_loop__(self) -> asyncio.AbstractEventLoop | None:
        # Where run_sync awaits it if the calling thread has no loop of its own.
        return self._place.database.home_loop

    def all(self) -> Self:
        """The same query; for those who like to read ``await User.query.all()``."""
        return self

    def filter(self, *expressions: _ColumnExpressionArgument[bool], **lookups: Any) -> Self:
        """Only rows for which all of these are true.

        Raises FieldError, at once, if a lookup names what the model does not have.
        """
        description = self._description
        return self._with(
            description.narrowed(*expressions, *conditions(description.mapper, lookups))  # type: ignore[arg-type]
        )

    def exclude(self, *expressions: _ColumnExpressionArgument[bool], **lookups: Any) -> Self:
        """Only rows for which these are not all true; rows where that is unknown (NULL) stay."""
        description = self._description
        return self._with(
            description.narrowed(
                negated(*expressions, *conditions(description.mapper, lookups))  # type: ignore[arg-type]
            )
        )

    def order_by(self, *fields: _ColumnExpressionArgument[Any] | str) -> Self:
        """Order by expressions or names; ``"-name"`` is descending. Replaces an earlier order."""
        return self._with(
            self._description.changed(order=tuple(self._ordering(each) for each in fields))
        )

    def limit(self, rows: int) -> Self:
        """At most so many rows."""
        return self._with(self._description.changed(limit=_count("limit", rows)))

    def offset(self, rows: int) -> Self:
        """Without the first so many rows; say which those are by ``order_by``."""
        return self._with(self._description.changed(offset=_count("offset", rows)))

    def distinct(self) -> Self:
        """Each row once."""
        return self._with(self._description.changed(is_distinct=True))

    def options(self, *options: ORMOption) -> Self:
        """SQLAlchemy's loader options, as ``selectinload(User.posts)``."""
        return self._loading(*options)

    def select_related(self, *relations: str | Any) -> Self:
        """Load these relations in the same statement, by a join; ``"author__country"`` goes on.

        For relations to one object; a collection would repeat its parent's row.
        """
        return self._loading(*(self._relation(joinedload, each) for each in relations))

    def prefetch_related(self, *relations: str | Any) -> Self:
        """Load these relations, collections too, by one more statement for each step."""
        return self._loading(*(self._relation(selectinload, each) for each in relations))

    def only(self, *fields: str | Any) -> Self:
        """Load these columns and the primary key, and leave the others out.

        Reading one that was left out raises DetachedInstanceError; ``refresh()`` loads it.
        """
        mapper = self._description.mapper
        chosen = [field(mapper, each) if isinstance(each, str) else each for each in fields]
        if not chosen:
            raise ConfigurationError("only() needs at least one field.")
        return self._loading(load_only(*chosen))

    def with_for_update(
        self,
        *,
        nowait: bool = False,
        skip_locked: bool = False,
        read: bool = False,
        key_share: bool = False,
    ) -> Self:
        """Lock the rows until the transaction ends; use it inside ``models.transaction()``.

        SQLite ignores it: a transaction there has locked the whole database already.
        """
        lock = {"nowait": nowait, "skip_locked": skip_locked, "read": read, "key_share": key_share}
        return self._with(self._description.changed(lock=lock))

    def using(
        self,
        *,
        database: DatabaseChoice | Choice = INHERIT,
        schema: str | Choice | None = INHERIT,
    ) -> Self:
        """Run elsewhere: on a database by its name (None is the default) or on a ``Database``, and
        in a schema, where None is no schema. What is left out stays as it is.

        Raises UnknownDatabase or InvalidSchemaName, at once.
        """
        copy = self._with(self._description)
        copy._place = self._place.using(database, schema)
        return copy

    @property
    def statement(self) -> Select[T]:
        """SQLAlchemy's own SELECT for this query, to look at, extend, or execute elsewhere.

        The schema is not in it: it comes with the connection that a scope gives.
        """
        return self._description.objects()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._description.model.__name__}>"

    def _with(self, description: Description[T]) -> Self:
        copy = object.__new__(type(self))
        copy._description = description
        copy._place = self._place
        copy._built_at = self._built_at
        return copy

    def _loading(self, *options: Any) -> Self:
        present = self._description.options
        return self._with(self._description.changed(options=(*present, *options)))

    def _ordering(self, by: Any) -> Any:
        if not isinstance(by, str):
            return by
        attribute = field(self._description.mapper, by.removeprefix("-"))
        return attribute.desc() if by.startswith("-") else attribute.asc()

    def _relation(self, load: Any, path: str | Any) -> Any:
        if not isinstance(path, str):
            return load(path)
        mapper, option = self._description.mapper, None
        for name in path.split("__"):
            attribute = related(mapper, name, path)
            step = load if option is None else getattr(option, load.__name__)
            option = step(attribute)
            mapper = attribute.property.mapper
        if option is None:
            raise FieldError("A relation is named by a string with something in it.")
        return option


def _count(verb: str, rows: Any) -> int:
    if not isinstance(rows, int) or isinstance(rows, bool) or rows < 0:
        raise ConfigurationError(f"{verb}() takes a number of rows of 0 or more, not {rows!r}.")
    return rows
