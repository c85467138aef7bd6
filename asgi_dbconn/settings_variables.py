"""Environment variables of settings: their names, and errors for wrong and misspelt ones."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import FrameType
from typing import Any, Final, get_origin

from pydantic import AliasChoices, AliasPath, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
)

from asgi_dbconn.errors import ConfigurationError

__all__ = [
    "SETTINGS_MODULE",
    "AlternativeNames",
    "Origins",
    "argument_names",
    "how_to_set",
    "level_of_users_line",
    "variables_of",
]

SETTINGS_MODULE: Final = "ASGI_DBCONN_SETTINGS_MODULE"
"""The variable that names the class of the settings; it is not a setting itself."""
_ON_PLATFORMS: Final = {"database": "DATABASE_URL"}
"""The names that hosting services have for a setting."""
_CLOSE: Final = 0.8
"""The similarity (1 is equal) from which on one name counts as a misspelling of another. With a
lower limit, a variable of another program would count as one of ours."""
_BETWEEN: Final = frozenset(
    {"asgi_dbconn", "click", "functools", "monkay", "pydantic", "pydantic_settings"}
)


def variables_of(settings: type[BaseSettings], field: str) -> list[str]:
    """Return the variables that ``field`` is read from, in this order, in the usual spelling."""
    names = _own_names(settings, field)
    return [*names, _ON_PLATFORMS[field]] if field in _ON_PLATFORMS else names


def argument_names(settings: type[BaseSettings], field: str) -> list[str]:
    """Return the names of ``field`` as a keyword argument."""
    return [field, *_aliases(settings, field)]


def how_to_set(settings: type[BaseSettings], field: str) -> str:
    """Return a sentence that tells the user how to set ``field``."""
    names = " or ".join(variables_of(settings, field))
    return (
        f"Set {names} in the environment or in .env, write {settings.__name__}({field}=...), or "
        f"give your own settings class a default for {field}."
    )


class AlternativeNames(PydanticBaseSettingsSource):
    """A source of settings under other names than ours, in the environment or a ``.env`` file.

    It reads the names that hosting services use (``DATABASE_URL``), and warns of misspelt names.
    """

    def __init__(self, settings: type[BaseSettings], own: PydanticBaseSettingsSource) -> None:
        super().__init__(settings)
        if not isinstance(own, EnvSettingsSource):
            raise ConfigurationError(
                f"{type(own).__name__} does not read variables. Pass the sources on that pydantic "
                "hands to settings_customise_sources, and add your own to the result."
            )
        self._own = own

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = _ON_PLATFORMS.get(field_name)
        return name and self._own.env_vars.get(_key(self._own, name)), field_name, False

    def __call__(self) -> dict[str, Any]:
        for written, meant in _misspelt(self.settings_cls, self._own):
            warnings.warn(
                f"{written} ({_describe(self._own)}) is no setting, and is ignored. "
                f"Did you mean {meant}?",
                stacklevel=level_of_users_line(sys._getframe()),
            )
        fields = self.settings_cls.model_fields
        found = {name: self.get_field_value(field, name)[0] for name, field in fields.items()}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class Origins:
    """The origin of each value of one settings object, for the error about a wrong one."""

    settings: type[BaseSettings]
    arguments: Mapping[str, frozenset[str]]
    """The arguments of the object, and the keys of those that are mappings; no values."""
    sources: Sequence[EnvSettingsSource]
    """The sources of the variables; the first wins."""

    def explain(self, error: ValidationError) -> ConfigurationError:
        """Return ``error`` in our words; it holds no value, and no frame that had one."""
        kinds: list[type[ConfigurationError]] = []
        lines: list[str] = []
        for details in error.errors(include_url=False, include_input=False):
            cause = details.get("ctx", {}).get("error")
            path = [str(part) for part in details["loc"]] or [""]
            field = self._field(path[0])
            kind = ConfigurationError
            if isinstance(cause, ConfigurationError):
                kind, message = type(cause), str(cause.args[0])
            elif details["type"] == "missing" and len(path) == 1 and field is not None:
                message = f"a value is missing. {how_to_set(self.settings, field)}"
            else:
                message = f"{details['msg'].removeprefix('Value error, ').rstrip('.')}."
            kinds.append(kind)
            lines.append(f"{self._of(path)}: {message}")
        if len(lines) == 1:
            return kinds[0](lines[0])
        several = "".join(f"\n- {line}" for line in lines)
        return ConfigurationError(f"{len(lines)} settings are wrong:{several}")

    def explain_json(self, field: str) -> ConfigurationError:
        """Return the error for a value that has to be JSON and cannot be parsed."""
        kind = self.settings.model_fields[field].annotation if field else None
        example = '{"name": "value"}' if _is_mapping(kind) else '["value"]'
        return ConfigurationError(
            f"{self._of([field])}: the value has to be written in JSON, for example {example}."
        )

    def _of(self, path: Sequence[str]) -> str:
        owner, field = self.settings.__name__, self._field(path[0])
        if field is None:
            return ".".join(filter(None, [owner, *path]))
        # The rest of the path is in pydantic's own words, for the members of a union and so on.
        keys = path[1:2] if _is_mapping(self.settings.model_fields[field].annotation) else ()
        for name in argument_names(self.settings, field):
            if name in self.arguments and self.arguments[name].issuperset(keys):
                return f"{owner}({name}={{{keys[0]!r}: ...}})" if keys else f"{owner}({name}=...)"
        for source in self.sources:
            for name in variables_of(self.settings, field):
                nested = (source.env_nested_delimiter or "").join([name, *keys])
                if _key(source, nested) in source.env_vars:
                    written = nested if source.case_sensitive else nested.upper()
                    return f"{written} ({_describe(source)})"
                if _key(source, name) in source.env_vars:
                    return f"{name}{''.join(f'[{key!r}]' for key in keys)} ({_describe(source)})"
        return ".".join([owner, field, *keys])

    def _field(self, name: str) -> str | None:
        fields = self.settings.model_fields
        return next(
            (field for field in fields if name in argument_names(self.settings, field)), None
        )


def _aliases(settings: type[BaseSettings], field: str) -> list[str]:
    alias = settings.model_fields[field].validation_alias
    if alias is None:
        return []
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
    return [str(choice.path[0] if isinstance(choice, AliasPath) else choice) for choice in choices]


def _own_names(settings: type[BaseSettings], field: str) -> list[str]:
    names = _aliases(settings, field)
    if not names or settings.model_config.get("populate_by_name"):
        names.append(f"{settings.model_config.get('env_prefix', '')}{field}")
    return (
        names if settings.model_config.get("case_sensitive") else [name.upper() for name in names]
    )


def _describe(source: EnvSettingsSource) -> str:
    if not isinstance(source, DotEnvSettingsSource):
        return "environment"
    files = source.env_file
    if files is None or isinstance(files, str | os.PathLike):
        files = [files or ".env"]
    return ", ".join(map(str, files))


def _is_mapping(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _key(source: EnvSettingsSource, name: str) -> str:
    return name if source.case_sensitive else name.lower()


def _misspelt(settings: type[BaseSettings], source: EnvSettingsSource) -> Iterator[tuple[str, str]]:
    prefix = settings.model_config.get("env_prefix", "")
    delimiter = source.env_nested_delimiter or "__"
    used = {
        _key(source, variable)
        for field in settings.model_fields
        for variable in variables_of(settings, field)
    }
    used.add(_key(source, SETTINGS_MODULE))
    for written in source.env_vars:
        if not (prefix and written.startswith(_key(source, prefix))):
            continue
        if written in used or written.startswith(tuple(name + delimiter for name in used)):
            continue
        # Without the prefix: all names share it, and would seem similar by it.
        rest = written[len(prefix) :]
        meant = _is_nested(settings, rest, delimiter) or _alike(rest, settings.model_fields)
        if meant is not None:
            name = _key(source, prefix) + meant
            yield (written, name) if source.case_sensitive else (written.upper(), name.upper())


def _alike(written: str, names: Iterable[str]) -> str | None:
    return next(iter(get_close_matches(written, names, 1, _CLOSE)), None)


def _is_nested(settings: type[BaseSettings], written: str, delimiter: str) -> str | None:
    # ASGI_DBCONN_EXTRA_AUDIT: a single underscore where two are needed is a frequent mistake.
    for name, field in settings.model_fields.items():
        if _is_mapping(field.annotation) and written.startswith(f"{name}_"):
            return f"{name}{delimiter}{written[len(name) + 1 :]}"
    return None


def level_of_users_line(frame: FrameType) -> int:
    """Return the ``stacklevel`` of the first line outside of this package and pydantic."""
    level = 1
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _BETWEEN:
            break
        frame, level = frame.f_back, level + 1
    return level
