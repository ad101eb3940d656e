# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the benchmarks of backups: ratios within one run first, because figures of different machines cannot be compared."""

from __future__ import annotations

import typing as t

Figures = dict[str, t.Any]

HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- Written by `make bench-backup`; do not edit. -->
# Backups compared with other tools

Only ratios within one table are meaningful: its candidates ran one after the other on one machine, with whatever else was running.
The time of a candidate ends when what it wrote is durable. Each part was measured by itself.
"""

GOALS_OF_UNCHANGED = (("time", "wall", 0.15), ("CPU time", "cpu", 0.15), ("new bytes", "disk", 0.02))
WAYS = {"none": "`none`", "freeze": "`freeze`", "stop": "`stop`"}
GOAL_OF_BLOCKS = 0.2


def page(parts: t.Mapping[str, Figures]) -> str:
    """Return the page with all parts that were measured."""
    return "\n".join([HEAD, *(line for name, part in _PARTS.items() if name in parts for line in part(parts[name]))])


def _unchanged(part: Figures) -> t.Iterator[str]:
    figures = part["figures"]
    own = figures["costs"]["session_backup"]
    yield "## A second snapshot\n"
    yield _measured(part)
    yield (
        f"{figures['files']} files of 200 bytes to 2 KB, 1000 in each account, on ext4, in the page cache; {_medians(figures)} after "
        "the first run of each. `session_backup` includes the start of Python, which is also listed by itself. It reads back what it "
        "copied, and judges each account. restic compresses, encrypts and deduplicates.\n"
    )
    yield "| `session_backup`: second of first | goal | measured | met |"
    yield "| --- | --- | --- | --- |"
    for title, field, goal in GOALS_OF_UNCHANGED:
        ratio = own["unchanged"][field] / own["first"][field]
        yield f"| {title} | at most {goal} | {ratio:.3f} | {_yes(ratio <= goal)} |"
    yield "\n| unchanged accounts | seconds | of its first | times `session_backup` | CPU seconds | MiB |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, costs in figures["costs"].items():
        cost, first = costs["unchanged"], costs["first"]
        of_first, of_own = cost["wall"] / first["wall"], cost["wall"] / own["unchanged"]["wall"]
        yield f"| `{name}` | {cost['wall']:.2f} | {of_first:.2f} | {of_own:.2f} | {cost['cpu']:.2f} | {cost['disk']:.1f} |"
    start = figures["start"]
    yield f"| start of `session_backup` | {start['wall']:.2f} | | | {start['cpu']:.2f} | |"
    for kind, title in (("first", "first run"), ("changed", "one file changed in each account")):
        yield f"\n| {title} | seconds | times `session_backup` | CPU seconds | MiB |"
        yield "| --- | --- | --- | --- | --- |"
        for name, costs in figures["costs"].items():
            cost = costs[kind]
            of_own = cost["wall"] / own[kind]["wall"]
            yield f"| `{name}` | {cost['wall']:.2f} | {of_own:.2f} | {cost['cpu']:.2f} | {cost['disk']:.1f} |"
    yield ""


def _live(part: Figures) -> t.Iterator[str]:
    figures = part["figures"]
    yield "## A backend that writes\n"
    yield _measured(part)
    yield (
        "An account of 200 files. For each message, the backend rewrites 20 of them in place, as Baileys does, one after the other; the "
        f"next message comes 0.15 s later. It was saved {figures['snapshots']} times by each, in turns. *Torn*: a file is empty or half a "
        "file. *Mixed*: all files are whole, but at no moment were they there together. *Skipped*: no quiet moment within 5 s, so nothing "
        "was saved.\n"
    )
    yield "| | whole | torn | mixed | skipped | torn or mixed |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, counts in figures["counts"].items():
        made = max(1, figures["snapshots"] - counts["skipped"])
        share = 100 * (counts["torn"] + counts["mixed"]) / made
        yield f"| `{name}` | {counts['whole']} | {counts['torn']} | {counts['mixed']} | {counts['skipped']} | {share:.0f} % |"
    yield ""


def _held(part: Figures) -> t.Iterator[str]:
    figures = part["figures"]
    yield "## Interruption of the backend\n"
    yield _measured(part)
    yield (
        f"{figures['accounts']} accounts of {figures['files']} files on a host of {figures['suite']} ({', '.join(figures['host'])}). Its "
        f"backend rewrites the credentials and a key of one account after the other; {_medians(figures)}. On control groups of version 1, "
        "`freeze` suspends the processes by signals. A backend that is caught in the middle of a write is frozen again, and all times add "
        "up: one that never pauses may be stopped in less time, but loses its connections. What `stop` takes depends on the backend; this "
        "one ends and starts at once.\n"
    )
    yield "| backend | `quiesce` | seconds of interruption | times `stop` | accounts skipped |"
    yield "| --- | --- | --- | --- | --- |"
    for load, ways in figures["ways"].items():
        for way, found in ways.items():
            ratio = found["seconds"] / ways["stop"]["seconds"] if ways["stop"]["seconds"] else 0.0
            share = 100 * found["skipped"] / (found["skipped"] + found["saved"])
            yield f"| {load} | {WAYS[way]} | {found['seconds']:.3f} | {ratio:.2f} | {share:.0f} % |"
    yield ""


def _blocks(part: Figures) -> t.Iterator[str]:
    figures = part["figures"]
    usual = figures["costs"]["cp"]
    yield "## Shared blocks\n"
    yield _measured(part)
    yield (
        f"A browser profile of {figures['mebibytes']} MiB on XFS; {_medians(figures)}, without the start of Python. Files of 64 KiB "
        f"and more share their blocks. The goal is at most {GOAL_OF_BLOCKS} times `cp -a --reflink=never`. *Fixed* are the seconds "
        "for the same profile without its large files: to look whether a process uses the accounts, and to be safe against a power "
        "failure at each step. They do not grow with the size, so the ratios are worse the faster the disk is. A job uses the CPU "
        "for a part of its seconds only; the rest it waits, on a busy machine for other programs.\n"
    )
    yield "| | seconds | times `cp` | goal met | fixed | CPU seconds | MiB |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for way, cost in figures["costs"].items():
        ratio, fixed = cost["wall"] / usual["wall"], figures["fixed"][way]["wall"]
        met = "" if way == "cp" else _yes(ratio <= GOAL_OF_BLOCKS)
        title = "`cp -a --reflink=never`" if way == "cp" else way
        yield f"| {title} | {cost['wall']:.2f} | {ratio:.2f} | {met} | {fixed:.2f} | {cost['cpu']:.2f} | {cost['disk']:.1f} |"
    yield ""


def _measured(part: Figures) -> str:
    return f"{part['date']}. {part['machine']}; a load of {part['load']:.1f} on average, other programs included.\n"


def _medians(figures: Figures) -> str:
    return f"medians of {figures['runs']} runs" if figures["runs"] > 1 else "one run"


def _yes(met: bool) -> str:
    return "yes" if met else "no"


_PARTS: dict[str, t.Callable[[Figures], t.Iterator[str]]] = {
    "unchanged": _unchanged,
    "live": _live,
    "held": _held,
    "blocks": _blocks,
}
