# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the table of limits in docs/security.md from plugins/module_utils/_core/limits.py, so that the documentation matches the code.

generate_limits_table.py            writes it
generate_limits_table.py --check    fails if it is outdated
"""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Iterator
from pathlib import Path

from tree import ROOT

PAGE = ROOT / "docs/security.md"
LIMITS = ROOT / "plugins/module_utils/_core/limits.py"
BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->\n"


def main(arguments: list[str], page: Path = PAGE) -> int:
    held = page.read_text(encoding="utf-8")
    before, found, rest = held.partition(BEGIN)
    ended, after = rest.partition(END)[1:]
    if not found or not ended:
        raise SystemExit(f"there is no place for the table: write {BEGIN.strip()} and {END.strip()} where it belongs")
    table = "\n".join(lines(LIMITS.read_text(encoding="utf-8")))
    wanted = f"{before}{found}\n{table}\n\n{END}{after}"
    if held == wanted:
        return 0
    if arguments == ["--check"]:
        print(f"{page.name}:1: is not what the limits say: run `make readmes`")
        return 1
    page.write_text(wanted, encoding="utf-8")
    print(f"{page.name}: written")
    return 0


def lines(source: str) -> Iterator[str]:
    """Yield a row for each limit, described by the comment above it."""
    yield "| limit | value | of what, and why |"
    yield "| --- | --- | --- |"
    comment: list[str] = []
    described = False  # one comment can describe two limits
    for line in source.splitlines():
        if line.startswith("# ---") or not line.strip():
            comment = []
        elif line.startswith("# "):
            comment = [line[2:]] if described else [*comment, line[2:]]
            described = False
        elif " = " in line and comment:
            name, _equals, value = line.partition(" = ")
            yield f"| `{name}` | {shown(name, value)} | {' '.join(comment)} |"
            described = True


def shown(name: str, value: str) -> str:
    for word, unit in (("KIB", "KiB"), ("MIB", "MiB"), ("GIB", "GiB")):
        if value.endswith(f" * {word}"):
            return f"{value.partition(' ')[0]} {unit}"
    number = ast.literal_eval(value) if "*" not in value else math.prod(map(float, value.split("*")))
    return f"{number:,.0f} s" if name.endswith("SECONDS") else f"{number:,.0f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
