"""``python -m asgi_dbconn.demo``."""

from __future__ import annotations

from argparse import ArgumentParser

from asgi_dbconn.demo.server import serve

parser = ArgumentParser(
    prog="python -m asgi_dbconn.demo", description="Serve a small notes application."
)
parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
arguments = parser.parse_args()
serve(arguments.host, arguments.port)
