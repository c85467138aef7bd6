"""The frameworks of this environment; Esmerald and Ravyn cannot share one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Final

import pytest

from tests.frameworks.parts import Framework

ENVIRONMENT_VARIABLE: Final = "ASGI_DBCONN_TEST_FRAMEWORKS"
"""Names the frameworks to test, separated by commas; without it, those of the main environment."""

_HOMES: Final = {
    "plain": "plain:Plain",
    "bare": "plain:Bare",
    "starlette": "starlette:StarletteAdapter",
    "fastapi": "fastapi:FastAPIAdapter",
    "lilya": "lilya:LilyaAdapter",
    "esmerald": "esmerald:EsmeraldAdapter",
    "ravyn": "esmerald:RavynAdapter",
    "litestar": "litestar:LitestarAdapter",
    "quart": "quart:QuartAdapter",
    "django": "django:DjangoAdapter",
}
_ELSEWHERE: Final = {"ravyn"}


def _load(name: str) -> Framework:
    module, _, adapter = _HOMES[name].partition(":")
    found: type[Framework] = getattr(
        importlib.import_module(f"tests.frameworks.adapters.{module}"), adapter
    )
    return found()


def _names() -> list[str]:
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    return chosen.split(",") if chosen else [home for home in _HOMES if home not in _ELSEWHERE]


FRAMEWORKS: Final = [_load(name) for name in _names()]


def each(condition: Callable[[Framework], object] = lambda _: True) -> pytest.MarkDecorator:
    """Run a test with each framework for which ``condition`` holds."""
    chosen = [framework for framework in FRAMEWORKS if condition(framework)]
    return pytest.mark.parametrize("framework", chosen, ids=repr)


with_lifespan = each(lambda framework: framework.has_lifespan)
without_lifespan = each(lambda framework: not framework.has_lifespan)
