"""The ASGI lifespan: a context that is open from before an application starts until it stopped."""
