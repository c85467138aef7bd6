"""The shell in IPython, whose cells run on the loop on which the databases are connected."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from IPython.core.interactiveshell import ExecutionResult
from IPython.terminal.ipapp import TerminalIPythonApp
from traitlets.config import Config

from asgi_dbconn.loops.run_sync import run_sync

__all__ = ["run_ipython"]


def run_ipython(names: dict[str, Any]) -> None:
    """Run IPython, with the user's own profile and history, until Ctrl-D or ``exit``."""
    config = Config()
    config.TerminalIPythonApp.display_banner = False
    config.TerminalInteractiveShell.confirm_exit = False
    app: Any = TerminalIPythonApp.instance(user_ns=names, config=config)
    app.initialize([])
    app.shell.loop_runner = _run_cell
    # Without the traceback of our own wait: one line, as in the built-in shell.
    app.shell.set_custom_exc((KeyboardInterrupt, asyncio.CancelledError), _print_one_line)
    app.start()


def _run_cell(cell: Coroutine[Any, Any, ExecutionResult]) -> ExecutionResult:
    results: list[ExecutionResult] = []

    async def run() -> None:
        results.append(await cell)

    try:
        run_sync(run())
    except KeyboardInterrupt:
        # The cell was cancelled and has printed so; it has a result as any failed cell.
        if not results:
            raise
    return results[0]


def _print_one_line(_: Any, kind: type[BaseException], *__: Any, **___: Any) -> None:
    interrupted = issubclass(kind, KeyboardInterrupt) or _is_cancelled_from_outside()
    sys.stderr.write("KeyboardInterrupt\n" if interrupted else f"{kind.__name__}\n")


def _is_cancelled_from_outside() -> bool:
    loop = asyncio._get_running_loop()
    task = asyncio.current_task(loop) if loop is not None else None
    return task is not None and task.cancelling() > 0
