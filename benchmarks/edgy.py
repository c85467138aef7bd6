"""Edgy's ``run_sync``, which is measured in the same process as all others.

Edgy cannot be installed beside us: it wants an older SQLAlchemy. But its bridge is made of the
standard library alone, so Edgy is installed without its dependencies, into an environment of its
own, and the bridge is imported from there.
"""

from __future__ import annotations

import importlib
import sys
import sysconfig
from collections.abc import Callable
from typing import Any, Final

from tests.support.environments import environment

__all__ = ["VERSION", "edgy_run_sync", "install"]

VERSION: Final = "0.37.0"


def install() -> str:
    """The folder that Edgy can be imported from; made where it is missing."""
    python = environment("edgy", [f"edgy=={VERSION}"], with_project=False)
    base = str(python.parents[1])
    return sysconfig.get_path("purelib", vars={"base": base, "platbase": base})


def edgy_run_sync() -> Callable[..., Any]:
    """The function itself, from Edgy's own code."""
    folder = install()
    # At the end, and only meanwhile: what both environments have is to come from ours.
    sys.path.append(folder)
    try:
        bridge = importlib.import_module("edgy.core.utils.sync")
    finally:
        sys.path.remove(folder)
    run_sync: Callable[..., Any] = bridge.run_sync
    return run_sync
