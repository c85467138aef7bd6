"""What is used of SQLAlchemy behind its public interface, and where."""

from __future__ import annotations

import ast
import inspect as python_inspect
from collections.abc import Mapping
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
)
from sqlalchemy.util import memoized_property

from asgi_dbconn.orm import (
    flush_undo,
    loaded_objects,
    object_loading,
    object_undo,
    store_lock,
    update_delete,
)
from asgi_dbconn.orm.fast_path import AVAILABLE, execution, hydration, read_plans, write_plans
from asgi_dbconn.orm.sqlalchemy_internals import EXECUTION, HYDRATION, find_missing_names
from tests.orm.models_loaded import Author

# What is used of SQLAlchemy behind its public interface. A release that changes one of these is
# looked at before it is allowed in.
# For taking back what was done to objects.
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


def test_this_release_of_sqlalchemy_has_all_names_of_the_fast_path() -> None:
    assert find_missing_names(HYDRATION) == find_missing_names(EXECUTION) == []
    assert AVAILABLE


def test_a_name_that_is_missing_is_found() -> None:
    required = {"orm.Mapper": {"dispatch", "_no_such_name"}, "orm.NoSuchClass": {"name"}}

    assert find_missing_names({**required, "no_such_module.Class": {"name"}}) == [
        "orm.Mapper._no_such_name",
        "orm.NoSuchClass.name",
        "no_such_module.Class.name",
    ]


def test_private_names_of_sqlalchemy_are_used_in_one_file_each() -> None:
    names = set().union(*HYDRATION.values())
    assert names <= _attributes(hydration)
    assert _behind_the_public_ones(hydration) == _private(HYDRATION)
    assert _behind_the_public_ones(execution) == _private(EXECUTION)
    for module in (update_delete, object_loading, read_plans, write_plans):
        # What belongs to a property or a column is called key, too, and is documented.
        assert not (names - {"key"}) & _attributes(module)
        assert not _behind_the_public_ones(module)


def test_a_compiled_statement_is_found_in_the_cache_of_the_engine() -> None:
    statement, engine = select(literal(1)), create_engine("sqlite://")
    with engine.connect() as connection:
        compiled: Any = connection.execute(statement).context.compiled
        key = statement._generate_cache_key()
        assert key is not None
        # As execution.py looks it up: a release that keeps it otherwise makes everything slower.
        cache: Any = engine._compiled_cache
        assert cache[engine.dialect, key.key, (), False, False] is compiled
    engine.dispose()


def test_what_undoing_takes_is_known() -> None:
    owners: dict[str, Any] = {
        "IdentityMap": Session().identity_map,
        "InstanceState": inspect(Author(name="a")),
        "Session": Session(),
    }
    for owner, names in OF_UNDOING.items():
        assert [name for name in names if not hasattr(owners[owner], name)] == []
    behind = {name for names in OF_UNDOING.values() for name in names if name.startswith("_")}
    used = (object_undo, flush_undo, loaded_objects, store_lock)
    ours = {"_filled", "_originals", "_pending"}  # of one undo, read by another
    assert set().union(*(_behind_the_public_ones(module) for module in used)) - ours == behind
    # The pending mutations are there once they are asked for.
    assert isinstance(vars(type(owners["InstanceState"]))["_pending_mutations"], memoized_property)
    for name, value in (("do_commit", "commit"), ("do_rollback", "rollback")):
        source = python_inspect.getsource(getattr(DefaultDialect, name))
        assert source.endswith(f"dbapi_connection.{value}()\n")  # and no more than that


def _private(required: Mapping[str, set[str]]) -> set[str]:
    return {name for names in required.values() for name in names if name.startswith("_")}


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
