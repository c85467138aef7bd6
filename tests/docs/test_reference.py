"""The reference pages say what the code says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import asgi_dbconn
from asgi_dbconn import Database, DatabaseURL, Queryable, QuerySet, Registry, errors
from asgi_dbconn.databases.transactions import Transaction
from asgi_dbconn.options import DatabaseOptions, OptionArguments
from tests.docs.settings_table import options, own_settings

DOCS = Path(__file__).parents[2] / "docs"


def test_the_options_page_lists_every_option_with_its_default() -> None:
    page = (DOCS / "reference/options.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]*)` \|", page, re.MULTILINE))
    defaults = DatabaseOptions()

    assert rows == {field.name: repr(getattr(defaults, field.name)) for field in fields(defaults)}
    assert rows.keys() == OptionArguments.__annotations__.keys()


def test_the_settings_page_has_every_setting_as_the_code_tells_it() -> None:
    page = (DOCS / "reference/settings.md").read_text()

    assert own_settings() in page
    assert options() in page


def test_the_names_page_lists_every_public_name() -> None:
    page = (DOCS / "reference/public-names.md").read_text()
    for name in set(asgi_dbconn.__all__) - set(errors.__all__) - {"__version__"}:
        if not name.startswith(("Object", "Multiple")):
            assert f"| `{name}` |" in page


@pytest.mark.parametrize(
    ("page", "described"),
    [
        ("registry", Registry),
        ("database", Database),
        ("database", Transaction),
        ("database", DatabaseURL),
        ("queryset", QuerySet),
        ("objects", Queryable),
    ],
)
def test_a_class_has_a_page_that_names_whatever_it_offers(page: str, described: type) -> None:
    text = (DOCS / f"reference/{page}.md").read_text()
    blocks = re.findall(r"```python.*?```", text, re.DOTALL)
    inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    code = " ".join(blocks + inline)

    for name in dir(described):
        if not name.startswith("_") and name != "over":  # which is for a registry to call
            assert re.search(rf"\b{name}\b", code), name


def test_the_errors_page_draws_the_tree_of_the_module() -> None:
    tree = (errors.__doc__ or "").split("\n\n")[1].rstrip()

    assert tree in (DOCS / "reference/errors.md").read_text()
