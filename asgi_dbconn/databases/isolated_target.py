"""A database as an isolated one sees it: the same place, and a single connection to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from asgi_dbconn.pools.budget import Budget
from asgi_dbconn.pools.dialects.isolated_profile import IsolatedProfile
from asgi_dbconn.pools.dialects.isolated_sqlite import IsolatedSQLite
from asgi_dbconn.pools.dialects.isolation_profiles import IsolatedPostgreSQL
from asgi_dbconn.pools.pool_config import Target

__all__ = ["IsolatedTarget"]

_YEARS: Final = 3e8
"""Seconds. The connection must not be replaced for its age: everything would be lost."""


@dataclass(frozen=True)
class IsolatedTarget(Target):
    """The target of one isolation."""

    origin: Target | None = None

    @classmethod
    def of(cls, origin: Target) -> IsolatedTarget:
        options = replace(origin.options, pool_size=1, max_lifetime=_YEARS, optional=False)
        name = f"{origin.name} (isolated)"  # in messages about a queue for a single connection
        return cls(name, origin.url, origin.address, options, origin.observers, origin)

    @cached_property
    def budget(self) -> Budget:
        return Budget(None) if self.origin is None else self.origin.budget

    @cached_property
    def profile(self) -> IsolatedProfile:
        return IsolatedSQLite() if self.url.dialect == "sqlite" else IsolatedPostgreSQL()
