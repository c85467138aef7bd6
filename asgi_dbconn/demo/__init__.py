"""The demo: a small application for notes, served by `asgi-dbconn demo`."""
