"""The command ``asgi-dbconn``: check, shell, migrations and demo on the command line."""
