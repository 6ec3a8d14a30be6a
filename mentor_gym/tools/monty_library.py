"""Modules of the standard library that Monty lacks: its programs' imports of them, and what they import.

The modules are source texts in Monty's own subset of Python, in the folder `sandbox`. Each becomes a function that
makes a class with the module's names, so that neither they nor the built-in functions that they use are touched by
what a program defines. An import is replaced by an assignment in the same line.

Where a program's imports are is told by `ast`. Monty also runs programs that this Python cannot read (newer
syntax); in those an import is found where a line begins with it.
"""

from __future__ import annotations

import ast
import builtins
import os
import re
import threading
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

# No program that a tool passes on is longer; what is, is not parsed.
MAX_PARSED_CHARS = 10_000
# Longer lines, and imports over more of them, are left alone, so that nothing can take long.
MAX_LINE_CHARS = 300
MAX_LINES = 30
_IMPORT = re.compile(r"(\s*)import\s+([\w., ]+?)\s*(#.*|;.*)?")
_FROM = re.compile(r"(\s*)from\s+(\w+)\s+import\s+\(?\s*([\w, ]+|\*)\s*\)?\s*(#.*|;.*)?")
_OPENED = re.compile(r"(\s*from\s+\w+\s+import\s+\()([^)]*)")
_CLAUSE = re.compile(r"\s*([\w.]+)(?:\s+as\s+(\w+))?\s*")
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
# The filters of warnings, which parsing must change, are the whole process's.
_parsing = threading.Lock()


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
        # The same program is asked for once before it runs, when it runs, and whenever it runs again.
        self._resolved = lru_cache(maxsize=64)(self._resolve)

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
        if "import" not in code or not self._mentioned.search(code):
            return code, []
        resolved, modules = self._resolved(code)
        return resolved, list(modules)

    def _resolve(self, code: str) -> tuple[str, tuple[str, ...]]:
        modules: dict[str, None] = {}
        tree = _parse(code)
        resolved = None if tree is None else self._resolve_tree(code, tree, modules)
        if resolved is None:
            modules.clear()
            resolved = self._resolve_lines(code, modules)
        return resolved, tuple(modules)

    def _resolve_tree(self, code: str, tree: ast.Module, modules: dict[str, None]) -> str | None:
        """Replace the imports of a syntax tree; None when they are not where it says."""
        lines = code.split("\n")
        # From the last to the first, so that places before a replaced one stay right.
        for node in sorted(_imports(tree), key=lambda node: (node.lineno, node.col_offset), reverse=True):
            statements = self._assignments(node, modules)
            if statements is None:
                continue
            first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
            if last >= len(lines):
                return None
            # Columns of a syntax tree count bytes.
            before = lines[first].encode()[: node.col_offset].decode()
            after = lines[last].encode()[node.end_col_offset :].decode()
            if not lines[first].startswith(("import", "from"), len(before)):
                return None
            replaced = before + "; ".join(statements)
            # The lines that follow keep their numbers, and what follows in the last line its place there: it may
            # be a string over more lines.
            if after.lstrip().startswith((";", "\\")):
                joined = [replaced, *[""] * (last - first - 1), after] if last > first else [replaced + after]
                lines[first : last + 1] = " \\\n".join(joined).split("\n")
            else:
                lines[first : last + 1] = [replaced + after] + [""] * (last - first)
        return "\n".join(lines)

    def _assignments(self, node: ast.Import | ast.ImportFrom, modules: dict[str, None]) -> list[str] | None:
        """Return what takes the place of an import; None when it is of none of these modules."""
        if isinstance(node, ast.ImportFrom):
            module = node.module
            if module is None or module not in self.preludes or node.level:
                return None
            modules[module] = None
            if node.names[0].name == "*":
                return [f"{name} = _{module}_module.{name}" for name in self.names[module]]
            return [f"{part.asname or part.name} = _{module}_module.{part.name}" for part in node.names]
        if not any(part.name in self.preludes for part in node.names):
            return None
        statements = []
        for part in node.names:
            if part.name in self.preludes:
                modules[part.name] = None
                statements.append(f"{part.asname or part.name} = _{part.name}_module")
            else:
                statements.append(f"import {part.name}{f' as {part.asname}' if part.asname else ''}")
        return statements

    def _resolve_lines(self, code: str, modules: dict[str, None]) -> str:
        """Replace the imports that are lines of their own."""
        lines = code.split("\n")
        for number, line in enumerate(lines):
            if len(line) > MAX_LINE_CHARS or not self._mentioned.search(line):
                continue
            whole, end = _join(lines, number) if _OPENED.fullmatch(line) else (line, number)
            resolved = self._resolve_line(whole, modules)
            if resolved != whole:
                # The lines that follow keep their numbers.
                lines[number : end + 1] = [resolved] + [""] * (end - number)
        return "\n".join(lines)

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


def _renew_lock() -> None:
    """Run in a forked child: a thread that is not there may have held it."""
    global _parsing
    _parsing = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def _parse(code: str) -> ast.Module | None:
    """Return the syntax tree of a program; None where this Python cannot make it, or counts lines otherwise."""
    if len(code) > MAX_PARSED_CHARS or "\r" in code or "\f" in code:
        return None
    try:
        with _parsing, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Nesting has limits, of brackets, of indentation, of the parser and of the tree: two of the last kinds.
        return None


def _imports(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    """Find the imports without looking into expressions, which hold none."""
    found: list[ast.AST] = [tree]
    for node in found:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        for block in _BLOCKS:
            found += getattr(node, block, ())


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
