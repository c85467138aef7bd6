"""The language of the code in figures: names, loop variables, docstrings, sizes, words of the docs.

``python -m tests.architecture.vocabulary`` prints them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

from tests.architecture.layers import ROOT, Module, modules

QUESTION = re.compile(r"(?:What|Which|Where|When|Whether|Who|Whoever|Whatever|Why|How)\b")
PARTICIPLE = re.compile(r"\w+(?:ed|ing)$")
IRREGULAR = {"begun", "broken", "brought", "found", "given", "gone", "held", "hidden", "kept"} | {
    *("known", "left", "lost", "made", "said", "seen", "sent", "shown", "taken", "told", "written")
}
NO_PARTICIPLES = {"need", "ping", "string"}
"""Words that only end like one."""
EMPTY_NAMES = {"each", "item", "elem", "x", "it", "one", "thing"}
PLACEHOLDERS = {"_", "i"}


SYNONYMS = {"attrs": "attribute", "objects": "instance"}


def is_participle(name: str) -> bool:
    """Return whether the first word of ``name`` is a participle or a gerund."""
    first = name.strip("_").split("_")[0]
    if first in NO_PARTICIPLES:
        return False
    return first in IRREGULAR or PARTICIPLE.match(first) is not None


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def loops(tree: ast.Module) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield the target and the iterable of every loop and comprehension."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            yield node.target, node.iter


def loop_variables(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for target, _ in loops(tree):
        for name in ast.walk(target):
            if isinstance(name, ast.Name):
                yield name.id, name.lineno


def plural_loops(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the variable and the iterated name, where that is a plural and the variable is one."""
    for target, iterable in loops(tree):
        name = _last_name(iterable)
        if isinstance(target, ast.Name) and target.id not in PLACEHOLDERS and is_plural(name):
            yield target.id, name


def is_plural(name: str) -> bool:
    return len(name) > 3 and name.endswith("s") and not name.endswith(("ss", "us", "is"))


def is_singular_of(variable: str, plural: str) -> bool:
    """Return whether ``variable`` is the singular of the last word of ``plural``, or holds it.

    SQLAlchemy's ``attrs`` are attributes, and an object of a mapped class is an instance.
    """
    noun = plural.strip("_").lower().split("_")[-1]
    singulars = {
        SYNONYMS.get(noun, noun),
        noun.removesuffix("s"),
        noun.removesuffix("es"),
        f"{noun.removesuffix('ies')}y",
    }
    return bool(singulars & set(variable.lower().split("_")))


def docstrings(tree: ast.Module) -> Iterator[str]:
    """Yield those of the module, its classes and functions, and those below attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield text


def names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield every name that the module defines: classes, functions, variables, attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno
            case ast.arg():
                yield node.arg, node.lineno


def prose(path: Path) -> str:
    """Return the text of a page without code and without the targets of links."""
    text = re.sub(r"```.*?```", " ", path.read_text(), flags=re.DOTALL)
    return re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", " ", text)


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return node.attr
        case ast.Call(func=ast.Name(id="list" | "sorted" | "reversed" | "tuple"), args=[inner, *_]):
            return _last_name(inner)
    return ""


def figures(found: list[Module], pages: list[Path]) -> dict[str, str]:
    trees = [module.tree for module in found]
    variables = [name for tree in trees for name, _ in loop_variables(tree)]
    plurals = [pair for tree in trees for pair in plural_loops(tree)]
    defined = [node.name for tree in trees for node in functions(tree)]
    written = [text for tree in trees for text in docstrings(tree)]
    sizes = [len(module.path.read_text().splitlines()) for module in found]
    words = " ".join(prose(page) for page in pages)
    thousands = len(re.findall(r"\w+", words)) / 1000
    return {
        "modules": f"{len(found)}, median {median(sizes):.0f} lines",
        "loop variables without a noun": f"{sum(name in EMPTY_NAMES for name in variables)} of "
        f"{len(variables)}",
        "singular over a plural": _share(is_singular_of(*pair) for pair in plurals),
        "functions named by a participle": _share(map(is_participle, defined)),
        "modules named by one": _share(is_participle(module.path.stem) for module in found),
        "docstrings that begin with a question": _share(map(bool, map(QUESTION.match, written))),
        "you, per 1,000 words of docs": _rate(r"\b(?:you|your|yours)\b", words, thousands),
        "what/which/whatever": _rate(r"\b(?:what|which|whatever)\b", words, thousands),
        "semicolons": _rate(";", words, thousands),
    }


def _share(found: Iterable[bool]) -> str:
    every = list(found)
    return f"{sum(every)} of {len(every)} ({100 * sum(every) / len(every):.1f} %)"


def _rate(pattern: str, words: str, thousands: float) -> str:
    return f"{len(re.findall(pattern, words, re.IGNORECASE)) / thousands:.1f}"


if __name__ == "__main__":
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for figure, value in figures(modules(), pages).items():
        print(f"{figure}: {value}")
