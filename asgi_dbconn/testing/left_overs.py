"""Test databases that were not dropped, because the process that made them was killed."""

from __future__ import annotations

from typing import Unpack

from sqlalchemy.engine import URL

from asgi_dbconn.errors import UnsupportedURL
from asgi_dbconn.options import OptionArguments, hide_password
from asgi_dbconn.testing.database import home_of
from asgi_dbconn.urls import MASK, DatabaseURL, parse_url

__all__ = ["drop_left_overs"]


async def drop_left_overs(
    url: str | URL | DatabaseURL, *, older_than: float = 3600.0, **options: Unpack[OptionArguments]
) -> list[str]:
    """Drop unused databases that ``TestDatabase`` made on the server of ``url``; return the names.

    That is what bears its mark, was made ``older_than`` seconds ago or earlier, and has no
    connection. On SQLite it is what lies in the folder for temporary files, used or not.
    """
    parsed, url = parse_url(url), MASK
    options = hide_password(options)
    if isinstance(parsed, UnsupportedURL):
        raise parsed
    return await home_of(parsed, options).remove_old(older_than)
