"""What loading objects of a class takes by default."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import ForeignKey, Integer
from sqlalchemy.orm import DeclarativeBase, Mapped, class_mapper, mapped_column, relationship

from asgi_dbconn.orm.object_loading import is_one_statement


def chain(*lazy: Any) -> type[Any]:
    """The first of several classes, each of which loads the next one in this way."""

    class Base(DeclarativeBase):
        pass

    further: type[Any] | None = None
    for number, how in reversed(list(enumerate((*lazy, "select")))):
        body: dict[str, Any] = {
            "__tablename__": f"links_{number}",
            "id": mapped_column(Integer, primary_key=True),
        }
        if further is not None:
            body["next_id"] = mapped_column(ForeignKey(further.id))
            body["next"] = relationship(further, lazy=how)
        further = type(f"Link{number}", (Base,), body)
    assert further is not None
    return further


@pytest.mark.parametrize(
    ("lazy", "is_one"),
    [
        (("select",), True),
        (("joined",), True),
        (("joined", "joined"), True),
        ((False, "raise"), True),
        (("selectin",), False),
        (("select", "selectin"), True),
        (("joined", "selectin"), False),
        (("joined", False, "immediate"), False),
        (("joined", "select", "subquery"), True),
    ],
)
def test_what_comes_by_a_join_loads_in_turn(lazy: tuple[Any, ...], is_one: bool) -> None:
    assert is_one_statement(class_mapper(chain(*lazy))) is is_one


def test_classes_that_join_each_other_are_looked_at_once() -> None:
    class Base(DeclarativeBase):
        pass

    class Node(Base):
        __tablename__ = "nodes"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("nodes.id"))
        parent: Mapped[Node | None] = relationship(
            remote_side="Node.id", lazy="joined", join_depth=2
        )

    assert is_one_statement(class_mapper(Node))
