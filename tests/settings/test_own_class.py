"""A settings class of one's own: other defaults, more settings, other sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from asgi_dbconn import ConfigurationError, DatabaseURL, Registry, Settings
from asgi_dbconn.registry.from_settings import read_settings
from tests.settings.conftest import Write


class Shop(Settings):
    database = "postgresql://shop:hush@db/shop"
    extra = {"audit": "sqlite:///audit"}
    preloads = ("shop.models",)
    migration_directory = "db/migrations"
    pool_size = 4
    query_timeout = 30.0
    page_size: int = 20


class Typed(Settings):
    database: str = "postgresql://shop:hush@db/shop"
    schema: str | None = "shop"
    password: Any = "hush"


def test_defaults_are_changed_by_name_and_checked_like_values() -> None:
    settings = Shop()

    assert settings.database == DatabaseURL("postgresql://shop:hush@db/shop")
    assert settings.extra == {"audit": DatabaseURL("sqlite:///audit")}
    assert settings.preloads == ("shop.models",)
    assert vars(settings)["migration_directory"] == Path("db/migrations")
    assert (settings.pool_size, settings.query_timeout, settings.page_size) == (4, 30.0, 20)
    assert Settings().pool_size == 10
    assert "hush" not in repr(settings)


def test_defaults_may_repeat_their_type_and_stay_secret() -> None:
    settings = Typed()

    assert settings.database == DatabaseURL("postgresql://shop:hush@db/shop")
    assert settings.schema == "shop"
    assert settings.password == SecretStr("hush")
    assert "hush" not in repr(settings)


def test_own_settings_are_read_like_ours(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(".env", "ASGI_DBCONN_PAGE_SIZE=50\nASGI_DBCONN_PRELOADS=shop.other\n")
    monkeypatch.setenv("ASGI_DBCONN_POOL_SIZE", "8")

    settings = Shop()

    assert (settings.page_size, settings.pool_size) == (50, 8)
    assert settings.preloads == ("shop.other",)


def test_a_wrong_default_names_the_class_that_has_it() -> None:
    class Wrong(Settings):
        pool_size = 0

    with pytest.raises(ConfigurationError, match=r"^Wrong.pool_size: .* at least 1, not 0"):
        Wrong()


def test_a_wrong_value_of_ones_own_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_DBCONN_PAGE_SIZE", "many")

    with pytest.raises(ConfigurationError, match=r"^ASGI_DBCONN_PAGE_SIZE \(environment\): "):
        Shop()


def test_a_setting_without_a_value_says_how_to_give_it_one() -> None:
    class Mailing(Settings):
        sender: str
        api_key: str = Field(validation_alias="MAIL_KEY")

    with pytest.raises(ConfigurationError) as caught:
        Mailing()

    assert "Set ASGI_DBCONN_SENDER in the environment or in .env" in str(caught.value)
    assert "Set MAIL_KEY or ASGI_DBCONN_API_KEY in the environment" in str(caught.value)


def test_an_alias_is_one_more_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Aliased(Settings):
        database: str = Field("sqlite:///default", validation_alias="SHOP_DATABASE")

    def read(**given: Any) -> str | None:
        return DatabaseURL(Aliased(**given).database).database

    assert read() == "default"
    monkeypatch.setenv("DATABASE_URL", "sqlite:///platform")
    assert read() == "platform"
    monkeypatch.setenv("ASGI_DBCONN_DATABASE", "sqlite:///ours")
    assert read() == "ours"
    monkeypatch.setenv("SHOP_DATABASE", "sqlite:///alias")
    assert read() == "alias"
    assert read(database="sqlite:///argument") == "argument"
    monkeypatch.setenv("SHOP_DATABASE", "mysql://db/shop")
    with pytest.raises(ConfigurationError, match=r"^SHOP_DATABASE \(environment\): "):
        read()


def test_another_prefix_goes_for_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Prefixed(Settings):
        model_config = SettingsConfigDict(env_prefix="SHOP_")

    monkeypatch.setenv("ASGI_DBCONN_POOL_SIZE", "99")
    monkeypatch.setenv("DATABASE_URL", "sqlite:///platform")
    assert Prefixed().pool_size == 10
    assert Prefixed().database == DatabaseURL("sqlite:///platform")

    monkeypatch.setenv("SHOP_DATABASE", "sqlite:///shop")
    monkeypatch.setenv("SHOP_POOL_SIZE", "0")
    with pytest.raises(ConfigurationError, match=r"^SHOP_POOL_SIZE \(environment\): "):
        Prefixed()
    monkeypatch.setenv("SHOP_POOL_SIZE", "3")
    assert Prefixed().pool_size == 3
    assert Prefixed().database == DatabaseURL("sqlite:///shop")

    monkeypatch.setenv("SHOP_POOLSIZE", "3")
    with pytest.warns(UserWarning, match="Did you mean SHOP_POOL_SIZE?"):
        Prefixed()


def test_parts_of_the_configuration_can_be_changed(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Careful(Settings):
        model_config = SettingsConfigDict(env_file="careful.env", case_sensitive=True)

    write("careful.env", "ASGI_DBCONN_schema=one\n")
    monkeypatch.setenv("ASGI_DBCONN_pool_size", "0")

    with pytest.raises(ConfigurationError, match=r"^ASGI_DBCONN_pool_size \(environment\): "):
        Careful()
    monkeypatch.setenv("ASGI_DBCONN_pool_size", "3")
    assert (Careful().schema, Careful().pool_size) == ("one", 3)


def test_secrets_can_be_files(project: Path) -> None:
    class Mounted(Settings):
        model_config = SettingsConfigDict(secrets_dir=project)

    (project / "asgi_dbconn_database").write_text("postgresql://shop@db/shop\n")
    (project / "asgi_dbconn_password").write_text("hush\n")

    settings = Mounted()

    assert settings.database == DatabaseURL("postgresql://shop@db/shop")
    assert settings.password == SecretStr("hush")


def test_sources_can_be_added() -> None:
    class Vaulted(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            vault = InitSettingsSource(settings_cls, {"database": "sqlite:///vault"})
            ours = super().settings_customise_sources(
                settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
            )
            return (*ours, vault)

    assert Vaulted().database == DatabaseURL("sqlite:///vault")
    assert Vaulted(database="sqlite:///mine").database == DatabaseURL("sqlite:///mine")


def test_a_source_that_reads_no_variables_is_refused_with_the_remedy() -> None:
    source = InitSettingsSource(Settings, {})

    with pytest.raises(ConfigurationError, match="add your own to the result"):
        Settings.settings_customise_sources(Settings, source, source, source, source)


def test_what_a_subclass_adds_may_be_kept_by_the_next_one() -> None:
    class Smaller(Shop):
        pool_size = 2
        page_size = 5

    assert (Smaller().pool_size, Smaller().page_size, Shop().pool_size) == (2, 5, 4)
    assert Smaller().database == Shop().database


def test_extra_arguments_are_kept_where_the_class_says_so() -> None:
    class Open(Settings):
        model_config = SettingsConfigDict(extra="allow")

    assert Open(colour="red").model_extra == {"colour": "red"}


def test_only_chosen_options_reach_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_DBCONN_ECHO", "false")

    assert read_settings(Shop()).options == {"pool_size": 4, "query_timeout": 30.0, "echo": False}
    assert Registry.from_settings(Shop()).database.url == Shop().database
