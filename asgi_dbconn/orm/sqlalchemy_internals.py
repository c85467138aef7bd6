"""The private and undocumented names of SQLAlchemy that the fast path uses.

They are checked once, when the fast path is imported. A release of SQLAlchemy that drops one makes
queries slower, and breaks none: without the fast path every model takes the Session.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

__all__ = ["EXECUTION", "HYDRATION", "find_missing_names", "find_owner"]

HYDRATION: Final[dict[str, set[str]]] = {
    "orm.instrumentation.ClassManager": {"dispatch", "info", "new_instance"},
    "orm.state.InstanceState": {
        *("_orphaned_outside_of_session", "identity_token", "key", "load_path"),
    },
    "event.attr._EmptyListener": {"parent_listeners"},
    "event.attr._CompoundListener": {"parent_listeners"},
    "orm.Mapper": {"_path_registry", "dispatch"},
    "orm.Session": {"dispatch"},
}
"""By class, below the package sqlalchemy: names for detached instances, and for listeners."""

EXECUTION: Final[dict[str, set[str]]] = {
    "engine.Connection": {"_dbapi_connection", "_echo", "_handle_dbapi_exception", "_has_events"},
    "engine.default.DefaultExecutionContext": {
        *("_init_compiled", "compiled_parameters", "prefetch_cols", "pre_exec", "post_exec"),
    },
    "engine.Engine": {"_compiled_cache", "_has_events"},
    "sql.compiler.SQLCompiler": {"_cached_metadata", "_result_columns", "has_out_parameters"},
    "engine.cursor.CursorResultMetaData": {"_effective_processors"},
    "sql.Select": {"_generate_cache_key"},
}
"""The same for executing a compiled statement past ``Connection.execute()``."""


def find_missing_names(required: Mapping[str, set[str]]) -> list[str]:
    """Return the names that this release of SQLAlchemy does not have, as ``path.Class.name``."""
    missing: list[str] = []
    for path, names in required.items():
        owner = find_owner(path)
        known = set() if owner is None else {*dir(owner), *_names_of_instances(owner)}
        missing += [f"{path}.{name}" for name in sorted(names - known)]
    return missing


def find_owner(path: str) -> type[Any] | None:
    """Return the class of SQLAlchemy at ``path``, or None."""
    module, _, name = f"sqlalchemy.{path}".rpartition(".")
    try:
        owner: type[Any] | None = getattr(import_module(module), name, None)
    except ImportError:
        return None
    return owner


def _names_of_instances(owner: type[Any]) -> Iterator[str]:
    """Yield the names that are annotated in the class or set by its ``__init__``."""
    for base in owner.__mro__:
        yield from vars(base).get("__annotations__", {})
        code = getattr(vars(base).get("__init__"), "__code__", None)
        yield from () if code is None else code.co_names
