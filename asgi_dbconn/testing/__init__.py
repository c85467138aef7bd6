"""What applications and wrappers are tested with."""

from __future__ import annotations

from asgi_dbconn.lifespan.driver import LifespanDriver

__all__ = ["LifespanDriver"]
