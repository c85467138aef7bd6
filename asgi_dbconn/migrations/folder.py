"""The folder that revisions live in, and the settings that Alembic finds there."""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from asgi_dbconn.errors import MigrationError

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

__all__ = ["TEMPLATES", "Folder", "scripts_of"]

TEMPLATES: Final = Path(__file__).with_name("templates")
_REVISION_TEMPLATE: Final = "script.py.mako"


@dataclass(frozen=True)
class Folder:
    """The folder of ``alembic.ini`` (or ``pyproject.toml``) and ``versions/``. Immutable.

    Its ``env.py`` is for the ``alembic`` command, and never run from here.
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
            # Quiet, unless somebody wants to read it.
            cmd_opts=Namespace(x=list(self.x), autogenerate=autogenerate, quiet=stdout is None),
        )
        if config.get_alembic_option("script_location") is None:
            config.set_main_option("script_location", _literal(self.directory))
        location = coerce_resource_to_filename(config.get_alembic_option("script_location") or "")
        if not location.is_dir():
            raise MigrationError(
                f"There is no folder {location} with migrations. Make one with "
                "`asgi-dbconn db init`, or say where it is with `--directory`."
            )
        return config

    def config_for_writing(self, databases: list[str], *, autogenerate: bool = False) -> Config:
        """Return the same settings for new revisions, from a template that fits ``databases``.

        That is the folder's own; but flask-migrate's for several databases asks Flask for them,
        and one for a single database has no place for more.
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
    """Return the revisions that ``config`` leads to."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(config)
    sys.path[:] = dict.fromkeys(sys.path)  # that put `prepend_sys_path` there, each time
    return scripts


def _fits(template: Path, databases: list[str]) -> bool:
    if not template.is_file():
        return False
    text = template.read_text()
    return "current_app" not in text and (databases == [""] or "databases" in text)


def _literal(path: Path) -> str:
    return str(path.absolute()).replace("%", "%%")
