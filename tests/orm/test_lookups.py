"""Keyword lookups: what they find, what they escape, what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import ConfigurationError, FieldError, Queryable, Registry
from tests.cast import make_cast

ROWS = [("Ada", 36), ("adam", 20), ("bob_1", None), ("b%b", 50), ("bxb", 7)]


@pytest.mark.parametrize(
    ("lookup", "found"),
    [
        ({"name": "Ada"}, ["Ada"]),
        ({"name__exact": "Ada"}, ["Ada"]),
        ({"age": None}, ["bob_1"]),
        ({"name__ne": "Ada"}, ["adam", "b%b", "bob_1", "bxb"]),
        ({"age__ne": None}, ["Ada", "adam", "b%b", "bxb"]),
        ({"name__iexact": "ADA"}, ["Ada"]),
        ({"name__icontains": "AD"}, ["Ada", "adam"]),
        ({"name__contains": "%"}, ["b%b"]),
        ({"name__contains": "_"}, ["bob_1"]),
        ({"name__startswith": "b%"}, ["b%b"]),
        ({"name__istartswith": "AD"}, ["Ada", "adam"]),
        ({"name__endswith": "_1"}, ["bob_1"]),
        ({"name__iendswith": "DA"}, ["Ada"]),
        ({"age__in": [7, 50]}, ["b%b", "bxb"]),
        ({"age__in": []}, []),
        ({"age__lt": 20}, ["bxb"]),
        ({"age__lte": 20}, ["adam", "bxb"]),
        ({"age__gt": 36}, ["b%b"]),
        ({"age__gte": 36}, ["Ada", "b%b"]),
        ({"age__range": (20, 36)}, ["Ada", "adam"]),
        ({"age__isnull": True}, ["bob_1"]),
        ({"age__isnull": False}, ["Ada", "adam", "b%b", "bxb"]),
        ({"name__regex": "^b.b$"}, ["b%b", "bxb"]),
        ({"pk": 1}, ["Ada"]),
        ({"pk__in": [1, 2]}, ["Ada", "adam"]),
        ({"posts__title": "t"}, ["Ada"]),
        ({"posts__title__istartswith": "T"}, ["Ada"]),
        ({"posts__user__name": "Ada"}, ["Ada"]),
    ],
)
async def test_a_lookup_finds_its_rows(
    database_url: str, lookup: dict[str, Any], found: list[str]
) -> None:
    cast = make_cast(Registry(database_url))
    async with cast.models:
        await cast.models.create_all()
        for name, age in ROWS:
            await cast.User.query.create(name=name, age=age)
        for _ in range(2):
            await cast.Post.query.create(title="t", user_id=1)

        users = await cast.User.query.filter(**lookup)

    assert sorted(user.name for user in users) == found


@pytest.mark.parametrize(
    ("lookup", "said"),
    [
        ({"nmae": 1}, r"no field 'nmae'. Did you mean 'name'\? Choose from: age, id, name, posts"),
        ({"name__foo": 1}, "no lookup 'foo'"),
        ({"posts__titel": 1}, "Post has no field 'titel'"),
        ({"posts__title__foo": 1}, "no lookup 'foo'"),
        ({"pk": (1, 2)}, "one value"),
    ],
)
def test_what_does_not_exist_is_refused_when_written(lookup: dict[str, Any], said: str) -> None:
    cast = make_cast(Registry("sqlite://"))

    with pytest.raises(FieldError, match=said) as caught:
        cast.User.query.filter(**lookup)

    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ConfigurationError)


async def test_a_composite_key_is_a_tuple(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Seat(Base):
        __tablename__ = "seats"
        row: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int] = mapped_column(primary_key=True)
        taken: Mapped[bool] = mapped_column(default=False)

    async with models:
        await models.create_all()
        for number in range(3):
            await Seat.query.create(row=1, number=number)

        assert (await Seat.query.get((1, 2))).number == 2
        assert await Seat.query.filter(pk__in=[(1, 0), (1, 1)]).count() == 2
        assert await Seat.query.order_by("number").limit(2).update(taken=True) == 2
        assert await Seat.query.filter(taken=True).delete() == 2
        with pytest.raises(FieldError, match="tuple of 2"):
            await Seat.query.get(1)
