"""Modules of the standard library that Monty lacks: its programs' imports of them, and what they import.

The modules are source texts in Monty's own subset of Python, in the folder `sandbox`. Each becomes a function that
makes a class with the module's names, so that neither they nor the built-in functions that they use are touched by
what a program defines. An import is replaced by an assignment in the same line.
"""

from __future__ import annotations

import ast
import builtins
import re
from functools import lru_cache
from pathlib import Path

# Longer lines, and imports over more of them, are left alone, so that nothing can take long.
MAX_LINE_CHARS = 300
MAX_LINES = 30
_IMPORT = re.compile(r"(\s*)import\s+([\w., ]+?)\s*(#.*|;.*)?")
_FROM = re.compile(r"(\s*)from\s+(\w+)\s+import\s+\(?\s*([\w, ]+|\*)\s*\)?\s*(#.*|;.*)?")
_OPENED = re.compile(r"(\s*from\s+\w+\s+import\s+\()([^)]*)")
_CLAUSE = re.compile(r"\s*([\w.]+)(?:\s+as\s+(\w+))?\s*")


class Library:
    """The modules, by name.

    Attributes:
        preludes: For each module the program that makes it.
        names: For each module what it defines.

    >>> library().resolve("from heapq import heappush as push  # a heap")
    ('push = _heapq_module.heappush  # a heap', ['heapq'])
    """

    def __init__(self, folder: Path) -> None:
        self.preludes: dict[str, str] = {}
        self.names: dict[str, list[str]] = {}
        for path in sorted(folder.glob("[!_]*.py")):
            self._add(path.stem, path.read_text(encoding="utf-8"))
        self._mentioned = re.compile("|".join(self.preludes))

    def _add(self, module: str, source: str) -> None:
        tree = ast.parse(source)
        defined = [name for node in tree.body for name in _defined(node) if not name.startswith("_")]
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        # An interactive Python keeps its last value in builtins._, which no module means.
        held = sorted(name for name in used - {"_"} if hasattr(builtins, name) and name not in defined)
        lines = [
            f"def _make_{module}({', '.join(f'{name}={name}' for name in held)}):",
            *(f"    {line}" for line in source.splitlines()),
            f"    class {module}: pass",
            *(f"    {module}.{name} = {name}" for name in defined),
            f"    return {module}",
            f"_{module}_module = _make_{module}()",
        ]
        self.preludes[module] = "\n".join(lines)
        self.names[module] = defined

    def resolve(self, code: str) -> tuple[str, list[str]]:
        """Return a program with its imports of these modules replaced, and the modules that it imports."""
        if not self._mentioned.search(code):
            return code, []
        modules: dict[str, None] = {}
        lines = code.split("\n")
        for number, line in enumerate(lines):
            if len(line) > MAX_LINE_CHARS or not self._mentioned.search(line):
                continue
            whole, end = _join(lines, number) if _OPENED.fullmatch(line) else (line, number)
            resolved = self._resolve_line(whole, modules)
            if resolved != whole:
                # The lines that follow keep their numbers.
                lines[number : end + 1] = [resolved] + [""] * (end - number)
        return "\n".join(lines), list(modules)

    def _resolve_line(self, line: str, modules: dict[str, None]) -> str:
        statements = []
        match = _IMPORT.fullmatch(line)
        if match:
            for clause in match[2].split(","):
                parts = _CLAUSE.fullmatch(clause)
                if parts is None or parts[1] not in self.preludes:
                    statements.append(f"import {clause.strip()}")
                else:
                    modules[parts[1]] = None
                    statements.append(f"{parts[2] or parts[1]} = _{parts[1]}_module")
            return match[1] + "; ".join(statements) + _rest(match[3])
        match = _FROM.fullmatch(line)
        if match is None or match[2] not in self.preludes:
            return line
        clauses = self.names[match[2]] if match[3] == "*" else match[3].strip(", ").split(",")
        for clause in clauses:
            parts = _CLAUSE.fullmatch(clause)
            if parts is None:
                return line
            statements.append(f"{parts[2] or parts[1]} = _{match[2]}_module.{parts[1]}")
        modules[match[2]] = None
        return match[1] + "; ".join(statements) + _rest(match[4])


@lru_cache(maxsize=1)
def library() -> Library:
    """Return the modules that come with the package.

    >>> sorted(library().preludes)
    ['calendar', 'fractions', 'heapq', 'operator', 'statistics', 'string']
    """
    return Library(Path(__file__).parent / "sandbox")


def _join(lines: list[str], first: int) -> tuple[str, int]:
    """Return an import that goes over several lines in one, and the number of its last line."""
    whole = ""
    for number, line in enumerate(lines[first : first + MAX_LINES], start=first):
        whole += line.partition("#")[0]
        if ")" in line or len(whole) > MAX_LINE_CHARS:
            return whole, number
    return lines[first], first


def _rest(text: str | None) -> str:
    """What follows an import in its line: a comment, or more statements."""
    return "" if text is None else text if text.startswith(";") else f"  {text}"


def _defined(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return [node.name]
        case ast.Assign():
            return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []
