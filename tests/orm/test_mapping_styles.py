"""Models of other makes are read alike: dataclasses, composites, those that others have mapped."""

from __future__ import annotations

from sqlalchemy import (
    ForeignKey,
    func,
    select,
    text,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    composite,
    mapped_column,
    relationship,
)

from asgi_dbconn import Queryable, Registry
from tests.orm.library import library


async def test_dataclasses_composites_and_joined_tables_are_read_alike(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, MappedAsDataclass, DeclarativeBase, registry=models):
        pass

    class Point(Base):
        __tablename__ = "points"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        x: Mapped[int]
        y: Mapped[int] = mapped_column(default=7)
        kind: Mapped[str] = mapped_column(init=False, default="point")
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "point"}

    class Pixel(Point):
        __tablename__ = "pixels"
        id: Mapped[int] = mapped_column(ForeignKey("points.id"), primary_key=True, init=False)
        colour: Mapped[str] = mapped_column(kw_only=True)
        __mapper_args__ = {"polymorphic_identity": "pixel"}

    class Ghost(Point):
        __mapper_args__ = {"polymorphic_identity": "ghost"}

    async with models:
        await models.create_all()
        await Point.query.create(x=1)
        await Pixel.query.create(x=2, colour="red")
        await Pixel.query.create(x=3, colour="blue")
        await Ghost.query.create(x=4)

        assert [type(point) for point in await Point.query.order_by("x")] == [
            Point,
            Pixel,
            Pixel,
            Ghost,
        ]
        assert [point.y for point in await Point.query] == [7] * 4
        assert await Pixel.query.order_by("-x").values_list("colour", "x") == [
            ("blue", 3),
            ("red", 2),
        ]
        red = Pixel.query.filter(colour="red")
        assert (await red.get()).x == 2
        assert (await red.count(), await red.exists()) == (1, True)
        assert await Pixel.query.filter(x__gt=2).count() == 1
        assert await Pixel.query.exclude(x=2).order_by("x").values_list("x", flat=True) == [3]
        assert await Pixel.query.order_by("-x").limit(1).update(colour="grey") == 1
        last = await Pixel.query.last()
        assert last is not None
        assert last.colour == "grey"
        assert await Pixel.query.limit(1).offset(1).count() == 1
        async with models.transaction():
            assert len(await Pixel.query.with_for_update()) == 2

        ghosts = Ghost.query
        assert (await ghosts.count(), await ghosts.exists()) == (1, True)
        assert await ghosts.update(y=0) == 1
        assert await ghosts.limit(9).update(y=0) == 1
        assert await Point.query.filter(y=0).count() == 1
        assert [type(ghost) for ghost in await ghosts] == [Ghost]
        assert await ghosts.values_list("x", flat=True) == [4]
        assert await ghosts.delete() == 1
        assert await Point.query.count() == 3


async def test_composites_are_read_and_found(database_url: str) -> None:
    models = Registry(database_url)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Range:
        def __init__(self, low: int, high: int) -> None:
            self.low, self.high = low, high

        def __composite_values__(self) -> tuple[int, int]:
            return self.low, self.high

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Range) and vars(self) == vars(other)

        __hash__ = object.__hash__

    class Shelf(Base):
        __tablename__ = "shelves"
        id: Mapped[int] = mapped_column(primary_key=True)
        low: Mapped[int]
        high: Mapped[int]
        span: Mapped[Range] = composite(Range, "low", "high")

    async with models:
        await models.create_all()
        await Shelf.query.create(span=Range(1, 5))
        assert (await Shelf.query.get(span=Range(1, 5))).span.high == 5
        assert await Shelf.query.filter(low__lt=1).count() == 0
        assert [shelf.span for shelf in await Shelf.query] == [Range(1, 5)]


async def test_classes_that_others_have_mapped_are_read_alike(database_url: str) -> None:
    class Theirs(DeclarativeBase):
        pass

    class Line(Theirs):
        __tablename__ = "lines"
        id: Mapped[int] = mapped_column(primary_key=True)
        order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))

    class Order(Theirs):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)
        item: Mapped[str]
        lines: Mapped[list[Line]] = relationship()

    models = Registry(database_url)
    async with models:
        async with models.connection() as connection:
            await connection.run_sync(Theirs.metadata.create_all)
        orders = models.query(Order)
        order = await orders.create(item="tea", lines=[Line(), Line()])
        await orders.create(item="jam")

        assert await orders.filter(lines__pk__gt=0).count() == 1
        assert await models.query(Line).filter(order_id=order.id).count() == 2
        found = await orders.prefetch_related("lines").get(item="tea")
        assert len(found.lines) == 2
        assert await orders.exclude(item="tea").values_list(Order.item, flat=True) == ["jam"]
        assert (await orders.order_by("-item").first() or order).item == "tea"


async def test_the_statement_can_be_carried_on(database_url: str) -> None:
    async with library(database_url) as cast:
        Author, Book = cast.Author, cast.Book
        statement = Author.query.filter(name__in=["Ada", "Bob"]).statement
        counted = (
            statement.join(Book, Book.author_id == Author.id)
            .with_only_columns(Author.name, func.count())
            .group_by(Author.name)
            .order_by(text("1"))
        )
        async with cast.models.connection() as connection:
            assert (await connection.execute(counted)).all() == [("Ada", 2), ("Bob", 1)]
            inner = Author.query.filter(country="uk").statement.subquery()
            rows = await connection.execute(select(func.count()).select_from(inner))
            assert rows.scalar_one() == 1
