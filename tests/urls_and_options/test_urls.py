"""DatabaseURL: what it reads, what it refuses, what it shows."""

from __future__ import annotations

import pickle
import traceback
from urllib.parse import quote

import pytest
from sqlalchemy.engine import URL, make_url

from asgi_dbconn import ConfigurationError, Database, DatabaseURL, Registry, UnsupportedURL

SECRET = "p@ss:/w#rd%?&=+ '\"é"


@pytest.mark.parametrize(
    ("written", "driver"),
    [
        ("sqlite:///x.db", "sqlite+aiosqlite"),
        ("sqlite://", "sqlite+aiosqlite"),
        ("postgres://u@h/d", "postgresql+asyncpg"),
        ("postgresql://u@h/d", "postgresql+asyncpg"),
        ("postgresql+asyncpg://u@h/d", "postgresql+asyncpg"),
        ("sqlite+aiosqlite:///x.db", "sqlite+aiosqlite"),
    ],
)
def test_a_bare_scheme_gets_its_async_driver(written: str, driver: str) -> None:
    assert DatabaseURL(written).drivername == driver


@pytest.mark.parametrize(
    ("written", "remedy"),
    [
        ("postgresql+psycopg2://u@h/d", "postgresql+asyncpg"),
        ("postgresql+psycopg://u@h/d", "postgresql+asyncpg"),
        ("sqlite+pysqlite:///x.db", "sqlite+aiosqlite"),
        ("mysql://u@h/d", "postgresql://"),
        ("oracle+cx_oracle://u@h/d", "sqlite://"),
        ("", "dialect://user"),
        ("not a url", "dialect://user"),
        ("postgresql://u:p@h:port/d", "quote("),
    ],
)
def test_what_cannot_work_is_refused_with_what_does(written: str, remedy: str) -> None:
    with pytest.raises(UnsupportedURL) as caught:
        DatabaseURL(written)
    assert remedy in str(caught.value)
    assert isinstance(caught.value, ConfigurationError)


def test_something_that_is_no_url_names_its_type() -> None:
    with pytest.raises(UnsupportedURL, match="not as int"):
        DatabaseURL(5)  # type: ignore[arg-type]


def test_the_password_is_shown_by_reveal_only() -> None:
    url = DatabaseURL(f"postgresql://app:{quote(SECRET, safe='')}@db:5433/shop?sslpassword=hush")

    for shown in (str(url), repr(url), f"{url}", f"{url!r}", str(url.query), str([url])):
        assert "hush" not in shown
        assert "ss:" not in shown
        assert "***" in shown
    assert make_url(url.reveal()).password == SECRET


def test_a_password_in_the_query_is_a_password() -> None:
    url = DatabaseURL("postgresql://app@db/shop?password=hush")

    assert "hush" not in str(url)
    assert make_url(url.reveal()).password == "hush"
    assert url.without_password().render_as_string(hide_password=False) == (
        "postgresql+asyncpg://app@db/shop"
    )


def test_a_masked_password_is_recognised() -> None:
    with pytest.raises(UnsupportedURL, match="copied from a log"):
        DatabaseURL(str(DatabaseURL("postgresql://app:hush@db/shop")))


def test_an_unquoted_password_does_not_become_a_host() -> None:
    with pytest.raises(UnsupportedURL) as caught:
        DatabaseURL("postgresql://app:pa@ss@db/shop")
    assert "ss@" not in str(caught.value)
    assert "quote(" in str(caught.value)


def test_replace_encodes_nothing_twice() -> None:
    url = DatabaseURL(f"postgresql://app:{quote(SECRET, safe='')}@db/shop")

    changed = url.replace(port=6000, database="a/b?c d#e")

    again = make_url(changed.reveal())
    assert (again.password, again.port, again.database) == (SECRET, 6000, "a/b?c d#e")
    assert (changed.host, changed.username) == ("db", "app")
    assert url.port is None
    assert not url.replace(password=None).has_password


def test_replace_refuses_parts_that_a_url_does_not_have() -> None:
    with pytest.raises(UnsupportedURL, match="no part hostname"):
        DatabaseURL("postgresql://app@db/shop").replace(hostname="x")


@pytest.mark.parametrize("host", ["[::1]", "127.0.0.1", "db.example.org", "my_db-1"])
def test_hosts_that_exist_are_accepted(host: str) -> None:
    assert DatabaseURL(f"postgresql://app@{host}:1/d").host == host.strip("[]")


def test_urls_are_values() -> None:
    one = DatabaseURL("postgresql://app:x@db/shop")
    same = DatabaseURL(URL.create("postgresql+asyncpg", "app", "x", "db", database="shop"))

    assert one == same == DatabaseURL(one)
    assert len({one, same}) == 1
    assert one != DatabaseURL("postgresql://app:y@db/shop")
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(AttributeError, match="replace"):
        one.host = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("url", "memory"),
    [
        ("sqlite://", True),
        ("sqlite:///:memory:", True),
        ("sqlite:///file:x?mode=memory&uri=true", True),
        ("sqlite:///x.db", False),
        ("postgresql://u@h/d", False),
    ],
)
def test_memory_databases_are_known_as_such(url: str, memory: bool) -> None:
    assert DatabaseURL(url).is_memory is memory


@pytest.mark.parametrize(
    "make",
    [
        DatabaseURL,
        Database,
        Registry,
        lambda url: Registry("sqlite://", extra={"b": url}),
        lambda url: Database("postgresql://u@h/d", password="hush-hush", pool_size=0),
        lambda url: Database("postgresql://u:hush-hush@h/d", colour="red"),  # type: ignore[call-arg]
        lambda url: Registry("postgresql://u:hush-hush@h/d", extra={" ": "sqlite://"}),
    ],
)
def test_no_traceback_of_a_constructor_shows_the_password(make: object) -> None:
    # In a variable that is no local of the frames below.
    urls = iter(["mysql://app:hush-hush@db/shop"])
    with pytest.raises(ConfigurationError) as caught:
        make(next(urls))  # type: ignore[operator]

    assert "hush-hush" not in str(caught.value)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in report.stack if "asgi_dbconn" in frame.filename and frame.locals]
    assert ours
    for frame in ours:
        assert "hush-hush" not in str(frame.locals), frame


@pytest.mark.parametrize("password", ["p@ss/w0rd", "p@ss?w0rd", "p@ss#w0rd", "p@ssw0rd"])
def test_no_part_of_an_unquoted_password_is_taken_for_something_else(password: str) -> None:
    with pytest.raises(UnsupportedURL, match="more than one @") as caught:
        DatabaseURL(f"postgresql://shop:{password}@localhost:5432/x")
    assert "w0rd" not in str(caught.value)


def test_a_sqlite_url_with_two_slashes_is_told_of_the_third() -> None:
    with pytest.raises(UnsupportedURL, match="three slashes"):
        DatabaseURL("sqlite://app.db")


def test_sslmode_is_what_asyncpg_calls_ssl() -> None:
    assert DatabaseURL("postgresql://u@h/d?sslmode=require").query == {"ssl": "require"}
