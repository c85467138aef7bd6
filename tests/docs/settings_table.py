"""The tables of `docs/reference/settings.md`, made from the code.

`python -m tests.docs.settings_table` prints them.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from asgi_dbconn.options import DatabaseOptions
from asgi_dbconn.settings import Settings
from asgi_dbconn.settings_variables import variables_of

_HEAD = "| setting | variable | default | what it is |\n|---|---|---|---|\n"


def own_settings() -> str:
    options = {field.name for field in fields(DatabaseOptions)}
    return _table(Settings, [name for name in Settings.model_fields if name not in options])


def options() -> str:
    return _table(DatabaseOptions, [field.name for field in fields(DatabaseOptions)])


def _table(told_by: type[Any], names: list[str]) -> str:
    told = dict(_told(told_by))
    return _HEAD + "".join(f"{_row(name, told[name])}\n" for name in names)


def _row(name: str, told: str) -> str:
    variables = ", ".join(f"`{variable}`" for variable in variables_of(Settings, name))
    default = Settings.model_fields[name].get_default(call_default_factory=True, validated_data={})
    shown = str(default) if not isinstance(default, str | tuple | dict | None) else repr(default)
    return f"| `{name}` | {variables} | `{shown}` | {told} |"


def _told(owner: type[Any]) -> Iterator[tuple[str, str]]:
    """The sentences that stand below each field of a class."""
    body = ast.parse(inspect.getsource(owner)).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            sentences = inspect.cleandoc(ast.literal_eval(below.value))
            yield ast.unparse(field.target), " ".join(sentences.replace("``", "`").split())


if __name__ == "__main__":
    print(own_settings(), options(), sep="\n")
