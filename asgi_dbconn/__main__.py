"""The command ``asgi-dbconn``, as ``python -m asgi_dbconn``."""

from asgi_dbconn.cli.entry import main

main()
