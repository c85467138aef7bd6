"""What the text of a statement says about it."""

from __future__ import annotations

import sqlite3

import pytest

from asgi_dbconn.pools.dialects.sqlite_statements import Kind, change_savepoints, kind_of

READS = [
    "SELECT 1",
    "select 1",
    "  SELECT 1",
    "-- a comment; INSERT\nSELECT 1",
    "/* INSERT */ -- more\n VALUES (1)",
    "WITH c AS (SELECT 1) SELECT * FROM c",
    "EXPLAIN DELETE FROM t",
    "PRAGMA busy_timeout",
    'PRAGMA main.table_info("t")',
    "PRAGMA foreign_key_list(t)",
]
WRITES = [
    "INSERT INTO t VALUES (1)",
    "insert into t values (1)",
    "REPLACE INTO t VALUES (1)",
    "UPDATE t SET n = 1",
    "DELETE FROM t",
    "WITH c AS (SELECT 1) INSERT INTO t SELECT * FROM c",
    "CREATE TABLE u (n int)",
    "VACUUM",
    "PRAGMA defer_foreign_keys = ON",
    "PRAGMA defer_foreign_keys(1)",
    "PRAGMA main.user_version=3",
    "ATTACH 'x' AS y",
    "SELECTED",
    "",
]
CONTROLS = ["BEGIN IMMEDIATE", "commit", "END", "ROLLBACK", "SAVEPOINT a", "RELEASE a"]


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        *((statement, Kind.READS) for statement in READS),
        *((statement, Kind.WRITES) for statement in WRITES if statement != "SELECTED"),
        *((statement, Kind.CONTROLS) for statement in CONTROLS),
    ],
)
def test_the_kind_of_a_statement(statement: str, kind: Kind) -> None:
    assert kind_of(statement) is kind


@pytest.mark.parametrize("statement", READS)
def test_sqlite_itself_lets_what_reads_pass(statement: str) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (n int)")
    connection.execute("PRAGMA query_only=ON")
    connection.execute(statement).fetchall()
    connection.close()


@pytest.mark.parametrize(
    ("statements", "left"),
    [
        (["SAVEPOINT a"], ["a"]),
        (["SAVEPOINT a", "savepoint B", "RELEASE SAVEPOINT b"], ["a"]),
        (["SAVEPOINT a", "SAVEPOINT b", "RELEASE a"], []),
        (["SAVEPOINT a", "SAVEPOINT b", "ROLLBACK TO SAVEPOINT a"], ["a"]),
        (["SAVEPOINT a", "SAVEPOINT b", "ROLLBACK TRANSACTION TO a;"], ["a"]),
        (["SAVEPOINT a", "SAVEPOINT a", "RELEASE a"], ["a"]),
        (["SAVEPOINT a", "SAVEPOINT a", "ROLLBACK TO a"], ["a", "a"]),
        (["BEGIN", "SAVEPOINT a", "/* so */ RELEASE unknown"], ["a"]),
    ],
)
def test_savepoints_that_are_left(statements: list[str], left: list[str]) -> None:
    savepoints: list[str] = []
    for statement in statements:
        change_savepoints(savepoints, statement)
    assert savepoints == left
