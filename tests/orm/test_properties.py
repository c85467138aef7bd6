"""Whatever chain of verbs is written, the rows are those of SQLAlchemy written by hand.

The chains are random, from seeds that name them. What is expected is written in another way than
the query layer does it: subqueries with IN instead of EXISTS, IS NOT TRUE instead of NOT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from sqlalchemy import and_, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from asgi_dbconn import QuerySet, Registry
from tests.orm.library import Library, declare

CHAINS = 60

Condition = tuple[dict[str, Any], Any]
"""Lookups, and the same in SQLAlchemy's words."""


@dataclass(frozen=True)
class ByHand:
    model: Any
    where: tuple[Any, ...] = ()
    order: tuple[Any, ...] = ()
    limit: int | None = None
    offset: int = 0

    def ids(self) -> Any:
        statement = select(self.model.id).where(*self.where).order_by(*self.order)
        return statement.limit(self.limit).offset(self.offset)


@dataclass
class Chain:
    """A query that grows in both languages."""

    query: QuerySet[Any]
    by_hand: ByHand
    said: list[str] = field(default_factory=list)
    loads_plainly: bool = True

    def grow(self, said: str, query: QuerySet[Any], **changes: Any) -> None:
        self.said.append(said)
        self.query, self.by_hand = query, replace(self.by_hand, **changes)


def conditions_on_books(cast: Library, chance: Random) -> list[Condition]:
    Author, Book, Tag = cast.Author, cast.Book, cast.Tag
    pages, pair = chance.randrange(60), sorted(chance.sample(range(60), 2))
    country, text = chance.choice(["uk", "us", None]), chance.choice(["red", "green", "blue"])
    numbers = [chance.randrange(60) for _ in range(chance.randrange(4))]
    letter = chance.choice("aA%_b")
    of_country = select(Author.id).where(
        Author.country.is_(None) if country is None else Author.country == country
    )
    tagged = select(cast.models.metadata.tables["taggings"].c.book_id).join(Tag)
    mentored = select(Author.id).where(
        Author.mentor_id.in_(select(Author.id).where(Author.name.like("%a%")))
    )
    return [
        ({"pages": pages}, Book.pages == pages),
        ({"pages__gt": pages}, Book.pages > pages),
        ({"pages__range": tuple(pair)}, and_(Book.pages >= pair[0], Book.pages <= pair[1])),
        ({"pages__in": numbers}, Book.pages.in_(numbers)),
        ({"pages__in": [*numbers, None]}, or_(Book.pages.in_(numbers), Book.pages.is_(None))),
        ({"pages__isnull": True}, Book.pages.is_(None)),
        ({"pages__ne": pages}, Book.pages != pages),
        (
            {"title__icontains": letter},
            func.lower(Book.title).contains(letter.lower(), autoescape=True),
        ),
        ({"title": "b"}, Book.title == "b"),
        ({"pk__lte": pages}, Book.id <= pages),
        ({"author": None}, Book.author_id.is_(None)),
        ({"author__country": country}, Book.author_id.in_(of_country)),
        (
            {"author__name__contains": "a"},
            Book.author_id.in_(select(Author.id).where(Author.name.contains("a"))),
        ),
        ({"author__mentor__name__contains": "a"}, Book.author_id.in_(mentored)),
        (
            {"editor__country": country, "pages__lt": pages},
            and_(Book.editor_id.in_(of_country), Book.pages < pages),
        ),
        ({"tags__text": text}, Book.id.in_(tagged.where(Tag.text == text))),
        (
            {"tags__text": text, "tags__pk__gt": 2},
            Book.id.in_(tagged.where(Tag.text == text, Tag.id > 2)),
        ),
        ({"tags__isnull": False}, Book.id.in_(tagged)),
    ]


def conditions_on_authors(cast: Library, chance: Random) -> list[Condition]:
    Author, Book = cast.Author, cast.Book
    pages, number = chance.randrange(60), chance.randrange(4)
    country = chance.choice(["uk", "us"])
    having = select(Book.author_id).where(Book.author_id.is_not(None))
    pupils = select(Author.mentor_id).where(Author.mentor_id.is_not(None))
    return [
        ({"country": country}, Author.country == country),
        ({"country__ne": country}, Author.country != country),
        (
            {"country__in": [country, None]},
            or_(Author.country == country, Author.country.is_(None)),
        ),
        ({"shout__startswith": "A"}, func.upper(Author.name).startswith("A")),
        ({"called__endswith": "a"}, Author.name.endswith("a")),
        ({"written__gte": number}, Author.written >= number),
        ({"books__pages__gt": pages}, Author.id.in_(having.where(Book.pages > pages))),
        (
            {"books__pages__gt": pages, "books__title": "b"},
            Author.id.in_(having.where(Book.pages > pages, Book.title == "b")),
        ),
        ({"books__isnull": True}, Author.id.not_in(having)),
        ({"mentor__isnull": True}, Author.mentor_id.is_(None)),
        ({"pupils__country": country}, Author.id.in_(pupils.where(Author.country == country))),
        ({"pupils__pupils__isnull": False}, Author.id.in_(pupils.where(Author.id.in_(pupils)))),
    ]


def orders(model: Any, names: list[str], chance: Random) -> tuple[list[Any], list[Any]]:
    """An order that leaves nothing open, and the same in SQLAlchemy's words."""
    ours: list[Any] = []
    theirs: list[Any] = []
    for name in chance.sample(names, chance.randrange(3)):
        attribute = getattr(model, name)
        kind = chance.randrange(4)
        if kind < 2:
            ours.append(("-" if kind else "") + name)
            theirs.append(attribute.desc() if kind else attribute.asc())
        else:
            step = attribute.desc() if kind == 2 else attribute.asc()
            step = step.nulls_last() if chance.random() < 0.5 else step.nulls_first()
            ours.append(step)
            theirs.append(step)
    descending = chance.random() < 0.5
    ours.append("-pk" if descending else "pk")
    theirs.append(model.id.desc() if descending else model.id.asc())
    return ours, theirs


def random_chain(cast: Library, chance: Random) -> Chain:
    model, conditions, names = chance.choice(
        [
            (cast.Book, conditions_on_books, ["title", "pages", "author_id"]),
            (cast.Author, conditions_on_authors, ["name", "country", "mentor_id"]),
        ]
    )
    ours, theirs = orders(model, names, chance)
    chain = Chain(model.query.order_by(*ours), ByHand(model, order=tuple(theirs)), [model.__name__])
    for _ in range(chance.randrange(1, 5)):
        query, where = chain.query, chain.by_hand.where
        lookups, expression = chance.choice(conditions(cast, chance))
        match chance.randrange(7):
            case 0 | 1:
                where = (*where, expression)
                chain.grow(f"filter({lookups})", query.filter(**lookups), where=where)
            case 2:
                where = (*where, expression)
                chain.grow(f"filter({expression})", query.filter(expression), where=where)
            case 3:
                # IS NOT TRUE is another way to say that unknown is not true.
                where = (*where, expression.is_not(true()))
                chain.grow(f"exclude({lookups})", query.exclude(**lookups), where=where)
            case 4:
                others, another = chance.choice(conditions(cast, chance))
                without = and_(expression, another).is_not(true())
                chain.grow(
                    f"exclude({expression}, {others})",
                    chain.query.exclude(expression, **others),
                    where=(*where, without),
                )
            case 5:
                rows = chance.randrange(12)
                chain.grow(f"limit({rows})", chain.query.limit(rows), limit=rows)
            case 6:
                rows = chance.randrange(6)
                chain.grow(f"offset({rows})", chain.query.offset(rows), offset=rows)
    ways: list[Callable[[QuerySet[Any]], QuerySet[Any]]] = [
        lambda query: query.only(*names[:2]),
        lambda query: query.prefetch_related("pupils" if model is cast.Author else "tags"),
        lambda query: query.select_related("books" if model is cast.Author else "author"),
        lambda query: query.distinct(),
    ]
    way = chance.randrange(6)  # two of them add nothing
    if way < len(ways):
        chain.query = ways[way](chain.query)
        chain.loads_plainly = way < 2
    return chain


async def fill(cast: Library, chance: Random) -> None:
    for number in range(12):
        await cast.Author.query.create(
            name=chance.choice("abcABC") + chance.choice("abc%_") + chance.choice("aAx"),
            country=chance.choice(["uk", "us", None]),
            mentor_id=chance.choice([None, *range(1, number + 1)]),
        )
    tags = [await cast.Tag.query.create(text=text) for text in ("red", "green", "blue", "red")]
    for _ in range(30):
        await cast.Book.query.create(
            title=chance.choice(["a", "b", "A", "a%", "_", "bb"]),
            pages=chance.choice([None, chance.randrange(60)]),
            author_id=chance.choice([None, *range(1, 13)]),
            editor_id=chance.choice([None, *range(1, 13)]),
            tags=chance.sample(tags, chance.randrange(3)),
        )


async def check(chain: Chain, session: AsyncSession) -> None:
    query = chain.query
    expected = list(await session.scalars(chain.by_hand.ids()))
    assert [row.id for row in await query] == expected
    if chain.loads_plainly:  # PostgreSQL orders distinct values only by themselves
        assert await query.values_list("pk", flat=True) == expected
    assert await query.count() == len(expected)
    assert await query.exists() is bool(expected)
    first, last = await query.first(), await query.last()
    assert (first.id if first else None) == (expected[0] if expected else None)
    assert (last.id if last else None) == (expected[-1] if expected else None)
    if len(expected) == 1:
        assert (await query.get()).id == expected[0]
    if chain.loads_plainly:  # joined collections cannot be streamed
        async with query.stream(100) as rows:
            assert [row.id async for row in rows] == expected


@pytest.mark.parametrize("seed", range(6))
async def test_chains_of_verbs_find_the_rows_of_sql_by_hand(database_url: str, seed: int) -> None:
    chance = Random(seed)
    cast = declare(Registry(database_url))
    found = 0
    async with cast.models:
        await cast.models.create_all()
        await fill(cast, chance)
        async with cast.models.session() as session:
            for _ in range(CHAINS):
                chain = random_chain(cast, chance)
                try:
                    await check(chain, session)
                except BaseException as error:
                    error.add_note(".".join(chain.said))
                    raise
                found += await chain.query.count()
    assert found > CHAINS  # most of the chains are about something


@pytest.mark.parametrize("seed", range(3))
async def test_chains_of_verbs_change_the_rows_of_sql_by_hand(database_url: str, seed: int) -> None:
    chance = Random(1000 + seed)
    cast = declare(Registry(database_url))
    async with cast.models:
        await cast.models.create_all()
        await fill(cast, chance)
        for _ in range(CHAINS // 3):
            chain = random_chain(cast, chance)
            model = chain.by_hand.model
            name = "title" if model is cast.Book else "country"
            async with cast.models.session() as session:
                expected = sorted(await session.scalars(chain.by_hand.ids()))
                # What was changed is known by a value that nothing else has.
                assert await chain.query.update(**{name: "changed"}) == len(expected), chain.said
                changed = await model.query.filter(**{name: "changed"}).values_list("pk", flat=True)
                assert sorted(changed) == expected, chain.said
                await session.rollback()
                books = cast.Book.query.count
                if model is cast.Book:
                    before = await books()
                    assert await chain.query.delete() == len(expected), chain.said
                    assert await books() == before - len(expected)
                    assert not await cast.Book.query.filter(pk__in=expected).exists()
                    await session.rollback()
