# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the tables in docs/layouts.md from the table of layouts, so that the documentation matches the code.

generate_layout_table.py            writes them
generate_layout_table.py --check    fails if they are outdated
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tree import ROOT

sys.path.insert(0, str(ROOT / "playbooks/collections"))

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.chromium import CACHES, LOCKS
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import Layout, no_lock
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import LAYOUTS

PAGE = ROOT / "docs/layouts.md"
BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->\n"
BROWSER_LOCKS = "[of browsers](#locks-of-browsers)"
BROWSER_CACHES = "[of browsers](#caches-of-browsers)"


def main(arguments: list[str], page: Path = PAGE) -> int:
    held = page.read_text(encoding="utf-8")
    wanted = with_tables(held, LAYOUTS.values())
    if held == wanted:
        return 0
    if arguments == ["--check"]:
        print(f"{page.name}:1: does not match the table of layouts: run `make readmes`")
        return 1
    page.write_text(wanted, encoding="utf-8")
    print(f"{page.name}: written")
    return 0


def with_tables(text: str, layouts: Iterable[Layout]) -> str:
    before, found, rest = text.partition(BEGIN)
    ended, after = rest.partition(END)[1:]
    if not found or not ended:
        raise SystemExit(f"the page has no markers for the tables: add {BEGIN.strip()} and {END.strip()}")
    return before + found + "\n" + "\n".join(lines(tuple(layouts))) + "\n\n" + END + after


def lines(layouts: tuple[Layout, ...]) -> Iterator[str]:
    yield "| layout | library | accounts | states | copied with accounts | default directories |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for layout in layouts:
        yield row(
            f"`{layout.name}`", layout.title, accounts(layout), ", ".join(layout.states), beside(layout), legacy(layout)
        )
    yield ""
    yield "| layout | locks | never copied | caches | SQLite | plain count | stop settings of the unit |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for layout in layouts:
        yield row(
            f"`{layout.name}`",
            "none" if layout.lock_of is no_lock else BROWSER_LOCKS if layout.locks == LOCKS else names(layout.locks),
            names(name for name in layout.volatile if name not in layout.locks),
            BROWSER_CACHES if layout.caches == CACHES else names(layout.caches),
            names(layout.databases),
            f"{names(layout.counted)}, {layout.count_depth} levels",
            stop(layout),
        )
    yield ""
    yield f"## Locks of browsers\n\n{names(LOCKS)}; their states are `live`, `stale`, `foreign` and `damaged`."
    yield ""
    yield f"## Caches of browsers\n\n{names(CACHES)}."


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def names(found: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in found) or "none"


def accounts(layout: Layout) -> str:
    called = "any name" if layout.names == ("*",) else names(layout.names)
    depth = f", up to {layout.depth} levels down" if layout.depth > 1 else ""
    folders = f"; below {names(layout.folders)} if present" if layout.folders else ""
    folders += f", and {names(layout.direct)}" if layout.direct else ""
    return f"directories of {called}{depth}{folders}" if called == "any name" else f"{called}{depth}{folders}"


def beside(layout: Layout) -> str:
    places = [f"{folder}/NAME" for folder in layout.folders] or [f"{layout.prefix}NAME"]
    parts = dict.fromkeys(part for place in places for part in layout.sidecars_of(place))
    travelling = f"all but {names(layout.ignored)}" if layout.companions is None else names(layout.companions)
    return f"{travelling}; with each account {names(parts)}" if parts else travelling


def legacy(layout: Layout) -> str:
    return names(layout.legacy_names) if layout.legacy_names else "none, set the legacy path"


def stop(layout: Layout) -> str:
    mode = f", `KillMode={layout.stop.mode}`" if layout.stop.mode else ""
    return f"{layout.stop.signal}{mode}, at least {layout.stop.timeout} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
