"""``delete()`` of an object, and what becomes of it."""

from __future__ import annotations

import pytest
from sqlalchemy import ForeignKey
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import ObjectNotFound, Queryable, Registry
from tests.orm.people import people


async def test_a_deleted_object_can_be_stored_anew(database_url: str) -> None:
    async with people(database_url) as cast:
        for model, values in ((cast.User, {"name": "ada"}), (cast.Post, {"user_id": 1})):
            instance = await model.query.create(**values)
            await instance.delete()
            assert await model.query.count() == 0
            with pytest.raises(ObjectNotFound, match="has not been stored"):
                await instance.delete()
            await instance.save()
            assert await model.query.count() == 1


async def test_a_refused_delete_leaves_the_object(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Tag(Base):
        __tablename__ = "tags"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class Use(Base):
        __tablename__ = "uses"
        id: Mapped[int] = mapped_column(primary_key=True)
        tag_id: Mapped[int] = mapped_column(ForeignKey("tags.id"))

    async with models:
        await models.create_all()
        tag = await Tag.query.create(name="x")
        use = await Use.query.create(tag_id=tag.id)
        with pytest.raises(IntegrityError):
            await tag.delete()
        assert tag.name == "x"
        await use.delete()
        await tag.delete()
