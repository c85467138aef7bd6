"""The picture of the layers in the docs, drawn from the imports of the package.

``python -m tests.architecture.picture`` prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set

from tests.architecture.layers import LAYERS, Module, imports, modules

__all__ = ["draw"]

Graph = Mapping[str, Set[str]]


def draw(modules: Iterable[Module]) -> str:
    """Return a Mermaid diagram: an arrow for each import that no other arrows lead to."""
    lines = ["```mermaid", "flowchart TD"]
    for name, parts in reversed(LAYERS.items()):
        lines.append(f'    subgraph "{name}"')
        lines += [f"        {_node(part)}[{part}]" for part in parts]
        lines.append("    end")
    graph = _graph(modules)
    for part in sorted(graph):
        lines += [
            f"    {_node(part)} --> {_node(target)}" for target in sorted(_reduce(graph, part))
        ]
    return "\n".join([*lines, "```"])


def _node(part: str) -> str:
    return part.strip("_")


def _graph(modules: Iterable[Module]) -> Graph:
    """Return the parts of the package, and what each of them imports."""
    graph: dict[str, set[str]] = {part: set() for parts in LAYERS.values() for part in parts}
    for module in modules:
        targets = {name.split(".")[1] for name, *_ in imports(module)}
        graph[module.part] |= targets - {module.part}
    return graph


def _reduce(graph: Graph, part: str) -> Iterator[str]:
    """Yield the direct imports of ``part`` that are not imported by way of another one."""
    for target in graph[part]:
        others = graph[part] - {target}
        if not any(target in _below(graph, other) for other in others):
            yield target


def _below(graph: Graph, part: str) -> set[str]:
    found: set[str] = set()
    for target in graph[part]:
        found |= {target} | _below(graph, target)
    return found


if __name__ == "__main__":
    print(draw(modules()))
