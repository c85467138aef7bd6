"""``python -m asgi_dbconn`` is the command ``asgi-dbconn``."""

from asgi_dbconn.cli.entry import main

main()
