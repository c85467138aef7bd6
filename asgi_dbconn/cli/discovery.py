"""Recognition of what the user named: an Instance, a Registry, an application, a factory."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

from starlette.middleware import Middleware

from asgi_dbconn.cli.user_code import UserCodeError, called
from asgi_dbconn.instance import Instance, monkay
from asgi_dbconn.lifespan.middleware import LifespanMiddleware
from asgi_dbconn.registry.registry import Registry

__all__ = ["in_module", "recognised"]

_APPLICATIONS: Final = ("app", "application", "asgi")
_FACTORIES: Final = ("create_app", "make_app", "get_app")


def recognised(found: Any, name: str, module: ModuleType) -> Instance:
    """Return ``found`` as an Instance: call a factory, ask an application for its Registry.

    Raises UserCodeError with the reason if there is no Registry to be had.
    """
    if _is_factory(found):
        found = called(found, name)
        if inspect.iscoroutine(found):
            found.close()
            raise UserCodeError(f"{name}() is async; a factory for the command line is not")
    if isinstance(found, Instance):
        return found
    if isinstance(found, Registry):
        return Instance(registry=found)
    if not callable(found):
        raise UserCodeError(
            f"{name} is of type {type(found).__name__}, and neither an application nor a Registry"
        )
    registry = _registry_around(found) or _registry_set() or _registry_in(module)
    if registry is None:
        raise UserCodeError(
            f"{name} is wrapped by no Registry, and none is found beside it: "
            "write app = models.asgi(app), or name the Registry itself"
        )
    return Instance(registry=registry, app=found)


def in_module(module: ModuleType, before: Instance | None) -> Instance:
    """Return what ``module`` offers, as an Instance.

    That is the Instance it has set (``before`` was there before), an application, a factory, or
    its only Registry. Raises UserCodeError if it has none of them.
    """
    instance = monkay.instance
    if instance is not None and instance is not before:
        return instance
    offered = vars(module)
    reasons: list[str] = []
    for name in (*_APPLICATIONS, *_FACTORIES):
        found = offered.get(name)
        if found is None or isinstance(found, ModuleType):
            continue
        try:
            return recognised(found, f"{module.__name__}:{name}", module)
        except UserCodeError as error:
            if error.__cause__ is not None:  # a factory that fails is no reason to look elsewhere
                raise
            reasons.append(str(error))
    registry = _registry_in(module)
    if registry is not None:
        return Instance(registry=registry)
    raise UserCodeError(
        "; ".join(reasons) or f"{module.__name__} has neither an application nor a Registry"
    )


def _is_factory(found: Any) -> bool:
    # An application cannot be called without arguments, and what makes one can.
    if isinstance(found, Registry | Instance | LifespanMiddleware) or not callable(found):
        return False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


def _registry_around(app: Any) -> Registry | None:
    """Return the Registry of the middleware around or inside of ``app``."""
    for layer in _layers(app):
        if isinstance(layer, LifespanMiddleware) and isinstance(layer.registry, Registry):
            return layer.registry
        for middleware in _attributes(layer).get("user_middleware", ()):  # Starlette's list of them
            kind: object = getattr(middleware, "cls", None)
            if isinstance(middleware, Middleware) and kind is LifespanMiddleware:
                given = (*middleware.args, *middleware.kwargs.values())
                return next((value for value in given if isinstance(value, Registry)), None)
    return None


def _layers(app: Any) -> Iterator[Any]:
    seen: set[int] = set()
    while app is not None and id(app) not in seen:
        seen.add(id(app))
        yield app
        # Not by getattr: a wrapper that passes attributes on would skip a layer.
        app = _attributes(app).get("app")


def _attributes(of: Any) -> dict[str, Any]:
    return getattr(of, "__dict__", {})


def _registry_set() -> Registry | None:
    return monkay.instance.registry if monkay.instance is not None else None


def _registry_in(module: ModuleType) -> Registry | None:
    # By the type alone: `isinstance` would bring a lazy proxy to life.
    found = {
        id(value): value for value in vars(module).values() if issubclass(type(value), Registry)
    }
    if len(found) > 1:
        raise UserCodeError(
            f"{module.__name__} has {len(found)} registries: name one of them, as module:name"
        )
    return next(iter(found.values()), None)
