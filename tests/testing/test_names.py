"""Names of test databases, and the mark that tells them from everybody else's."""

from __future__ import annotations

import pytest

from asgi_dbconn import ConfigurationError
from asgi_dbconn.testing.database_names import RUN_VARIABLE, Mark, database_name


def test_a_name_says_whose_it_is_and_is_never_given_twice() -> None:
    names = {database_name("test_", "shop", "gw1") for _ in range(50)}

    assert len(names) == 50
    assert all(name.startswith("test_shop_gw1_") for name in names)
    assert database_name("", "shop", None).startswith("shop_")


@pytest.mark.parametrize("database", ["x" * 100, "ü" * 60, "店" * 40, "😀" * 30])
def test_a_long_name_keeps_its_end_and_breaks_no_character(database: str) -> None:
    name = database_name("test_", database, "gw11")

    assert 60 <= len(name.encode()) <= 63
    assert name.removeprefix("test_").partition("_")[0] in database
    assert "_gw11_" in name


def test_a_prefix_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="63 bytes"):
        database_name("p" * 60, "shop", None)


def test_a_mark_can_be_read_again() -> None:
    mark = Mark(run="abc", made=12.5)

    assert Mark.read(mark.text) == mark
    assert mark.is_left_over(older_than=10, now=22.5)
    assert not mark.is_left_over(older_than=10, now=22.4)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "default administrative connection database",
        "asgi_dbconn.testing",
        "asgi_dbconn.testing []",
        "asgi_dbconn.testing {}{",
        'asgi_dbconn.testing {"owner": "me"}',
        'asgi_dbconn.testing {"run": 1, "made": "today"}',
    ],
)
def test_what_others_wrote_is_no_mark(text: str | None) -> None:
    assert Mark.read(text) is None


def test_processes_of_one_run_share_its_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    alone = Mark().run
    assert Mark().run == alone

    monkeypatch.setenv(RUN_VARIABLE, "the run")
    assert Mark().run == "the run"
