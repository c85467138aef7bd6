"""What is used of SQLAlchemy behind its public interface, and where."""

from __future__ import annotations

import ast
import inspect as python_inspect
from typing import Any

from sqlalchemy import (
    create_engine,
    inspect,
    literal,
    select,
)
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.orm import (
    Session,
    class_mapper,
)
from sqlalchemy.util import memoized_property

from asgi_dbconn.orm import (
    flush_undo,
    loaded_objects,
    loading,
    object_undo,
    store_lock,
    update_delete,
)
from asgi_dbconn.orm.fast_path import execution, hydration, read_plans, write_plans
from tests.orm.models_loaded import Author

# What is used of SQLAlchemy though its documentation does not speak of it. A release that changes
# one of these is looked at before it is allowed in.
UNDOCUMENTED = {
    "ClassManager": {"dispatch", "info", "new_instance"},
    "InstanceState": {
        "_orphaned_outside_of_session",
        "identity_token",
        "key",
        "load_path",
    },
    "Listeners": {"parent_listeners"},
    "Mapper": {"_path_registry", "dispatch"},
    "Session": {"dispatch"},
}

# The same for taking back what was done to objects.
OF_UNDOING = {
    "IdentityMap": {"_modified", "all_states"},
    "InstanceState": {
        "_deleted",
        "_orphaned_outside_of_session",
        "committed_state",
        "expired_attributes",
        "identity_token",
        "modified",
        "session_id",
    },
    "Session": {"_deleted", "_dirty_states", "_expunge_states", "_new", "identity_map"},
}

# The same for executing a statement directly.
OF_EXECUTING = {
    "Connection": {"_dbapi_connection", "_echo", "_handle_dbapi_exception", "_has_events"},
    "Context": {"_init_compiled", "compiled_parameters", "prefetch_cols", "pre_exec", "post_exec"},
    "Engine": {"_compiled_cache", "_has_events"},
    "Compiled": {"_cached_metadata", "_result_columns", "has_out_parameters"},
    "Metadata": {"_effective_processors"},
    "Statement": {"_generate_cache_key"},
}


def test_private_names_of_sqlalchemy_are_known_and_used_in_one_file() -> None:
    owners: dict[str, Any] = {
        "ClassManager": class_mapper(Author).class_manager,
        "InstanceState": inspect(Author(name="a")),
        "Listeners": Session().dispatch.before_flush,
        "Mapper": class_mapper(Author),
        "Session": Session(),
    }
    for owner, names in UNDOCUMENTED.items():
        assert [name for name in names if not hasattr(owners[owner], name)] == []
    names = set().union(*UNDOCUMENTED.values())
    assert names <= _attributes(hydration)
    behind = {name for name in names if name.startswith("_")}
    assert _behind_the_public_ones(hydration) == behind
    for module in (update_delete, loading, loading, read_plans, write_plans, write_plans):
        # What belongs to a property or a column is called key, too, and is documented.
        assert not (names - {"key"}) & _attributes(module)
        assert not _behind_the_public_ones(module)


def test_what_undoing_takes_is_known() -> None:
    owners: dict[str, Any] = {
        "IdentityMap": Session().identity_map,
        "InstanceState": inspect(Author(name="a")),
        "Session": Session(),
    }
    for owner, names in OF_UNDOING.items():
        assert [name for name in names if not hasattr(owners[owner], name)] == []
    behind = {each for names in OF_UNDOING.values() for each in names if each.startswith("_")}
    used = (object_undo, flush_undo, loaded_objects, store_lock)
    ours = {"_filled", "_originals", "_pending"}  # of one undo, read by another
    assert set().union(*(_behind_the_public_ones(module) for module in used)) - ours == behind
    # The pending mutations are there once they are asked for.
    assert isinstance(vars(type(owners["InstanceState"]))["_pending_mutations"], memoized_property)
    for name, value in (("do_commit", "commit"), ("do_rollback", "rollback")):
        source = python_inspect.getsource(getattr(DefaultDialect, name))
        assert source.endswith(f"dbapi_connection.{value}()\n")  # and no more than that


def test_what_executing_directly_takes_is_known() -> None:
    statement, engine = select(literal(1)), create_engine("sqlite://")
    with engine.connect() as connection:
        result = connection.execute(statement)
        compiled: Any = result.context.compiled
        key = statement._generate_cache_key()
        assert key is not None
        # As direct.py looks it up: a release that notes it otherwise makes everything slower.
        cache: Any = engine._compiled_cache
        assert cache[engine.dialect, key.key, (), False, False] is compiled
        owners: dict[str, Any] = {
            "Connection": connection,
            "Context": result.context,
            "Engine": engine,
            "Compiled": compiled,
            "Metadata": compiled._cached_metadata,
            "Statement": statement,
        }
        for owner, names in OF_EXECUTING.items():
            assert [name for name in names if not hasattr(owners[owner], name)] == []
    engine.dispose()
    behind = {name for names in OF_EXECUTING.values() for name in names if name.startswith("_")}
    assert _behind_the_public_ones(execution) == behind


def _behind_the_public_ones(module: Any) -> set[str]:
    return {
        node.attr
        for node in ast.walk(ast.parse(python_inspect.getsource(module)))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.endswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    }


def _attributes(module: Any) -> set[str]:
    tree = ast.parse(python_inspect.getsource(module))
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
