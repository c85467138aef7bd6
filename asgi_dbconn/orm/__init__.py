"""The thin query layer: immutable descriptions of queries over plain SQLAlchemy models."""

from __future__ import annotations

from asgi_dbconn.orm.constraints import Constraint, constraint_of

__all__ = ["Constraint", "constraint_of"]
