"""The environment in which the incumbents run: databasez needs an older SQLAlchemy than ours.

The package itself is not installed there: it is imported from the checkout, and the checks and
`LifespanMiddleware` need nothing but the standard library and monkay.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.support.environments import environment

__all__ = ["REQUIREMENTS", "python"]

REQUIREMENTS: Final = {
    "monkay": "0.5.3",
    "databasez": "0.13.0",
    "asgi-lifespan-middleware": "0.1.3",
    # what databasez stands on
    "sqlalchemy": "2.0.58",
    "greenlet": "3.5.6",
    "orjson": "3.13.0",
    "typing-extensions": "4.16.0",
}


def python() -> Path:
    """The interpreter of the environment, which is made first where it is missing or outdated."""
    pins = [f"{name}=={version}" for name, version in REQUIREMENTS.items()]
    return environment("incumbents", pins, with_project=False)
