# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the list of all pages in docs/README.md from their titles, so that no page is missing there.

generate_docs_index.py            writes it
generate_docs_index.py --check    fails if it is outdated
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tree import ROOT

BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->\n"


def main(arguments: list[str], folder: Path = ROOT / "docs") -> int:
    index = folder / "README.md"
    held = index.read_text(encoding="utf-8")
    before, _begin, rest = held.partition(BEGIN)
    after = rest.partition(END)[2]
    wanted = f"{before}{BEGIN}\n" + "\n".join(lines(folder)) + f"\n\n{END}{after}"
    if held == wanted:
        return 0
    if arguments == ["--check"]:
        print("docs/README.md:1: does not list the pages of docs: run `make readmes`")
        return 1
    index.write_text(wanted, encoding="utf-8")
    print("docs/README.md: written")
    return 0


def lines(folder: Path) -> Iterator[str]:
    for page in sorted(folder.glob("*.md")):
        if page.name != "README.md":
            yield f"- [{title(page)}]({page.name})"


def title(page: Path) -> str:
    """Return the first heading of a page."""
    headings = (line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
    return next(headings).removeprefix("# ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
