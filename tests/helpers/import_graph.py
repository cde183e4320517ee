"""The imports of our packages, read from their sources."""

from __future__ import annotations

import ast
import functools
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

OURS = ("lemumo_core", "lemumo_ros", "training", "export")


def below(module: str, *parents: str) -> bool:
    """Whether a module is one of the named packages or lies in one."""
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


def modules_of(root: Path) -> dict[str, Path]:
    """All modules of our packages below root, by dotted name."""
    found = {}
    for package in OURS:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def nodes(tree: ast.AST, module_level_only: bool) -> Iterator[ast.AST]:
    """Syntax nodes; on request without function bodies and `if TYPE_CHECKING:` blocks."""
    for child in ast.iter_child_nodes(tree):
        if module_level_only:
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
        yield child
        yield from nodes(child, module_level_only)


def imports(name: str, path: Path, module_level_only: bool = False) -> list[tuple[str, ...]]:
    """List a module's imports, each as its possible names: of `from a import b` a.b and a.

    A module that is named in a call of ``import_module`` counts as well.
    """
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    return _imports(tuple(package), path.read_text(), module_level_only)


@functools.cache
def _imports(package: tuple[str, ...], text: str, module_level_only: bool) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for node in nodes(ast.parse(text), module_level_only):
        if isinstance(node, ast.Import):
            found += [(alias.name,) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*base, *([node.module] if node.module else [])])
            found += [(f"{source}.{alias.name}", source) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found += [(arg.value,) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    return found


def imported_names(name: str, path: Path, module_level_only: bool = False) -> set[str]:
    """All possible names of what one module imports."""
    return {target for names in imports(name, path, module_level_only) for target in names}


def imports_of_ours(root: Path) -> dict[str, set[str]]:
    """The modules of ours that each module imports, wherever in it the import stands."""
    known = modules_of(root)
    graph = {}
    for name, path in known.items():
        chosen = (next((n for n in names if n in known), name) for names in imports(name, path))
        graph[name] = set(chosen) - {name}
    return graph


def circles(graph: Mapping[str, Collection[str]]) -> list[tuple[str, ...]]:
    """Groups of modules that import each other, directly or through others."""
    reachable = {}
    for start in graph:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for target in graph[todo.pop()]:
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        reachable[start] = seen
    groups = {
        tuple(sorted({a} | {b for b in reachable[a] if a in reachable[b]}))
        for a in graph
        if a in reachable[a]
    }
    return sorted(groups)
