"""The objects that an expression refers to, as ``Post.user == user`` refers to the user.

SQLAlchemy reads the key of such an object when the statement is executed. The key alone does not
tell from which database and schema the object came, so a query remembers its references, and they
are checked against its target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from sqlalchemy import BindParameter, ClauseElement
from sqlalchemy.orm import InstanceState
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.sql.visitors import iterate

__all__ = ["KeyOf", "Reference", "references_in"]

Reference = InstanceState[Any]

_STATE: Final = "state"
"""The variable by which the callable of a relationship's comparison holds the object."""


class KeyOf:
    """One value of the key of a stored object, as a parameter that tells of which object."""

    __slots__ = ("state", "value")

    def __init__(self, instance: Any, position: int) -> None:
        self.state: Reference = instance_state(instance)
        identity: Any = self.state.identity
        self.value: Any = identity[position]

    def __call__(self) -> Any:
        return self.value


def references_in(expressions: Iterable[Any]) -> tuple[Reference, ...]:
    """Return the states of the objects that the expressions compare with, each once."""
    found: dict[Reference, None] = {}
    for expression in expressions:
        element = expression
        if not isinstance(element, ClauseElement):
            make = getattr(element, "__clause_element__", None)
            if make is None:
                continue  # a lambda: its SQL is unknown before the call
            element = make()
        for part in iterate(element):
            if isinstance(part, BindParameter) and part.callable is not None:
                state = _state_of(part.callable)
                if state is not None:
                    found[state] = None
    return tuple(found)


def _state_of(read: Callable[[], Any]) -> Reference | None:
    if isinstance(read, KeyOf):
        return read.state
    code = getattr(read, "__code__", None)
    if code is None or _STATE not in code.co_freevars:
        return None
    cells: Any = getattr(read, "__closure__", ())
    state = cells[code.co_freevars.index(_STATE)].cell_contents
    return state if isinstance(state, InstanceState) else None
