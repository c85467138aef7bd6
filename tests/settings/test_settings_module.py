"""`ASGI_DBCONN_SETTINGS_MODULE`: which class the process reads its settings with."""

from __future__ import annotations

import sys

import pytest

from asgi_dbconn import ConfigurationError, Settings, monkay
from tests.settings.conftest import Write

SHOP = """
from asgi_dbconn import Settings

class Shop(Settings):
    app = "shop:app"
    page_size: int = 20

staging = Shop(page_size=5)
limit = 3
"""


@pytest.mark.parametrize(
    ("path", "page_size"),
    [("shop_settings.Shop", 20), ("shop_settings:Shop", 20), ("shop_settings:staging", 5)],
)
def test_a_class_or_an_object_is_named_by_its_path(
    path: str, page_size: int, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("shop_settings.py", SHOP)
    monkeypatch.setenv("ASGI_DBCONN_SETTINGS_MODULE", path)
    assert "shop_settings" not in sys.modules

    settings = monkay.settings

    assert settings.app == "shop:app"
    assert getattr(settings, "page_size") == page_size  # noqa: B009  # not a field of ours
    assert monkay.settings is settings
    assert monkay.evaluate_settings()


def test_without_it_or_with_an_empty_one_the_class_is_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert type(monkay.settings) is Settings
    monkay.clear_caches()
    monkeypatch.setenv("ASGI_DBCONN_SETTINGS_MODULE", "")
    assert type(monkay.settings) is Settings


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("shop_setings.Shop", "No module named 'shop_setings'"),
        ("shop_settings.Shpo", 'Import of "Shpo" from "shop_settings" failed'),
        ("shop_settings", "invalid path: shop_settings"),
    ],
)
def test_what_cannot_be_imported_is_an_error_that_names_the_variable(
    path: str, why: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("shop_settings.py", SHOP)
    monkeypatch.setenv("ASGI_DBCONN_SETTINGS_MODULE", path)

    with pytest.raises(ConfigurationError) as caught:
        monkay.evaluate_settings()

    assert isinstance(caught.value, ImportError)
    assert str(caught.value).startswith(f"ASGI_DBCONN_SETTINGS_MODULE is '{path}', which cannot")
    assert why in str(caught.value)
    assert "package.module.Class" in str(caught.value)


def test_import_errors_are_ignored_on_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_DBCONN_SETTINGS_MODULE", "shop_settings.Shop")

    assert not monkay.evaluate_settings(ignore_import_errors=True)
    with pytest.raises(ImportError):
        monkay.evaluate_settings(ignore_import_errors=False)


def test_a_module_that_fails_itself_shows_its_own_line(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("shop_settings.py", "import no_such_package\n")
    monkeypatch.setenv("ASGI_DBCONN_SETTINGS_MODULE", "shop_settings.Shop")

    with pytest.raises(ConfigurationError, match="No module named 'no_such_package'") as caught:
        _ = monkay.settings
    cause = caught.value.__cause__
    assert isinstance(cause, ModuleNotFoundError)
    traceback = cause.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback is not None
    assert traceback.tb_frame.f_code.co_filename.endswith("shop_settings.py")


def test_something_else_of_that_name_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("shop_settings.py", SHOP)
    monkeypatch.setenv("ASGI_DBCONN_SETTINGS_MODULE", "shop_settings.limit")

    with pytest.raises(
        ConfigurationError, match=r"which is a int\. It has to name a class derived"
    ):
        monkay.evaluate_settings(ignore_import_errors=True)


def test_wrong_values_are_not_ignored_with_import_errors(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASGI_DBCONN_POOL_SIZE", "0")

    with pytest.raises(ConfigurationError, match="ASGI_DBCONN_POOL_SIZE"):
        monkay.evaluate_settings(ignore_import_errors=True)
