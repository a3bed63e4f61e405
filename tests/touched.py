"""What our code touches of TensorRT's Python API, read from its source.

The code names the types of what it holds: `builder: rt.Builder`, `self._context:
rt.IExecutionContext`; `rtx.` where it is of TensorRT-RTX alone. The walk follows these, the module
itself (`trt`, `self._trt`) and names that were assigned from either. What it could not follow, an
attribute of an unnamed result, is an error: nothing drops out unseen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

MODULES = {"trt": "rt", "rtx_module": "rtx"}
"""Names that hold the module, and the prefix of what is touched through them."""

Place = tuple[str, ...]
"""`("rt", "Builder", "create_network")`."""
_UNNAMED: Place = ("?",)


class UnfollowedError(Exception):
    """The code holds something of TensorRT under a name without a type."""


def touched(*sources: Path) -> set[Place]:
    found: set[Place] = set()
    for source in sources:
        walk = _Walk(source.name)
        walk.visit(ast.parse(source.read_text(encoding="utf-8")))
        found |= walk.found
    return found


def missing(places: set[Place], names: dict[str, list[str]]) -> list[str]:
    """Those of the places that a surface (`scripts/tensorrt_surface.py`) does not have."""
    return sorted(
        ".".join(place[1:]) for place in places
        if place[-1] not in names.get(".".join(place[1:-1]), ())
    )  # fmt: skip


class _Walk(ast.NodeVisitor):
    def __init__(self, file: str) -> None:
        self.file = file
        self.found: set[Place] = set()
        self.scopes: list[dict[str, Place]] = [{}]
        self.own: dict[str, Place] = {}

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        bases = [place for base in node.bases if (place := self.place(base))]
        for place in bases:
            # What overrides a method of the library must be one there.
            self.found |= {place} | {(*place, name) for name in _public_methods(node)}
        before, self.own = self.own, dict(_typed_attributes(node))
        self.generic_visit(node)
        self.own = before

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.scopes.append({})
        for argument in (*node.args.args, *node.args.kwonlyargs):
            self.name(argument.arg, argument.annotation)
        self.generic_visit(node)
        self.scopes.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.name(node.target.id, node.annotation)
            place = self.place(node.value) if node.value else None
            if place and _typed(node.annotation) is None:
                self.scopes[-1][node.target.id] = place
        if node.value:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id not in MODULES:
            place = self.place(node.value)
            if isinstance(node.value, ast.Call) and self.place(node.value.func):
                place = self.scopes[-1].get(target.id, _UNNAMED)
            if place:
                self.scopes[-1][target.id] = place
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Call) and self.place(node.value.func):
            self.fail(node)
        place = self.place(node)
        if place is not None and len(place) > 1 and not place[-1].startswith("__"):
            self.found.add(place)
        self.generic_visit(node)

    def name(self, name: str, annotation: ast.expr | None) -> None:
        place = _typed(annotation)
        if place:
            self.scopes[-1][name] = place
            self.found.add(place)

    def place(self, node: ast.expr) -> Place | None:
        """Where in the API an expression stands, if it does."""
        if isinstance(node, ast.Name):
            if node.id in MODULES:
                return (MODULES[node.id],)
            for scope in reversed(self.scopes):
                if node.id in scope:
                    return scope[node.id]
            return None
        if not isinstance(node, ast.Attribute):
            return None
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return ("rt",) if node.attr == "_trt" else self.own.get(node.attr)
        before = self.place(node.value)
        if before == _UNNAMED:
            self.fail(node)
        return None if before is None else (*before, node.attr)

    def fail(self, node: ast.expr) -> None:
        raise UnfollowedError(f"{self.file}:{node.lineno}: name the type of {ast.unparse(node)}")


def _typed(annotation: ast.expr | None) -> Place | None:
    for part in ast.walk(annotation) if annotation is not None else ():
        if not isinstance(part, ast.Attribute) or not isinstance(part.value, ast.Name):
            continue
        if part.value.id in MODULES.values():
            return part.value.id, part.attr
    return None


def _typed_attributes(node: ast.ClassDef) -> Iterator[tuple[str, Place]]:
    for part in ast.walk(node):
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Attribute):
            place = _typed(part.annotation)
            if place:
                yield part.target.attr, place


def _public_methods(node: ast.ClassDef) -> list[str]:
    functions = [part for part in node.body if isinstance(part, ast.FunctionDef)]
    return [f.name for f in functions if not f.name.startswith("_") and f.name not in _OURS]


_OURS = {"reason"}
"""Methods that we add to a class of the library."""
