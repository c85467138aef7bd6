"""The layers of the package, bottom to top, as `docs/explanation/architecture.md` names them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "asgi_dbconn"

# Parts of one layer do not know each other; modules inside one folder may, without a circle.
LAYERS: dict[str, tuple[str, ...]] = {
    "words": ("errors", "types"),
    "values": ("urls", "options", "schema_names", "call_site", "settings_variables"),
    "loops and settings": ("loops", "settings"),
    "lifespan": ("lifespan",),
    "pools": ("pools",),
    "databases": ("databases",),
    "queries": ("orm",),
    "services": ("instance", "health", "migrations"),
    "registry": ("registry",),
    "outward": ("contrib", "demo", "testing"),
    "command": ("cli",),
    "entry points": ("__init__", "__main__"),
}


@dataclass(frozen=True)
class Module:
    path: Path

    @property
    def name(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)

    @property
    def part(self) -> str:
        """The file or folder directly below the package that this module belongs to."""
        return self.name.split(".")[1]

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text())


def modules() -> list[Module]:
    return [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]


def rank(part: str) -> int:
    """Return the number of the layer of `part`. Raises ValueError if it is in none."""
    for number, parts in enumerate(LAYERS.values()):
        if part in parts:
            return number
    raise ValueError(f"{part} is in no layer: add it to LAYERS")


def imports(module: Module) -> Iterator[tuple[str, ast.stmt, bool]]:
    """The package's own modules that `module` imports: name, statement, whether in a function."""
    for statement, deferred in _statements(module.tree, deferred=False):
        if isinstance(statement, ast.ImportFrom):
            if statement.level:
                yield f"relative import in {module.name}", statement, deferred
            elif statement.module and statement.module.split(".")[0] == "asgi_dbconn":
                yield from (
                    (_resolved(statement.module, alias.name), statement, deferred)
                    for alias in statement.names
                )
        elif isinstance(statement, ast.Import):
            yield from (
                (alias.name, statement, deferred)
                for alias in statement.names
                if alias.name.split(".")[0] == "asgi_dbconn"
            )


def _statements(node: ast.AST, *, deferred: bool) -> Iterator[tuple[ast.stmt, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, deferred
        inside = deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from _statements(child, deferred=inside)


def _resolved(module: str, name: str) -> str:
    # `from asgi_dbconn.pools import aborted` names a module; `... import Gate` a thing inside one.
    folder = ROOT.joinpath(*module.split("."))
    is_module = (folder / f"{name}.py").exists() or (folder / name).is_dir()
    return f"{module}.{name}" if is_module else module
