"""The command ``asgi-dbconn``: what a person does around an application."""
