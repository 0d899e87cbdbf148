"""How vista/ is divided: modules, imports between them, and circles.

Run: ``python benchmarks/structure.py`` in the checkout; it parses vista/ and imports nothing of it.
tests/test_structure.py holds the figures to their limits.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("tasks", "models", "rollouts", "curation", "training", "evaluation", "analysis")

Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Structure:
    """The figures of one package.

    Attributes:
        lines: physical lines of each module, by its dotted name.
        import_statements: imports of the package's own modules, wherever they stand.
        imports: each module with those that it imports at its top level.
        all_imports: the same with imports inside functions and under ``TYPE_CHECKING``.
    """

    lines: dict[str, int]
    import_statements: int
    imports: Graph
    all_imports: Graph

    @property
    def imports_per_1000_lines(self) -> float:
        """Internal import statements per 1,000 lines."""
        return 1000 * self.import_statements / sum(self.lines.values())

    @property
    def longest(self) -> str:
        """The module with the most lines."""
        return max(self.lines, key=self.lines.__getitem__)

    def module_circles(self) -> list[list[str]]:
        """Modules that import each other at their top level, directly or not."""
        return circles(self.imports)

    def package_circles(self) -> list[list[str]]:
        """First-level packages that import each other; a module directly in vista/ counts as one."""
        return circles(by_part(self.imports))

    def stage_arrows(self) -> list[tuple[str, str]]:
        """Modules of one stage with the modules of another stage that they import, wherever in them."""
        return sorted(
            (module, other)
            for module, others in self.all_imports.items()
            for other in others
            if part(module) != part(other) and {part(module), part(other)} <= set(STAGES)
        )


def measure(package: Path = ROOT / "vista") -> Structure:
    """Parse every module of a package."""
    files = {name_of(path, package): path for path in sorted(package.rglob("*.py"))}
    lines, imports, all_imports, statements = {}, {}, {}, 0
    for module, path in files.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        nodes = [node for node in ast.walk(tree) if is_internal(node, package.name)]
        lines[module] = len(text.splitlines())
        statements += len(nodes)
        all_imports[module] = targets(nodes, files) - {module}
        at_top = [node for node in top_level(tree) if is_internal(node, package.name)]
        imports[module] = targets(at_top, files) - {module}
    return Structure(lines, statements, imports, all_imports)


def name_of(path: Path, package: Path) -> str:
    """The dotted name of a file of a package; a package's ``__init__`` has the package's name."""
    parts = [*path.relative_to(package.parent).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_internal(node: ast.AST, package: str) -> bool:
    """Whether a node is a statement that imports something of the package."""
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] == package for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (
        node.level > 0 or (node.module or "").split(".")[0] == package
    )


def top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """The statements that run when a module is imported: none in functions or under ``TYPE_CHECKING``."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)


def targets(nodes: list[ast.AST], modules: dict[str, Path]) -> set[str]:
    """The modules that import statements name: ``from a import b`` is ``a.b`` where that is a module."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in modules}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                found |= {name for name in [below if below in modules else node.module] if name in modules}
    return found


def part(module: str) -> str:
    """The first-level package that a module is in: ``vista.engines.hf`` is in ``engines``."""
    return module.split(".")[1] if "." in module else module


def by_part(graph: Graph) -> Graph:
    """The graph of first-level packages."""
    whole: Graph = {}
    for module, others in graph.items():
        whole.setdefault(part(module), set()).update({part(other) for other in others} - {part(module)})
    return whole


def circles(graph: Graph) -> list[list[str]]:
    """The strongly connected components of more than one node, largest first."""
    reach = {node: reachable(graph, node) for node in graph}
    found = {frozenset({node, *(other for other in reach[node] if node in reach[other])}) for node in graph}
    return sorted((sorted(each) for each in found if len(each) > 1), key=lambda each: (-len(each), each))


def reachable(graph: Graph, start: str) -> set[str]:
    """Every node that arrows lead to from a node."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for other in graph.get(waiting.pop(), set()) - seen:
            seen.add(other)
            waiting.append(other)
    return seen


def main() -> None:
    found = measure()
    total = sum(found.lines.values())
    rows = [
        ("modules", f"{len(found.lines)}"),
        ("lines", f"{total:,}"),
        ("lines per module, mean", f"{total / len(found.lines):.0f}"),
        ("lines per module, most", f"{found.lines[found.longest]} ({found.longest})"),
        ("internal imports", f"{found.import_statements}"),
        ("internal imports per 1,000 lines", f"{found.imports_per_1000_lines:.1f}"),
        ("circles between modules", f"{len(found.module_circles())}"),
        ("circles between packages", f"{len(found.package_circles())}"),
        ("imports between stages", f"{len(found.stage_arrows())}"),
    ]
    for name, value in rows:
        print(f"{name:34}{value}")
    for circle in [*found.module_circles(), *found.package_circles()]:
        print("circle:", ", ".join(circle))
    for module, other in found.stage_arrows():
        print(f"between stages: {module} imports {other}")


if __name__ == "__main__":
    main()
