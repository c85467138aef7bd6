"""``refresh()``, and what is not loaded without it."""

from __future__ import annotations

import pytest
from sqlalchemy.orm.exc import DetachedInstanceError

from asgi_dbconn import FieldError, ObjectNotFound
from tests.orm.people import people


async def test_refresh_takes_what_is_stored(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada", age=1)
        await cast.User.query.update(age=2)
        user.name = "lost"
        await user.refresh("age")
        assert (user.name, user.age) == ("lost", 2)
        await user.refresh()
        assert (user.name, user.age) == ("ada", 2)
        await user.save()
        assert (await cast.User.query.get()).name == "ada"


async def test_refresh_loads_relations(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada", posts=[cast.Post(title="one")])
        user = await cast.User.query.get(user.id)
        await user.refresh("posts")
        assert [post.title for post in user.posts] == ["one"]
        user.posts[0].title = "two"
        await user.posts[0].save()
        assert (await cast.Post.query.get()).title == "two"

        post = await cast.Post.query.get()
        await post.refresh("user", "title")
        assert (post.user.name, post.title) == ("ada", "two")
        with pytest.raises(FieldError, match=r"nothing called 'psots'.*There are: age, id, name"):
            await user.refresh("psots")
        with pytest.raises(ObjectNotFound, match="has not been stored"):
            await cast.User(name="new").refresh()


async def test_an_unloaded_relation_says_that_the_object_is_detached(database_url: str) -> None:
    async with people(database_url) as cast:
        user = await cast.User.query.create(name="ada")
        user = await cast.User.query.get(user.id)
        with pytest.raises(DetachedInstanceError, match="lazy load operation of attribute 'posts'"):
            _ = user.posts
