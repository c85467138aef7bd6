"""The instance and the preloads of a process, and how tests replace them."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from typing import Any

import pytest

from asgi_dbconn import ConfigurationError, Instance, Registry, Settings, monkay
from tests.settings.conftest import Write

MODELS = """
from asgi_dbconn import Instance, Registry, monkay

calls = []

def announce():
    calls.append("announced")
    monkay.set_instance(Instance(registry=Registry("sqlite://")))
"""


def test_an_instance_has_a_registry_and_perhaps_an_application() -> None:
    models, app = Registry("sqlite://"), object()

    assert Instance(registry=models).app is None
    assert Instance(registry=models, app=app).app is app
    assert Instance(registry=models) == Instance(registry=models)
    with pytest.raises(TypeError, match="registry"):
        Instance()  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        Instance(registry=models).app = app  # type: ignore[misc]


@pytest.mark.parametrize("given", [None, "postgresql://app:hush@db/shop", Registry, object()])
def test_something_else_than_a_registry_is_refused_and_not_shown(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"as in Instance\(registry=models\)") as caught:
        Instance(registry=given)

    assert caught.value.__traceback__ is not None
    below = caught.value.__traceback__.tb_next
    shown = traceback.TracebackException(
        type(caught.value), caught.value, below, capture_locals=True
    )
    assert "hush" not in "".join(shown.format())


def test_only_an_instance_can_be_set() -> None:
    models = Registry("sqlite://")
    given: Any = models

    with pytest.raises(ConfigurationError, match=r"Instance\(registry=..., app=...\) or None, not"):
        monkay.set_instance(given)
    assert monkay.instance is None

    first, second = Instance(registry=models), Instance(registry=Registry("sqlite://"))
    monkay.set_instance(first)
    assert monkay.instance is first
    monkay.set_instance(second)
    assert monkay.instance is second
    monkay.set_instance(None)
    assert monkay.instance is None


def test_preloads_are_imported_or_called_once(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("shop_models.py", MODELS)
    monkeypatch.setenv("ASGI_DBCONN_PRELOADS", "shop_models,shop_models:announce")

    _ = monkay.settings
    assert "shop_models" not in sys.modules
    assert monkay.evaluate_settings()
    assert monkay.evaluate_settings(ignore_import_errors=False)

    assert sys.modules["shop_models"].calls == ["announced"]
    assert monkay.instance is not None


@pytest.mark.parametrize("broken", [False, True])
def test_a_preload_that_cannot_be_imported_is_warned_of_and_the_others_are_loaded(
    broken: bool, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("shop_models.py", MODELS)
    if broken:
        write("shop_modles.py", "import no_such_package\n")
    monkeypatch.setenv("ASGI_DBCONN_PRELOADS", "shop_modles:x,shop_models:announce")

    with pytest.warns(UserWarning, match="is left out") as caught:
        assert monkay.evaluate_settings()

    missing = "no_such_package" if broken else "shop_modles"
    assert [str(warning.message) for warning in caught] == [
        "The preload 'shop_modles:x' is left out, as 'shop_modles' cannot be imported: No module "
        f"named '{missing}'. Correct its name in `preloads`, or what it imports."
    ]
    assert caught[0].filename == __file__
    assert sys.modules["shop_models"].calls == ["announced"]


def test_a_missing_preload_can_be_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_DBCONN_PRELOADS", "shop_modles")

    with pytest.raises(ModuleNotFoundError, match="shop_modles"):
        monkay.evaluate_settings(ignore_preload_import_errors=False)


def test_an_error_inside_a_preloaded_function_is_its_own(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("shop_models.py", "def announce():\n    import no_such_package\n")
    monkeypatch.setenv("ASGI_DBCONN_PRELOADS", "shop_models:announce")

    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        monkay.evaluate_settings()


async def test_a_task_that_replaces_them_is_not_seen_by_another() -> None:
    real = Instance(registry=Registry("sqlite://"))
    monkay.set_instance(real)
    inside, seen = asyncio.Event(), asyncio.Event()

    async def replacing() -> tuple[Any, int]:
        mine = Instance(registry=Registry("sqlite://"))
        with monkay.with_instance(mine), monkay.with_settings(Settings(pool_size=3)):
            inside.set()
            await seen.wait()
            child = asyncio.create_task(_what_is_seen())
            assert await child == (mine, 3)  # what it starts inherits them
            return await _what_is_seen()

    task = asyncio.create_task(replacing())
    await inside.wait()
    assert await _what_is_seen() == (real, 10)
    seen.set()
    assert (await task)[1] == 3
    assert await _what_is_seen() == (real, 10)


def test_a_thread_that_replaces_them_is_not_seen_by_another() -> None:
    real = Instance(registry=Registry("sqlite://"))
    monkay.set_instance(real)
    inside, seen = threading.Event(), threading.Event()
    found: list[Any] = []

    def replacing() -> None:
        with (
            monkay.with_settings(Settings(pool_size=3)),
            monkay.with_instance(Instance(registry=Registry("sqlite://"))),
        ):
            inside.set()
            seen.wait(10)
            found.extend([monkay.instance, monkay.settings.pool_size])

    thread = threading.Thread(target=replacing)
    thread.start()
    assert inside.wait(10)
    assert monkay.instance is real
    assert monkay.settings.pool_size == 10
    seen.set()
    thread.join()
    assert found[0] is not real
    assert found[1] == 3


def test_replaced_settings_are_evaluated_by_themselves(write: Write) -> None:
    write("shop_models.py", MODELS)
    assert monkay.evaluate_settings()

    with monkay.with_settings(Settings(preloads=("shop_models:announce",))):
        assert not monkay.settings_evaluated
        monkay.evaluate_settings()
        assert sys.modules["shop_models"].calls == ["announced"]
    assert monkay.settings_evaluated
    assert monkay.settings.preloads == ()


async def _what_is_seen() -> tuple[Any, int]:
    await asyncio.sleep(0)
    return monkay.instance, monkay.settings.pool_size
