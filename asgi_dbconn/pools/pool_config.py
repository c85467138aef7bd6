"""The configuration that the pools of one database share: addresses, options, observers, budget.

A database has one pool per event loop. Each reads this, from any thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from asgi_dbconn.options import DatabaseOptions
from asgi_dbconn.pools.budget import Budget
from asgi_dbconn.pools.dialects.drivers import profile_of
from asgi_dbconn.pools.dialects.profile import DialectProfile
from asgi_dbconn.pools.observer import Observers
from asgi_dbconn.urls import DatabaseURL

__all__ = ["PoolConfig"]


@dataclass(frozen=True)
class PoolConfig:
    """The configuration of one database, immutable, for the pools of all loops."""

    name: str
    url: DatabaseURL
    """The URL as the user wrote it, for messages."""
    address: DatabaseURL
    """The URL that connections use; differs for memory databases, which get a name of their own."""
    options: DatabaseOptions
    observers: Observers = field(default_factory=Observers, compare=False)

    @cached_property
    def budget(self) -> Budget:
        """The connections that all pools together may have open."""
        return Budget(self.options.max_connections)

    @cached_property
    def profile(self) -> DialectProfile:
        return profile_of(self.url)

    def __str__(self) -> str:
        return f"{self.name!r} ({self.url})"
