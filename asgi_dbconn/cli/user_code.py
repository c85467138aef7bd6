"""Import and call the user's code; an error in it is reported with the user's file and line."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

__all__ = [
    "UserCodeError",
    "add_user_location",
    "add_working_directory",
    "call",
    "import_user_module",
]

_OURS: Final = str(Path(__file__).parents[1])


class UserCodeError(Exception):
    """An error for user code that cannot be imported or called; the text has file and line."""


def add_working_directory() -> None:
    """Add the current directory to the import path, as ``python -m`` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def import_user_module(name: str) -> ModuleType:
    """Import and return the module ``name``.

    Raises UserCodeError if it is missing, or with the file and line at which its import failed.
    """
    with add_user_location(f"{name} could not be imported"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{name}.".startswith(f"{error.name}."):
                raise UserCodeError(
                    f"there is no module {error.name} in {Path.cwd()}, nor is one installed"
                ) from error
            raise


def call(factory: Callable[[], Any], name: str) -> Any:
    """Return the result of the user's factory. Raises UserCodeError if the factory fails."""
    with add_user_location(f"{name}() failed"):
        return factory()


@contextmanager
def add_user_location(what: str) -> Iterator[None]:
    """Turn any error of the user's code into a UserCodeError with its file and line."""
    try:
        yield
    except UserCodeError:
        raise
    except (Exception, SystemExit) as error:  # a script without a guard may end the process
        raise UserCodeError("\n".join([f"{what}:", *_describe(error)])) from error


def _describe(error: BaseException) -> Iterator[str]:
    # Without the lines of code: one that creates a Registry may have a password in it.
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_OURS, "<frozen importlib", importlib.__file__))
    ]
    here = Path.cwd()
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(here)]
    for frame in own or frames[-1:]:
        path = Path(frame.filename)
        shown = path.relative_to(here) if path.is_relative_to(here) else path
        yield f"  {shown}, line {frame.lineno}, in {frame.name}"
    for text in traceback.format_exception_only(error):
        yield from (f"  {line}" for line in text.splitlines())
