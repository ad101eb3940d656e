# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the size of modules: documentation, argument spec and one call; the implementation belongs in module_utils."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from pathlib import Path

from tree import ROOT, files

LIMIT = 120
DOCUMENTATION = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(source: str) -> int:
    """Count lines of code: not blank, not only a comment, not documentation."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - documentation_lines(source))


def documentation_lines(source: str) -> set[int]:
    lines: set[int] = set()
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and names(statement) & DOCUMENTATION:
            lines.update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    return lines


def names(statement: ast.Assign) -> set[str]:
    return {target.id for target in statement.targets if isinstance(target, ast.Name)}


def main() -> int:
    sizes: dict[Path, int] = {
        path: code_lines((ROOT / path).read_text(encoding="utf-8")) for path in files("plugins/modules/*.py")
    }
    too_long = {path: size for path, size in sizes.items() if size > LIMIT}
    for path, size in too_long.items():
        print(f"{path}:1: {size} lines of code, at most {LIMIT}: move the work to module_utils")
    return len(too_long)


if __name__ == "__main__":
    sys.exit(bool(main()))
