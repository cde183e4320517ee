"""All that the node may say when something is wrong, read from its sources."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

from tests.helpers.import_graph import imports_of_ours, modules_of
from tests.helpers.paths import ROOT

VERDICTS = {
    "lemumo_core.streaming.health": ("verdict", "_companion_state"),
    "lemumo_ros.topic_diagnosis": ("diagnose_topic",),
}
"""Module to the functions that return the messages of ``/diagnostics``."""
LEAST_LETTERS = 8
"""Shorter parts of a message, between its values, identify nothing."""


@functools.cache
def modules_of_node() -> dict[str, ast.Module]:
    """Syntax trees of the modules that the node imports, by name; not those that read bags."""
    paths, graph = modules_of(ROOT), imports_of_ours(ROOT)
    # Runtimes are imported by name, when one is chosen.
    runtimes = [name for name in paths if name.startswith("lemumo_core.inference.")]
    found: set[str] = set()
    waiting = ["lemumo_ros.node", *runtimes]
    while waiting:
        name = waiting.pop()
        if name not in found and not name.startswith(("lemumo_core.bags", "lemumo_core.train")):
            found.add(name)
            waiting += graph.get(name, ())
    return {name: ast.parse(paths[name].read_text()) for name in sorted(found)}


def reasons() -> set[str]:
    """Names under which the node counts faults and drops."""
    found = {word for tree in modules_of_node().values() for word in _reasons_of(tree)}
    matcher = modules_of_node()["lemumo_core.streaming.sync"]
    (add_image,) = (n for n in ast.walk(matcher) if getattr(n, "name", "") == "add_image")
    returned = [node.value for node in ast.walk(add_image) if isinstance(node, ast.Return)]
    return found | {value.value for value in returned if getattr(value, "value", None)}


def _reasons_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).split(".")[-1]
            if called in ("Fault", "count_drop", "_refuse"):
                yield from _constants(node.args[0])
        elif isinstance(node, ast.Assign) and "reason" in ast.unparse(node.targets[0]):
            yield from _constants(node.value)


def _constants(node: ast.expr) -> Iterator[str]:
    """Words of an expression that are the reason, whichever branch is taken."""
    if isinstance(node, ast.IfExp):
        yield from _constants(node.body)
        yield from _constants(node.orelse)
    elif isinstance(node, ast.Tuple):
        yield from _constants(node.elts[0])
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def verdict_parts() -> set[str]:
    """Parts of the messages of ``/diagnostics`` between the values that they name."""
    found = set()
    for module, functions in VERDICTS.items():
        tree = modules_of_node()[module]
        chosen = [n for n in ast.walk(tree) if getattr(n, "name", "") in functions]
        for function in chosen:
            body = function.body[1:]  # without the docstring
            for statement in body:
                found |= {part for part in _texts(statement) if len(part) >= LEAST_LETTERS}
    return found


def _texts(statement: ast.AST) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (line.strip(" ,;:()") for line in node.value.split("\n"))
