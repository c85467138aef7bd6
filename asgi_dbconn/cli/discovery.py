"""Find the application and its Registry: named, configured, preloaded, or in the usual modules.

The user's object may be an Instance, a Registry, an application, or a factory of one of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cached_property, reduce
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from starlette.middleware import Middleware

from asgi_dbconn.cli.errors import Misuse
from asgi_dbconn.cli.user_code import (
    UserCodeError,
    add_user_location,
    add_working_directory,
    call,
    import_user_module,
)
from asgi_dbconn.instance import Instance, monkay
from asgi_dbconn.lifespan.middleware import LifespanMiddleware
from asgi_dbconn.registry.registry import Registry

__all__ = ["AppReference", "find_in_module", "identify"]


_APPLICATIONS: Final = ("app", "application", "asgi")
_FACTORIES: Final = ("create_app", "make_app", "get_app")


def identify(found: Any, name: str, module: ModuleType) -> Instance:
    """Return ``found`` as an Instance: call a factory, find the Registry of an application.

    Raises UserCodeError with the reason if there is no Registry.
    """
    if _is_factory(found):
        found = call(found, name)
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
    registry = _registry_around(found) or _preset_registry() or _registry_in(module)
    if registry is None:
        raise UserCodeError(
            f"{name} is wrapped by no Registry, and its module has none: "
            "write app = models.asgi(app), or name the Registry itself"
        )
    return Instance(registry=registry, app=found)


def find_in_module(module: ModuleType, before: Instance | None) -> Instance:
    """Return the Instance of ``module``.

    That is the one it has set (``before`` was set before), or one made of its application, its
    factory or its only Registry. Raises UserCodeError if it has none of them.
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
            return identify(found, f"{module.__name__}:{name}", module)
        except UserCodeError as error:
            if error.__cause__ is not None:  # a factory that fails ends the search
                raise
            reasons.append(str(error))
    registry = _registry_in(module)
    if registry is not None:
        return Instance(registry=registry)
    raise UserCodeError(
        "; ".join(reasons) or f"{module.__name__} has neither an application nor a Registry"
    )


def _is_factory(found: Any) -> bool:
    # A factory can be called without arguments; an application cannot.
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
        for middleware in _attributes(layer).get("user_middleware", ()):  # Starlette's list
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
        # Not by getattr: with a wrapper that passes attributes on, a layer would be skipped.
        app = _attributes(app).get("app")


def _attributes(of: Any) -> dict[str, Any]:
    return getattr(of, "__dict__", {})


def _preset_registry() -> Registry | None:
    return monkay.instance.registry if monkay.instance is not None else None


def _registry_in(module: ModuleType) -> Registry | None:
    # By the type alone: `isinstance` would evaluate a lazy proxy.
    found = {
        id(value): value for value in vars(module).values() if issubclass(type(value), Registry)
    }
    if len(found) > 1:
        raise UserCodeError(
            f"{module.__name__} has {len(found)} registries: name one of them, as module:name"
        )
    return next(iter(found.values()), None)


_NAMES: Final = ("main", "app", "application", "asgi")


class AppReference:
    """The application of a command, found on first use and then stored.

    Its modules are imported, and nothing is connected. If no application is found, Misuse is
    raised, with everything that was tried.
    """

    def __init__(self, app: str | None = None) -> None:
        self._named = app

    @cached_property
    def instance(self) -> Instance:
        add_working_directory()
        configured = monkay.settings.app  # first: wrong settings raise an error of their own
        try:
            with add_user_location("The preloads of the settings could not be imported"):
                monkay.evaluate_settings(ignore_preload_import_errors=False)
        except UserCodeError as error:
            raise Misuse(str(error)) from error
        if self._named:
            return _find_named(self._named, "--app")
        if configured:
            return _find_named(configured, "ASGI_DBCONN_APP")
        if monkay.instance is not None:
            return monkay.instance
        return _discover()

    @property
    def registry(self) -> Registry:
        return self.instance.registry

    @property
    def app(self) -> Any | None:
        return self.instance.app


def _find_named(name: str, by: str) -> Instance:
    """Return the Instance of ``name``, which is a ``module:attribute`` or a ``module``."""
    module_name, _, path = name.partition(":")
    before = monkay.instance
    try:
        if not module_name:
            raise UserCodeError("write it as module:attribute")
        module = import_user_module(module_name)
        if not path:
            return find_in_module(module, before)
        try:
            found = reduce(getattr, path.split("."), module)
        except AttributeError as error:
            raise UserCodeError(f"{module_name} has no attribute {path}") from error
        return identify(found, name, module)
    except UserCodeError as error:
        raise Misuse(f"{by} {name}: {error}") from error


def _discover() -> Instance:
    """Return the Instance of the first module of the usual names that has one, or fails."""
    tried = ["--app: not given", "ASGI_DBCONN_APP: not set", "preloads: none has set an instance"]
    for name in _modules_here():
        before = monkay.instance
        try:
            return find_in_module(import_user_module(name), before)
        except UserCodeError as error:
            tried.append(str(error))
            if error.__cause__ is not None:
                break  # going on would hide the error
    else:
        tried.append(
            f"{', '.join(_NAMES)}: no other module of these names in {Path.cwd()} or below"
        )
    listed = "\n".join(f"  {line}" for line in "\n".join(tried).splitlines())
    raise Misuse(
        f"No application was found. Tried, in this order:\n{listed}\n"
        "Name it: asgi-dbconn --app package.module:app"
    )


def _modules_here() -> Iterator[str]:
    here = Path.cwd()
    yield from _modules_in(here, "")
    for folder in sorted(path for path in here.iterdir() if path.is_dir()):
        if folder.name.isidentifier() and not folder.joinpath("pyvenv.cfg").exists():
            yield from _modules_in(folder, f"{folder.name}.")


def _modules_in(folder: Path, prefix: str) -> Iterator[str]:
    for name in _NAMES:
        if (
            folder.joinpath(f"{name}.py").is_file()
            or folder.joinpath(name, "__init__.py").is_file()
        ):
            yield prefix + name
