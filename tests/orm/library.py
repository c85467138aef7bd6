"""Authors, books and tags: NULLs, a relation to oneself, many-to-many, on any database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ForeignKey, Table, func, select
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    mapped_column,
    relationship,
    synonym,
)

from asgi_dbconn import Queryable, Registry


@dataclass(frozen=True)
class Library:
    models: Registry
    Author: Any
    Book: Any
    Tag: Any


def declare(models: Registry) -> Library:
    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    tagging = Table(
        "taggings",
        Base.metadata,
        Column("book_id", ForeignKey("books.id", ondelete="CASCADE"), primary_key=True),
        Column("tag_id", ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
    )

    class Tag(Base):
        __tablename__ = "tags"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]
        books: Mapped[list[Book]] = relationship(secondary=tagging, back_populates="tags")

    class Book(Base):
        __tablename__ = "books"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        pages: Mapped[int | None]
        author_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id"))
        editor_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id"))
        author: Mapped[Author | None] = relationship(
            back_populates="books", foreign_keys=[author_id]
        )
        editor: Mapped[Author | None] = relationship(foreign_keys=[editor_id])
        tags: Mapped[list[Tag]] = relationship(secondary=tagging, back_populates="books")

    class Author(Base):
        __tablename__ = "authors"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column("full_name")
        country: Mapped[str | None]
        mentor_id: Mapped[int | None] = mapped_column(ForeignKey("authors.id"))
        mentor: Mapped[Author | None] = relationship(
            back_populates="pupils", remote_side="Author.id"
        )
        pupils: Mapped[list[Author]] = relationship(back_populates="mentor")
        books: Mapped[list[Book]] = relationship(
            back_populates="author", foreign_keys=[Book.author_id]
        )
        biography: Mapped[str | None] = mapped_column(deferred=True)
        called = synonym("name")

        @hybrid_property
        def shout(self) -> str:
            return self.name.upper()

        @shout.inplace.expression
        @classmethod
        def _shout(cls) -> Any:
            return func.upper(cls.name)

    written = select(func.count(Book.id)).where(Book.author_id == Author.id)
    Author.written = column_property(written.correlate_except(Book).scalar_subquery())
    return Library(models, Author, Book, Tag)


@asynccontextmanager
async def library(url: str) -> AsyncIterator[Library]:
    """Ada taught Bob, who taught Cyd, who has no country and wrote nothing."""
    cast = declare(Registry(url))
    async with cast.models:
        await cast.models.create_all()
        ada = await cast.Author.query.create(name="Ada", country="uk", biography="long")
        bob = await cast.Author.query.create(name="Bob", country="us", mentor_id=ada.id)
        await cast.Author.query.create(name="Cyd", mentor_id=bob.id)
        for text in ("red", "green"):
            await cast.Tag.query.create(text=text)
        red, green = await cast.Tag.query.order_by("pk")
        for values in (
            {"title": "One", "pages": 100, "author_id": ada.id, "tags": [red]},
            {"title": "Two", "pages": None, "author_id": ada.id, "tags": [red, green]},
            {"title": "Three", "pages": 300, "author_id": bob.id, "editor_id": ada.id},
            {"title": "Four", "pages": None},
        ):
            await cast.Book.query.create(**values)
        yield cast
