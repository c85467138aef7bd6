"""Finding the application and its Registry: named, configured, preloaded, or lying around."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, Final

from asgi_dbconn.cli.discovery import in_module, recognised
from asgi_dbconn.cli.errors import Misuse
from asgi_dbconn.cli.user_code import (
    UserCodeError,
    importable_here,
    imported_module,
    telling_the_line,
)
from asgi_dbconn.instance import Instance, monkay
from asgi_dbconn.registry.registry import Registry

__all__ = ["Target"]

_NAMES: Final = ("main", "app", "application", "asgi")


class Target:
    """The application that a command is about: found when it is first asked for, and then kept.

    Its modules are imported, and nothing is connected. Asking raises Misuse if nothing is found,
    with all that was tried.
    """

    def __init__(self, app: str | None = None) -> None:
        self._named = app

    @cached_property
    def instance(self) -> Instance:
        importable_here()
        configured = monkay.settings.app  # first: settings that are wrong explain themselves
        try:
            with telling_the_line("The preloads of the settings could not be imported"):
                monkay.evaluate_settings(ignore_preload_import_errors=False)
        except UserCodeError as error:
            raise Misuse(str(error)) from error
        if self._named:
            return _named(self._named, "--app")
        if configured:
            return _named(configured, "ASGI_DBCONN_APP")
        if monkay.instance is not None:
            return monkay.instance
        return _discovered()

    @property
    def registry(self) -> Registry:
        return self.instance.registry

    @property
    def app(self) -> Any | None:
        return self.instance.app


def _named(name: str, by: str) -> Instance:
    """Return the Instance that ``name`` leads to, written as ``module:attribute`` or ``module``."""
    module_name, _, path = name.partition(":")
    before = monkay.instance
    try:
        if not module_name:
            raise UserCodeError("write it as module:attribute")
        module = imported_module(module_name)
        if not path:
            return in_module(module, before)
        try:
            found = reduce(getattr, path.split("."), module)
        except AttributeError as error:
            raise UserCodeError(f"{module_name} has no attribute {path}") from error
        return recognised(found, name, module)
    except UserCodeError as error:
        raise Misuse(f"{by} {name}: {error}") from error


def _discovered() -> Instance:
    """Return what the modules of the usual names have: the first that has something, or fails."""
    tried = ["--app: not given", "ASGI_DBCONN_APP: not set", "preloads: none has set an instance"]
    for name in _modules_here():
        before = monkay.instance
        try:
            return in_module(imported_module(name), before)
        except UserCodeError as error:
            tried.append(str(error))
            if error.__cause__ is not None:
                break  # going on would hide what is wrong with it
    else:
        tried.append(
            f"{', '.join(_NAMES)}: no other module of these names in {Path.cwd()} or below"
        )
    listed = "\n".join(f"  {line}" for line in "\n".join(tried).splitlines())
    raise Misuse(
        f"No application was found. Tried, in this order:\n{listed}\n"
        "Say where it is: asgi-dbconn --app package.module:app"
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
