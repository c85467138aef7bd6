"""The private names of Alembic that migrations use: listed, and still there."""

from __future__ import annotations

import pytest
from alembic.script import ScriptDirectory

from tests.architecture.private_names import private_names

# The commands `alembic upgrade`, `downgrade` and `stamp` use the same three.
ALEMBIC = {"_upgrade_revs", "_downgrade_revs", "_stamp_revs"}


def test_no_other_private_name_is_used() -> None:
    assert private_names("migrations") == ALEMBIC


@pytest.mark.parametrize("name", sorted(ALEMBIC))
def test_a_private_name_exists(name: str) -> None:
    assert callable(getattr(ScriptDirectory, name))
