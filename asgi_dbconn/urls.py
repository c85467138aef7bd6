"""Database URLs: parsed once, given their async driver, and never shown with their secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from asgi_dbconn.errors import UnsupportedURL

__all__ = ["MASK", "DatabaseURL", "parse_url"]

MASK: Final = "***"

# The driver for a bare scheme. SQLAlchemy 2.1 would choose psycopg for `postgresql://`, and does
# not know `postgres://`.
_DEFAULT_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
}
_ASYNC_DRIVERS: Final = frozenset({"sqlite+aiosqlite", "postgresql+asyncpg"})

_SECRET_KEY: Final = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)
_HOST: Final = re.compile(r"[\w.\-]*\Z|[0-9A-Fa-f:.%]+\Z|/[^\0?#@]*\Z")
_HOW_TO_QUOTE: Final = (
    "If the user name or the password contains any of `@ : / ? # %`, quote it with "
    "urllib.parse.quote(value, safe='') or pass a sqlalchemy.URL.create(...)."
)


class DatabaseURL:
    """The URL of a database, as an immutable value; equality and hash include every part.

    Takes a string, a ``sqlalchemy.URL`` or another ``DatabaseURL``. ``str()``, ``repr()`` and
    f-strings show ``***`` for the password and for every query value whose key sounds secret.
    Only :meth:`reveal` returns the password.

    Raises :class:`~asgi_dbconn.errors.UnsupportedURL`, whose text never quotes the URL, if it
    cannot be read, names a driver that cannot be awaited, or has been masked already.
    """

    __slots__ = ("_url",)
    _url: URL

    def __init__(self, url: str | URL | DatabaseURL) -> None:
        parsed, url = _parse(url), MASK  # the frame that raises must not have the secret in it
        if isinstance(parsed, UnsupportedURL):
            raise parsed
        object.__setattr__(self, "_url", parsed)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"DatabaseURL is immutable; use .replace({name}=...) for a copy")

    @property
    def dialect(self) -> str:
        """``"sqlite"`` or ``"postgresql"``."""
        return self._url.get_backend_name()

    @property
    def drivername(self) -> str:
        """Dialect and driver, as in ``postgresql+asyncpg``."""
        return self._url.drivername

    @property
    def username(self) -> str | None:
        return self._url.username

    @property
    def host(self) -> str | None:
        return self._url.host

    @property
    def port(self) -> int | None:
        return self._url.port

    @property
    def database(self) -> str | None:
        """The database's name, or the file's path on SQLite."""
        return self._url.database

    @property
    def query(self) -> Mapping[str, str | tuple[str, ...]]:
        """The query after the ``?``, secrets masked."""
        return {
            key: MASK if _SECRET_KEY.search(key) else value
            for key, value in self._url.query.items()
        }

    @property
    def has_password(self) -> bool:
        return self._url.password is not None

    @property
    def is_memory(self) -> bool:
        """True if the database is in this process's memory and vanishes when disconnected."""
        if self.dialect != "sqlite":
            return False
        return (
            self._url.database in (None, "", ":memory:")
            or self._url.query.get("mode") == "memory"
            or self._url.query.get("vfs") == "memdb"
        )

    def replace(self, **parts: Any) -> DatabaseURL:
        """Return a copy with other ``drivername, username, password, host, port, database, query``.

        Values are taken as they are: nothing is quoted or unquoted a second time.
        """
        unknown = parts.keys() - {
            "drivername", "username", "password", "host", "port", "database", "query",
        }  # fmt: skip
        if unknown:
            raise UnsupportedURL(
                f"A database URL has no part {', '.join(sorted(unknown))}; "
                "choose from drivername, username, password, host, port, database, query."
            )
        parsed = self._url.set(**parts)
        # URL.set takes None for "leave it"; here it means "without".
        without: dict[str, Any] = {name: None for name, value in parts.items() if value is None}
        parsed = parsed._replace(**without)
        parts.clear()
        return DatabaseURL(parsed)

    def reveal(self) -> str:
        """Return the whole URL with the password in it. Never log what this returns."""
        return self._url.render_as_string(hide_password=False)

    def without_password(self) -> URL:
        """Return all of the URL but its password, which a connect asks for: for SQLAlchemy."""
        return self._url._replace(password=None)

    def __str__(self) -> str:
        if not hasattr(self, "_url"):
            return "unread"  # while __init__ raises, error reporters call our repr
        masked = self._url.update_query_dict(
            {key: MASK for key in self._url.query if _SECRET_KEY.search(key)}
        )
        return masked.render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"DatabaseURL({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabaseURL) and self._url == other._url

    def __hash__(self) -> int:
        return hash((DatabaseURL, self._url))

    def __reduce__(self) -> tuple[Any, ...]:
        return (DatabaseURL, (self._url,))


def parse_url(url: str | URL | DatabaseURL) -> DatabaseURL | UnsupportedURL:
    """Parse the URL; return the error, and do not raise it, if it is not supported.

    The caller raises it after it has dropped the raw URL: a traceback must not show a password.
    """
    if isinstance(url, DatabaseURL):
        return url
    parsed = _parse(url)
    return parsed if isinstance(parsed, UnsupportedURL) else DatabaseURL(parsed)


def _parse(source: str | URL | DatabaseURL) -> URL | UnsupportedURL:
    if isinstance(source, DatabaseURL):
        return source._url
    if not isinstance(source, str | URL):
        return UnsupportedURL(
            "A database is given as a URL in a string, a sqlalchemy.URL, a DatabaseURL or a "
            f"Database, not as {type(source).__name__}."
        )
    if isinstance(source, str) and _has_stray_at(source):
        # The rest of the password would count as the host: it would be shown, and sent to DNS.
        return UnsupportedURL(
            f"This database URL has more than one @, so a part of it is not quoted. {_HOW_TO_QUOTE}"
        )
    try:
        parsed = make_url(source)
    except (ArgumentError, ValueError):
        # The parser's own error quotes the URL, password included; ours replaces it.
        return UnsupportedURL(
            "This database URL cannot be read (it is not shown, as it may hold a password). "
            "It looks like dialect://user:password@host:port/database, for example "
            f"postgresql://app:secret@localhost/shop or sqlite:///app.db. {_HOW_TO_QUOTE}"
        )
    parsed = _lift_password(parsed)
    if str(parsed.password or "") == MASK:
        return UnsupportedURL(
            "The password of this database URL is '***': it was copied from a log or a repr, "
            "where it is masked. Use the original URL, or DatabaseURL.reveal()."
        )
    if parsed.host is not None and not _HOST.match(parsed.host):
        # A part of an unquoted password ends up in the host, and would be sent to a DNS server.
        return UnsupportedURL(
            f"The host of this database URL contains characters that no host has. {_HOW_TO_QUOTE}"
        )
    if parsed.get_backend_name() == "sqlite" and parsed.host is not None:
        return UnsupportedURL(
            "A SQLite URL has three slashes before a relative path and four before an absolute "
            "one: sqlite:///app.db, sqlite:////var/lib/app.db; sqlite:// alone is in memory."
        )
    return _with_async_driver(_with_drivers_words(parsed))


def _has_stray_at(source: str) -> bool:
    return not source.startswith("sqlite") and source.count("@") > 1


def _with_drivers_words(parsed: URL) -> URL:
    """Replace ``sslmode``, which libpq and hosting services write, by ``ssl`` for asyncpg."""
    if "sslmode" not in parsed.query or parsed.drivername.endswith(("+psycopg", "+psycopg2")):
        return parsed
    mode = parsed.query["sslmode"]
    return parsed.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})


def _lift_password(parsed: URL) -> URL:
    # SQLAlchemy masks the user part only; a password in the query would be printed.
    if "password" not in parsed.query:
        return parsed
    lifted = parsed.query["password"]
    parsed = parsed.difference_update_query(["password"])
    return parsed.set(password=lifted if isinstance(lifted, str) else lifted[-1])


def _with_async_driver(parsed: URL) -> URL | UnsupportedURL:
    name = _DEFAULT_DRIVERS.get(parsed.drivername, parsed.drivername)
    if name in _ASYNC_DRIVERS:
        return parsed.set(drivername=name)
    dialect, _, driver = name.partition("+")
    if dialect in _DEFAULT_DRIVERS:
        better = _DEFAULT_DRIVERS[dialect]
        return UnsupportedURL(
            f"The driver {driver!r} cannot be awaited here. "
            f"Write {better}://... or just {dialect}://..., which means the same."
        )
    return UnsupportedURL(
        f"Databases of the kind {dialect!r} are not supported. "
        "Use postgresql:// (driver asyncpg) or sqlite:// (driver aiosqlite)."
    )
