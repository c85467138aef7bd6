"""The models that every example uses: plain SQLAlchemy, and a registry that knows the database."""

import os

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import Queryable, Registry

models = Registry(database=os.environ.get("DATABASE_URL", "sqlite:///notes.sqlite"))


class Base(Queryable, DeclarativeBase, registry=models):
    pass


class Note(Base):
    __tablename__ = "example_notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
