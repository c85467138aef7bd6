"""All that SQLAlchemy knows of an object, to compare those that came about in different ways."""

from __future__ import annotations

from typing import Any

from sqlalchemy import inspect

__all__ = ["anatomy"]


def anatomy(instance: Any) -> dict[str, Any]:
    state = inspect(instance)
    return {
        "class": type(instance),
        "values": {k: v for k, v in instance.__dict__.items() if k != "_sa_instance_state"},
        "key": state.key,
        "identity": state.identity,
        "token": state.identity_token,
        "is": (state.transient, state.pending, state.persistent, state.detached, state.deleted),
        "session": state.session,
        "modified": state.modified,
        "committed": dict(state.committed_state),
        "expired": (state.expired, set(state.expired_attributes)),
        "unloaded": state.unloaded,
        "unmodified": state.unmodified,
        "histories": {attr.key: attr.history for attr in state.attrs},
        "options": (state.load_options, state.load_path),
        "callables": dict(state.callables),
    }
