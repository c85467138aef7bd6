"""The folder of the revisions: create it for our command and Alembic's own, read its settings."""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import ModuleType
from typing import TYPE_CHECKING, Final, TextIO

from asgi_dbconn.errors import MigrationError

__all__ = ["TEMPLATES", "Folder", "create_folder", "import_line", "scripts_of"]

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory


TEMPLATES: Final = Path(__file__).with_name("templates")
_REVISION_TEMPLATE: Final = "script.py.mako"


@dataclass(frozen=True)
class Folder:
    """The folder of ``alembic.ini`` (or ``pyproject.toml``) and ``versions/``. Immutable.

    Its ``env.py`` is for the ``alembic`` command, and is never run from here.
    """

    directory: Path
    x: tuple[str, ...] = ()
    """The values of ``-x key=value``, for ``context.get_x_argument()`` in a revision."""
    tag: str | None = None
    """The value of ``context.get_tag_argument()``."""

    def config(self, *, stdout: TextIO | None = None, autogenerate: bool = False) -> Config:
        """Return Alembic's settings. Raises MigrationError if there is no such folder."""
        from alembic.config import Config
        from alembic.util import coerce_resource_to_filename

        ini, toml = self.directory / "alembic.ini", self.directory / "pyproject.toml"
        config = Config(
            file_=ini if ini.is_file() else None,
            toml_file=toml if toml.is_file() else None,
            stdout=stdout or sys.stdout,
            # Quiet, unless the output is wanted.
            cmd_opts=Namespace(x=list(self.x), autogenerate=autogenerate, quiet=stdout is None),
        )
        if config.get_alembic_option("script_location") is None:
            config.set_main_option("script_location", _literal(self.directory))
        location = coerce_resource_to_filename(config.get_alembic_option("script_location") or "")
        if not location.is_dir():
            raise MigrationError(
                f"There is no folder {location} with migrations. Create one with "
                "`asgi-dbconn db init`, or name another one with `--directory`."
            )
        return config

    def config_for_writing(self, databases: list[str], *, autogenerate: bool = False) -> Config:
        """Return the settings for new revisions, with a template that fits ``databases``.

        That is the folder's own template, or else ours. The template of flask-migrate for several
        databases needs Flask, and one for a single database has no part for a second one.
        """
        from alembic.util import coerce_resource_to_filename

        config = self.config(autogenerate=autogenerate)
        location = coerce_resource_to_filename(config.get_alembic_option("script_location") or "")
        if not _fits(location / _REVISION_TEMPLATE, databases):
            if not config.get_version_locations_list():
                config.set_main_option("path_separator", "newline")
                config.set_main_option("version_locations", _literal(location / "versions"))
            config.set_main_option("script_location", _literal(TEMPLATES))
        return config


def scripts_of(config: Config) -> ScriptDirectory:
    """Return the revisions in the folder of ``config``."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(config)
    sys.path[:] = dict.fromkeys(sys.path)  # from_config() adds `prepend_sys_path` at each call
    return scripts


def _fits(template: Path, databases: list[str]) -> bool:
    if not template.is_file():
        return False
    text = template.read_text()
    return "current_app" not in text and (databases == [""] or "databases" in text)


def _literal(path: Path) -> str:
    return str(path.absolute()).replace("%", "%%")


def create_folder(directory: Path, registry: object) -> list[Path]:
    """Write the folder, and return its new files. Raises MigrationError if it is not empty."""
    if directory.exists() and any(directory.iterdir()):
        raise MigrationError(
            f"The folder {directory} exists, and is not empty. To continue its revisions, there is "
            "nothing to initialise. For new ones, name another folder with `--directory`."
        )
    (directory / "versions").mkdir(parents=True)
    values = {
        "directory": directory.as_posix(),
        "root": Path(os.path.relpath(Path.cwd(), directory)).as_posix(),
        "import_registry": import_line(registry)
        or "from yourproject import models  # import your Registry here",
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
    candidates = [
        (module.__name__, name)
        for module in _modules()
        for name, value in list(vars(module).items())
        if value is registry and name.isidentifier()
    ]
    if not candidates:
        return None
    # The module nearest to the root: there it was created; others only import it.
    module, name = min(
        candidates, key=lambda candidate: (candidate[0].count("."), len(candidate[0]), candidate)
    )
    return f"from {module} import {name}" + ("" if name == "models" else " as models")


def _modules() -> list[ModuleType]:
    # Some values of sys.modules are not modules.
    loaded: list[object] = list(sys.modules.values())
    return [
        module
        for module in loaded
        if isinstance(module, ModuleType)
        and module.__name__ != "__main__"
        and module.__name__.partition(".")[0] != "asgi_dbconn"
    ]
