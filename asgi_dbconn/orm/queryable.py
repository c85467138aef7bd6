"""The mixin that gives a declarative base its registry, and its models their ``query``."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, overload

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.orm import instance_verbs
from asgi_dbconn.orm.binding import INHERIT, Binding, Choice
from asgi_dbconn.orm.object_identity import hash_of, is_same_row
from asgi_dbconn.orm.queryset import QuerySet

if TYPE_CHECKING:
    from typing import Never

__all__ = ["Queryable"]

T = TypeVar("T")
_OVER_ALL: Final = "__dbconn_over_all__"


class QueryDescriptor:
    """``User.query``: the query of all rows, on the class only.

    It is one object for each class. While the database is not connected, an access makes a copy
    that knows its line, for the warning.
    """

    @overload
    def __get__(self, instance: None, owner: type[T]) -> QuerySet[T]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> Never: ...
    def __get__(self, instance: object | None, owner: type[T]) -> QuerySet[T]:
        if instance is not None:
            raise AttributeError(
                f"query belongs to the class: write {owner.__name__}.query, not instance.query"
            )
        bound = getattr(owner, "__dbconn__", None)
        if bound is None:
            raise ConfigurationError(
                f"{owner.__name__} is bound to no registry. Give one to its base: "
                "class Base(Queryable, DeclarativeBase, registry=models)."
            )
        made = owner.__dict__.get(_OVER_ALL)
        if made is None or made[0] is not bound:
            binding, database = bound
            over_all = QuerySet.over(owner, binding, binding.find_database(database))
            made = (bound, over_all)
            # type.__setattr__ bypasses SQLAlchemy, which would look for a column.
            type.__setattr__(owner, _OVER_ALL, made)
        query: QuerySet[T] = made[1].again()
        return query


class Queryable:
    """The mixin that goes before ``DeclarativeBase``.

    Write ``class Base(Queryable, DeclarativeBase, registry=models)``.

    A subclass may name another database: ``class Entry(Base, database="audit")``. That chooses the
    MetaData its table belongs to, so ``create_all`` creates it in that database and nowhere else.
    """

    # Not called `registry`: that name is SQLAlchemy's. Subclasses inherit it.
    __dbconn__: ClassVar[tuple[Binding, str | None]]
    query: ClassVar[QueryDescriptor] = QueryDescriptor()

    def __init_subclass__(
        cls,
        *,
        registry: Binding | None = None,
        database: str | Choice | None = INHERIT,
        **declarative: Any,
    ) -> None:
        inherited = getattr(cls, "__dbconn__", None)
        if registry is not None:
            cls.__dbconn__ = (registry, None if isinstance(database, Choice) else database)
        elif not isinstance(database, Choice):
            if inherited is None:
                raise ConfigurationError(
                    f"{cls.__name__} names the database {database!r} but no registry. "
                    "Give its base registry=models."
                )
            cls.__dbconn__ = (inherited[0], database)
        if "__dbconn__" in cls.__dict__:
            _choose_metadata(cls)
        super().__init_subclass__(**declarative)

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same row of the same database and schema.

        A new object is equal to itself only. Classes that define ``__eq__``, as dataclasses do,
        keep theirs.
        """
        if self is other:
            return True
        return is_same_row(self, other) if isinstance(other, Queryable) else NotImplemented

    def __hash__(self) -> int:
        return hash_of(self)

    def save(self) -> Coroutine[Any, Any, None]:
        """Store this object, with the new and changed objects of its cascades.

        An INSERT if it is new, else one UPDATE of the changed columns, and nothing without changes.

        The object goes to the database and schema that it came from, whatever the context. A new
        object goes where a query made now would go. A failure leaves the object as it is, so that
        you can correct it and save it again. One task at a time may save it.

        Raises ObjectNotFound if its row is gone. Raises SQLAlchemy's StaleDataError if another
        transaction changed the row and the model counts versions. Raises ConfigurationError if a
        related object came from another database or schema, or is a second object of the same row.
        """
        return instance_verbs.save(self)

    def delete(self) -> Coroutine[Any, Any, None]:
        """Delete the row of this object, with the cascades of its relationships.

        It becomes a new object: save() would insert it again. Raises ObjectNotFound if its row is
        gone already.
        """
        return instance_verbs.delete(self)

    def refresh(self, *names: str) -> Coroutine[Any, Any, None]:
        """Reload every column, or these columns and relations: ``await user.refresh("posts")``.

        Unsaved changes are lost. Without names, deferred columns that were not loaded stay
        deferred, and relations stay as they are, except those whose foreign key has changed. Raises
        ObjectNotFound if the row is gone.
        """
        return instance_verbs.refresh(self, names)


def _choose_metadata(cls: type[Queryable]) -> None:
    binding, name = cls.__dbconn__
    binding.find_database(name)
    own = cls.__dict__.get("metadata")
    if isinstance(own, MetaData):
        binding.adopt_metadata(name, own)
    elif issubclass(cls, DeclarativeBase):
        cls.metadata = binding.metadatas[name]
