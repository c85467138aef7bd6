from __future__ import annotations

import os

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import Queryable, Registry

models = Registry(os.environ["DATABASE_URL"], extra={"audit": os.environ["AUDIT_URL"]})


class Base(Queryable, DeclarativeBase, registry=models):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(unique=True)


class Entry(Base, database="audit"):
    __tablename__ = "entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[str]
