"""Our log lines in the log of every server, whatever it does with those of applications."""

from __future__ import annotations

import logging


def show_our_log() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("asgi_dbconn")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False
