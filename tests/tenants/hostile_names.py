"""Schema names that somebody might think of to do harm, or without thinking."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

_WORDS: Final = [
    *("select", "user", "table", "public", "default", "order", "None", "null", "true", "_none"),
    *("pg_catalog", "pg_temp", "pg_toast", "pg_tenant", "PG_CATALOG", "information_schema"),
    *("$user", '"$user"', "a.b", '"a"."b"', "public.houses", "a,b", "a b", " ", "  a  ", ""),
    *("%s", "%(x)s", "%%", "%", ":p", ":name", "::int", "$1", "$1::VARCHAR", "?", "{}", "{0}"),
    *("__[SCHEMA_x]", "__[SCHEMA__none]", "[SCHEMA_x]", "__[POSTCOMPILE_param_1]", "[x]", "]", "["),
    *("__EXECMANY_TOKEN__", "_IMV_VALUES_COUNTER", "(p0)", "($1::VARCHAR)", "\\", "\\'", "\\0"),
    *('"', '""', '"""', "'", "''", "a'b", 'a"b', 'a"; DROP SCHEMA public CASCADE; --', "--", "/*"),
    *("'; DROP TABLE public.houses; --", ";", "x'; SELECT 1; --", "$$", "$a$", "E'a'", 'U&"d"'),
    *("A", "a", "aA", "Tenant", "TENANT", "tenant", "ä", "Ä", "ß", "İ", "ı", "ﬁ", "é", "e\u0301"),
    *("a" * 62, "a" * 63, "a" * 64, "b" * 63, "ä" * 31, "ä" * 31 + "b", "ä" * 32, "😀" * 15),
    *("😀" * 15 + "abc", "😀" * 16, "א" * 31 + "a", "\u202eevil", "\u200b", "a\u200bb", "\ufeff"),
    *("\0", "a\0b", "\n", "a\nb", "\r\n", "\t", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u00a0"),
    *("\ud800", "a\udfff", "1", "1a", "0x1", "-1", "1e5", "a-b", "a/b", "../a", "a@b", "é" * 31),
]
_PIECES: Final = [
    *('"', "'", ".", "%", "%s", ":x", "$", "$1", "[", "]", "__[", "SCHEMA_", "--", ";", "\\", " "),
    *("a", "B", "ß", "ø", "א", "😀", "\u202e", "pg_", "select", "(", ")", ",", "/*", "{", "}", "="),
]


def hostile_names(number: int) -> Iterator[str]:
    """So many different ones, always the same."""
    dice = random.Random(2026)
    seen: set[str] = set()
    for name in _WORDS:
        if name not in seen:
            seen.add(name)
            yield name
    while len(seen) < number:
        name = "".join(dice.choices(_PIECES, k=dice.randrange(1, 24)))
        if name not in seen:
            seen.add(name)
            yield name
