"""A small notes application that shows the package at work: what `asgi-dbconn demo` serves."""
