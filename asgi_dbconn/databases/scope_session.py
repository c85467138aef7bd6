"""The Session of a scope: SQLAlchemy's own, in a class to which listeners can belong.

A listener of a single Session takes ten microseconds to attach. Those of this class are attached
once, and know by :attr:`ScopeSession.place` what to do about a Session.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

__all__ = ["ScopeSession"]


class ScopeSession(Session):
    """A Session made by ``session()``; it behaves as any other."""

    place: Any = None
    """The origin of its objects; None if it is not to be noted on them."""
    flush_undo: Any = None
    """The undo of the flush under way."""
