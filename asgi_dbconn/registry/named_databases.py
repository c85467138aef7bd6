"""The databases of one registry by name: made from its arguments, found, and used together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from sqlalchemy.engine import URL

from asgi_dbconn.databases.database import Database
from asgi_dbconn.errors import ConfigurationError, UnknownDatabase, UnsupportedURL
from asgi_dbconn.options import OptionArguments
from asgi_dbconn.orm.binding import DatabaseChoice
from asgi_dbconn.pools.observer import Observer
from asgi_dbconn.urls import DatabaseURL, parse_url

__all__ = [
    "DatabaseArgument",
    "ParsedArgument",
    "create_databases",
    "distinct_databases",
    "find_database",
    "observe_all",
    "parse_arguments",
]

DatabaseArgument = str | URL | DatabaseURL | Database
ParsedArgument = DatabaseURL | Database | UnsupportedURL
NamedDatabases = Mapping[str | None, Database]


def parse_arguments(
    default: DatabaseArgument, extra: Mapping[str, DatabaseArgument]
) -> dict[str | None, ParsedArgument]:
    """Parse the URLs of the default database (None) and of the extra ones.

    Raises nothing: a URL that is not supported is returned as its error. The caller hides the
    passwords in its own variables first, and then lets ``create_databases`` raise it.
    """
    parsed: dict[str | None, ParsedArgument] = {None: _parse(default)}
    parsed.update((name, _parse(argument)) for name, argument in extra.items())
    return parsed


def create_databases(
    parsed: Mapping[str | None, ParsedArgument], options: OptionArguments
) -> dict[str | None, Database]:
    """Create a Database for each URL, with ``options``; Database objects are used as they are.

    Raises UnsupportedURL, and ConfigurationError for an empty name.
    """
    return {name: _create(source, name, options) for name, source in parsed.items()}


def distinct_databases(databases: NamedDatabases) -> list[Database]:
    """Return every database once: an object under two names is one, and has one reference."""
    return list(dict.fromkeys(databases.values()))


def find_database(databases: NamedDatabases, choice: DatabaseChoice) -> Database:
    """Return the database of that name (None: the default), or ``choice`` itself if it is one.

    Raises UnknownDatabase, which lists the known names.
    """
    if isinstance(choice, Database):
        return choice
    found = databases.get(choice)
    if found is None:
        names = ", ".join(repr(name) for name in databases if name is not None)
        known = f"those named {names}" if names else "no other"
        raise UnknownDatabase(
            f"There is no database {choice!r} in this registry. It has the default (None) and "
            f"{known}. Add it to Registry(extra={{{choice!r}: ...}})."
        )
    return found


def observe_all(databases: Collection[Database], observer: Observer) -> Callable[[], None]:
    """Notify ``observer`` of the pool events of all ``databases``; return a function to stop."""
    stops = [database.observe(observer) for database in databases]

    def stop() -> None:
        for stop_observing in stops:
            stop_observing()

    return stop


def _parse(argument: DatabaseArgument) -> ParsedArgument:
    return argument if isinstance(argument, Database) else parse_url(argument)


def _create(source: ParsedArgument, name: str | None, options: OptionArguments) -> Database:
    if name is not None and not str(name).strip():
        raise ConfigurationError(f"A name in `extra` is a string that is not empty, not {name!r}.")
    if isinstance(source, UnsupportedURL):
        raise source
    return source if isinstance(source, Database) else Database(source, name=name, **options)
