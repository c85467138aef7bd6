"""The models that the tests play with, declared anew on each test's own registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from asgi_dbconn import Queryable, Registry


@dataclass(frozen=True)
class Cast:
    models: Registry
    User: Any
    Post: Any


def make_cast(models: Registry) -> Cast:
    """Users who write posts, on the registry's default database."""

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class User(Base):
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
        age: Mapped[int | None]
        posts: Mapped[list[Post]] = relationship(back_populates="user")

    class Post(Base):
        __tablename__ = "posts"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(server_default="untitled")
        user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
        user: Mapped[User] = relationship(back_populates="posts")

    return Cast(models, User, Post)
