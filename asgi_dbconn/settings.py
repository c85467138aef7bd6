"""Settings: from keyword arguments, the environment and a ``.env`` file; secrets stay hidden."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

from pydantic import (
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_serializer,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic.functional_validators import PlainValidator
from pydantic_core.core_schema import ValidationInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from asgi_dbconn.errors import ConfigurationError, UnsupportedURL
from asgi_dbconn.options import DatabaseOptions, Password
from asgi_dbconn.schema_names import check_schema
from asgi_dbconn.settings_variables import AlternativeNames, Origins, argument_names
from asgi_dbconn.urls import DatabaseURL, parse_url

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseSettings)

__all__ = ["Settings"]

_DEFAULTS: Final = DatabaseOptions()
_OPTIONS: Final = tuple(option.name for option in fields(DatabaseOptions))


def _read_url(value: Any) -> DatabaseURL:
    read = parse_url(value)
    if isinstance(read, UnsupportedURL):
        raise read
    return read


_EXTRA: Final = TypeAdapter(
    dict[str, Annotated[Any, PlainValidator(_read_url)]], config={"hide_input_in_errors": True}
)


class _DefaultsByName(ModelMetaclass):
    """Metaclass that lets ``class Mine(Settings): pool_size = 20`` change that default alone."""

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **kwargs: Any
    ) -> type:
        inherited = {field for base in bases for field in getattr(base, "model_fields", ())}
        plain = inherited & namespace.keys() - namespace.get("__annotations__", {}).keys()
        defaults = {
            field: namespace.pop(field)
            for field in plain
            # A function or a Field() is more than a value; pydantic handles it.
            if not hasattr(namespace[field], "__get__")
            and not isinstance(namespace[field], FieldInfo)
        }
        with warnings.catch_warnings():
            # pydantic's own `schema` is deprecated; as a setting the word means a schema.
            warnings.filterwarnings("ignore", 'Field name "schema" in "', UserWarning)
            made: Any = super().__new__(mcs, name, bases, namespace, **kwargs)
        for field, default in defaults.items():
            made.model_fields[field].default = default
            made.model_fields[field].default_factory = None
        if defaults:
            made.model_rebuild(force=True)
        return cast("type", made)


class Settings(BaseSettings, metaclass=_DefaultsByName):
    """Settings from keyword arguments, variables that start with ``ASGI_DBCONN_``, and ``.env``.

    Derive your own class and name it in ``ASGI_DBCONN_SETTINGS_MODULE``: ``package.module.Class``.
    A wrong value is a ConfigurationError that names the variable it came from.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASGI_DBCONN_",
        env_nested_delimiter="__",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )

    database: DatabaseURL | str | None = None
    """The default database. A URL in any form becomes a ``DatabaseURL`` here."""
    extra: Mapping[str, DatabaseURL | str] = Field(default_factory=dict)
    """More databases by name: one variable for each, or one JSON object."""
    schema: str | None = None  # type: ignore[assignment]  # pyright: ignore
    """The schema that queries run in; PostgreSQL only."""
    app: str | None = None
    """The application for the command line, as ``module:attribute``."""
    preloads: Annotated[tuple[str, ...], NoDecode] = ()
    """The imports of ``monkay.evaluate_settings()``, as ``module`` or ``module:function``;
    separated by commas, or a JSON array."""
    migration_directory: Path | str = Path("migrations")
    """The folder in which the command line finds the migrations."""

    pool_size: int = _DEFAULTS.pool_size
    acquire_timeout: float = _DEFAULTS.acquire_timeout
    query_timeout: float | None = _DEFAULTS.query_timeout
    max_waiting: int | None = _DEFAULTS.max_waiting
    connect_timeout: float = _DEFAULTS.connect_timeout
    startup_timeout: float = _DEFAULTS.startup_timeout
    shutdown_timeout: float = _DEFAULTS.shutdown_timeout
    max_lifetime: float = _DEFAULTS.max_lifetime
    idle_check_after: float = _DEFAULTS.idle_check_after
    leak_after: float | None = _DEFAULTS.leak_after
    max_connections: int | None = _DEFAULTS.max_connections
    reset: Literal["rollback", "full"] = _DEFAULTS.reset
    pgbouncer: bool = _DEFAULTS.pgbouncer
    optional: bool = _DEFAULTS.optional
    password: Password | None = _DEFAULTS.password
    echo: bool | Literal["debug"] = _DEFAULTS.echo
    connect_args: Mapping[str, Any] = Field(default_factory=dict, repr=False)
    engine_options: Mapping[str, Any] = Field(default_factory=dict, repr=False)

    def __init__(self, **values: Any) -> None:
        self._refuse_unknown(values)
        try:
            super().__init__(**values)
        except (ValidationError, SettingsError) as error:
            wrong = self._explain(error, values)
        else:
            return
        # Raised here, where no variable refers to the frames and errors that hold the raw values.
        values.clear()
        raise wrong

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment before the file, and in each of them our names before others'."""
        return (
            init_settings,
            env_settings,
            AlternativeNames(settings_cls, env_settings),
            dotenv_settings,
            AlternativeNames(settings_cls, dotenv_settings),
            file_secret_settings,
        )

    @classmethod
    def _refuse_unknown(cls, values: dict[str, Any]) -> None:
        if cls.model_config.get("extra") != "ignore":
            return  # pydantic keeps unknown values, or refuses them itself
        known = [name for field in cls.model_fields for name in argument_names(cls, field)]
        for name in values:
            if name not in known and not name.startswith("_"):
                values.clear()
                meant = get_close_matches(name, known, 1)
                hint = f"Did you mean {meant[0]!r}? " if meant else ""
                raise ConfigurationError(
                    f"{cls.__name__} has no setting {name!r}. {hint}"
                    f"Settings are: {', '.join(known)}."
                )

    @classmethod
    def _explain(
        cls, error: ValidationError | SettingsError, values: Mapping[str, Any]
    ) -> ConfigurationError:
        named = {name: value for name, value in values.items() if not name.startswith("_")}
        origins = Origins(
            cls,
            {
                name: frozenset(map(str, value)) if isinstance(value, Mapping) else frozenset()
                for name, value in named.items()
            },
            [EnvSettingsSource(cls), DotEnvSettingsSource(cls, **_chosen_file(values))],
        )
        if isinstance(error, ValidationError):
            return origins.explain(error)
        field = re.search(r'field "(\w+)"', str(error))
        return origins.explain_json(field[1] if field else "")

    @field_validator("database", mode="plain")
    @classmethod
    def _read_database(cls, value: Any) -> DatabaseURL | None:
        return None if value is None else _read_url(value)

    @field_validator("extra", mode="plain")
    @classmethod
    def _read_extra(cls, value: Any) -> Mapping[str, DatabaseURL]:
        return _EXTRA.validate_python(value)

    @field_validator("schema")
    @classmethod
    def _read_schema(cls, value: Any) -> str | None:
        return check_schema(value)

    @field_validator("preloads", mode="before")
    @classmethod
    def _read_preloads(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError:
                raise ConfigurationError(
                    'preloads are separated by commas, or a JSON array: ["shop.models"].'
                ) from None
        return tuple(preload.strip() for preload in value.split(",") if preload.strip())

    @field_validator("migration_directory")
    @classmethod
    def _read_migration_directory(cls, value: Path | str) -> Path:
        return Path(value)

    @field_validator("password", mode="plain")
    @classmethod
    def _read_password(cls, value: Any) -> Any:
        hidden = SecretStr(value) if isinstance(value, str) else value
        return DatabaseOptions(password=hidden).password

    @field_validator(*(name for name in _OPTIONS if name != "password"), mode="wrap")
    @classmethod
    def _read_option(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        name = str(info.field_name)
        try:
            read = handler(value)
        except ValidationError:
            DatabaseOptions.check({name: value})  # the option's own error text is better
            raise
        DatabaseOptions.check({name: read})
        return read

    @field_serializer("database", "extra", "password", when_used="json")
    def _write_masked(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: str(url) for name, url in value.items()}
        return None if value is None else str(value)


def _chosen_file(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"env_file": values["_env_file"]} if "_env_file" in values else {}
