"""Making a folder for revisions, ready for our command and for Alembic's own."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from string import Template
from types import ModuleType

from asgi_dbconn.errors import MigrationError
from asgi_dbconn.migrations.folder import TEMPLATES

__all__ = ["create_folder", "import_line"]


def create_folder(directory: Path, registry: object) -> list[Path]:
    """Write the folder, and return what was written. Raises MigrationError if it is not empty."""
    if directory.exists() and any(directory.iterdir()):
        raise MigrationError(
            f"The folder {directory} exists, and is not empty. If its revisions are to go on, "
            "there is nothing to initialise; else name another folder with `--directory`."
        )
    (directory / "versions").mkdir(parents=True)
    values = {
        "directory": directory.as_posix(),
        "root": Path(os.path.relpath(Path.cwd(), directory)).as_posix(),
        "import_registry": import_line(registry)
        or "from yourproject import models  # write here where your Registry is",
    }
    written = [directory / "script.py.mako"]
    shutil.copyfile(TEMPLATES / "script.py.mako", written[0])
    for name in ("alembic.ini", "env.py"):
        text = Template((TEMPLATES / f"{name}.template").read_text()).substitute(values)
        written.append(directory / name)
        written[-1].write_text(text)
    return written


def import_line(registry: object) -> str | None:
    """Return the line that imports ``registry`` as ``models``; None if no module has it."""
    places = [
        (module.__name__, name)
        for module in _modules()
        for name, value in list(vars(module).items())
        if value is registry and name.isidentifier()
    ]
    if not places:
        return None
    # Where it was made rather than where it is used: that is the module nearest to the root.
    module, name = min(places, key=lambda place: (place[0].count("."), len(place[0]), place))
    return f"from {module} import {name}" + ("" if name == "models" else " as models")


def _modules() -> list[ModuleType]:
    # Not all that stands there is a module.
    loaded: list[object] = list(sys.modules.values())
    return [
        module
        for module in loaded
        if isinstance(module, ModuleType)
        and module.__name__ != "__main__"
        and module.__name__.partition(".")[0] != "asgi_dbconn"
    ]
