"""The lifespan checks: the right behaviour of a wrapper around an ASGI application, as callables.

    from asgi_dbconn.testing.conformance import CHECKS, run

    for check in CHECKS:
        outcome = run(check, my_wrapper)

A wrapper is a function ``(app, lifetime, *, handle_lifespan=False) -> ASGI application``, where
``lifetime`` is an async context manager that has to be open exactly as long as ``app`` runs.
The numbers are stable. The missing ones need real servers, frameworks or databases.
"""

from __future__ import annotations

from asgi_dbconn.testing.conformance import (
    app_failures,
    app_without_lifespan,
    cancellation,
    connect_failures,
    event_order,
    invocation,
)
from asgi_dbconn.testing.conformance.check import Check, Outcome, Wrapper, run

__all__ = ["CHECKS", "Check", "Outcome", "Wrapper", "run"]

CHECKS: tuple[Check, ...] = tuple(
    sorted(
        (
            *event_order.CHECKS,
            *connect_failures.CHECKS,
            *app_failures.CHECKS,
            *app_without_lifespan.CHECKS,
            *cancellation.CHECKS,
            *invocation.CHECKS,
        ),
        key=lambda check: check.number,
    )
)
