"""What killed processes left is found again and dropped, and nothing else is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asgi_dbconn import Database, UnsupportedURL
from asgi_dbconn.testing import TestDatabase, drop_left_overs
from tests.support.postgres import PostgresServer
from tests.testing.left_over import databases_made_from, files_in, new_name


@pytest.mark.postgres
async def test_only_what_is_old_and_unused_goes(postgres: PostgresServer) -> None:
    name = new_name()
    url = postgres.url_for(name)
    with postgres.database(f"test_{name}"):  # called like one, but nobody's mark is on it
        async with TestDatabase(url, drop=False) as unused, TestDatabase(url) as used:
            async with Database(used.url):
                assert await drop_left_overs(url) == []  # neither is an hour old
                dropped = await drop_left_overs(url, older_than=0)

                assert unused.name in dropped
                assert used.name not in dropped
        assert len(databases_made_from(postgres, name)) == 1
    assert databases_made_from(postgres, name) == []


async def test_files_are_found_by_their_mark(temporary: Path) -> None:
    (temporary / "asgi_dbconn-mine").mkdir()
    (temporary / "asgi_dbconn-mine/made-by").write_text("me")
    async with TestDatabase("sqlite:///shop.db", drop=False) as left:
        assert await drop_left_overs("sqlite://") == []
        assert await drop_left_overs("sqlite://", older_than=0) == [left.name]

    assert files_in(temporary) == ["asgi_dbconn-mine", "asgi_dbconn-mine/made-by"]


async def test_a_url_of_something_else_is_refused() -> None:
    with pytest.raises(UnsupportedURL):
        await drop_left_overs("mysql://db.example/shop")


def test_the_folder_is_that_of_this_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    assert str(TestDatabase("sqlite://").url.database).startswith(f"{tmp_path}{os.sep}")
