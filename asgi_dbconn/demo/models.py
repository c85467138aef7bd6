"""The demo's databases and tables: notes, and an audit trail in a database of its own."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from sqlalchemy import DateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn.orm.queryable import Queryable
from asgi_dbconn.registry.registry import Registry

__all__ = ["Base", "Entry", "Note", "models"]

models = Registry(
    database=os.environ.get("NOTES_DATABASE_URL", "sqlite:///notes.sqlite"),
    extra={"audit": os.environ.get("AUDIT_DATABASE_URL", "sqlite:///audit.sqlite")},
)


def _now() -> datetime:
    return datetime.now(UTC)


class Base(Queryable, DeclarativeBase, registry=models):
    """The declarative base of every model of the demo."""


class Note(Base):
    """A line of text that a user has saved."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    written_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)


class Entry(Base, database="audit"):
    """An event of a note."""

    __tablename__ = "entries"

    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[str]
    note_id: Mapped[int]
    happened_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
