"""The names in a shell's scope: the models of a registry, and what is needed beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import inspect, select

from asgi_dbconn.instance import Instance, monkay
from asgi_dbconn.loops.run_sync import run_sync
from asgi_dbconn.orm.queryable import Queryable
from asgi_dbconn.registry.registry import Registry

__all__ = ["mapped_classes", "names_in_scope"]


def names_in_scope(instance: Instance) -> dict[str, Any]:
    """Return the models by name, then ``models``, ``app``, ``settings``, ``select``, ``run_sync``.

    The latter win over a model of the same name.
    """
    names: dict[str, Any] = dict(sorted(_models(instance.registry)))
    names["models"] = instance.registry
    if instance.app is not None:
        names["app"] = instance.app
    return names | {"settings": monkay.settings, "select": select, "run_sync": run_sync}


def mapped_classes(registry: Registry) -> list[type[Any]]:
    """Return every class that is mapped by now on a base of ``registry``."""
    found = dict.fromkeys(_below(Queryable))
    return [
        subclass
        for subclass in found
        if getattr(subclass, "__dbconn__", (None,))[0] is registry
        and inspect(subclass, raiseerr=False) is not None
    ]


def _models(registry: Registry) -> Iterator[tuple[str, type[Any]]]:
    models = mapped_classes(registry)
    for model in models:
        # Two of one name: a guess would be wrong for somebody who writes, so neither gets it.
        is_alone = sum(other.__name__ == model.__name__ for other in models) == 1
        module = model.__module__.replace(".", "_")
        yield model.__name__ if is_alone else f"{module}_{model.__name__}", model


def _below(base: type[Any]) -> Iterator[type[Any]]:
    for subclass in base.__subclasses__():
        yield subclass
        yield from _below(subclass)
