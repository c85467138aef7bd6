"""The object mappers that cannot be installed beside us, each with an environment of its own.

Every package is pinned, those that the peers stand on too: a number is worth nothing without the
versions that it belongs to. This is the place to change them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks import edgy
from tests.support.environments import ROOT, environment

__all__ = ["PEERS", "existing", "python"]

PEERS: Final[Mapping[str, str]] = {
    "piccolo": """
        piccolo==1.38.0 asyncpg==0.32.0
        annotated-types==0.8.0 black==26.10.1 click==8.5.1 colorama==0.4.6 dnspython==2.9.2
        docstring-parser==0.18.0 email-validator==2.4.0 idna==3.20 inflection==0.5.1 jinja2==3.1.6
        markupsafe==3.0.4 mypy-extensions==1.2.0 packaging==26.3 pathspec==1.1.1
        platformdirs==4.14.7 pydantic==2.14.3 pydantic-core==2.50.4 pytokens==0.4.1 targ==0.7.0
        typing-extensions==4.16.0 typing-inspection==0.4.5
    """,
    "tortoise": """
        tortoise-orm==1.1.9 asyncpg==0.32.0
        aiosqlite==0.22.1 anyio==4.16.0 idna==3.20 iso8601==2.1.0 pypika-tortoise==0.6.5
        typing-extensions==4.16.0
    """,
    "edgy": f"""
        edgy=={edgy.VERSION} asyncpg==0.32.0 databasez==0.13.0 sqlalchemy==2.0.58
        alembic==1.20.1 annotated-types==0.8.0 anyio==4.16.0 blinker==1.9.0 bracex==3.2.2
        click==8.5.1 dnspython==2.9.2 email-validator==2.4.0 greenlet==3.5.6 idna==3.20 mako==1.4.3
        markdown-it-py==4.3.0 markupsafe==3.0.4 mdurl==0.1.2 monkay==0.5.3 orjson==3.13.0
        pydantic==2.14.3 pydantic-core==2.50.4 pydantic-settings==2.16.3 pygments==2.21.0
        python-dotenv==1.2.4 rich==15.0.0 sayer==0.8.1 typing-extensions==4.16.0
        typing-inspection==0.4.5 wcmatch==12.0.1
    """,
    "django": """
        django==5.2.19 psycopg==3.3.9 psycopg-binary==3.3.9 psycopg-pool==3.3.3
        asgiref==3.13.0 sqlparse==0.6.1 typing-extensions==4.16.0
    """,
}
"""The newest that could be installed when they were written down, by the peer's name."""


def python(peer: str) -> Path:
    """The interpreter of the peer's environment, made first where it is missing or outdated."""
    return environment(f"queries-{peer}", PEERS[peer].split(), with_project=False)


def existing(peer: str) -> bool:
    """Whether the peer's environment was made before, for whoever has no time to make it."""
    folder = ROOT / ".venvs" / "queries-{}-{}.{}".format(peer, *sys.version_info)
    return (folder / ".made-from").exists()
