# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the results: a page of tables with the goals first, and a plot."""

from __future__ import annotations

import os
import pathlib
import platform
import statistics
import subprocess
import typing as t

import plot

Figures = dict[str, t.Any]

TITLES = {
    "seed": "the shell recipe: `rsync -a`, `chown -R`",
    "rsync": "`rsync -a` (owner stays)",
    "cp": "`cp -a` (owner stays)",
    "synchronize": "`ansible.posix.synchronize`, `ansible.builtin.file` with `recurse`",
    "native": "`session_migrate`",
    "metadata": "`session_migrate`, `verify: metadata`",
    "by_rsync": "`session_migrate`, `engine: rsync`",
    "rename": "`session_migrate`, `engine: rename` (same filesystem)",
}

HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- Written by `make bench`; do not edit. -->
# Measurements

{date}, in one run of {minutes} minutes. {machine}.

Files of 200 bytes to 2 KB, 1,000 per account, in the layout of Baileys, with valid credentials; owner uid 1500 before and 1501 after.
Source and target are ext4 filesystems with a journal and without access times, in images on loop devices with direct I/O. Each run gets a
new target. The source is in the page cache. Candidates alternate (A B C A B C); each figure is a median. Only ratios within one run are
meaningful, because absolute figures differ between machines.

![Time and interruption by number of files](results.svg)

## Goals

| what | against | goal | measured | met | by CPU time |
| --- | --- | --- | --- | --- | --- |
"""

NOTES = """
How it was measured:

- Every candidate ends with the accounts on disk: `sync --file-system` follows, and is counted, after those that do not ensure this.
- *Interruption* is the time for which the backend has to be stopped, without the time that the unit itself takes to stop and to start. The
  shell recipe copies while the backend runs, and loses or mixes what it writes in the meantime. To be safe, it has to run with the backend
  stopped, so its whole time is the interruption; its `sync` is not counted. For `session_migrate`, it is the sum of all phases between stop
  and start. The module ran without a unit, but as if one was stopped; with a real unit, systemd is reloaded once more (0.1 to 0.2 s).
- *Changed* files were written by a backend at the worst moment: after the last live copy, 0.1 s before the stop ended. The row "staged
  ahead" is the usual case: they were written between `state: staged` and `state: migrated`.
- *Two passes* is the shortest version of the shell recipe: a live `rsync -a` first; then, stopped, `rsync -a --delete`, `chown -R`, `sync`.
- A run without changes and `session_info` are listed without the start of a module (interpreter, imports), which was measured as the same
  module on an empty tree, and including it in parentheses.
- Memory is the maximum sum over all processes (PSS), sampled every 50 ms. CPU counts all processes, without kernel threads.
  Other work is the activity of everything else on the machine, including kernel threads that write to the disk. Above about 0.3 cores, the
  machine was not quiet: two parallel processes then gain little, and new processes (a module, a worker) have to wait. The column "by CPU
  time" is the ratio without these effects.
"""


def machine() -> str:
    """Describe the properties of the machine that affect the figures."""
    cpu = _first(pathlib.Path("/proc/cpuinfo"), "model name") or platform.machine()
    memory = int((_first(pathlib.Path("/proc/meminfo"), "MemTotal") or "0 kB").split()[0]) / 1048576
    rsync = subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    python = platform.python_version()
    kernel = ".".join(platform.release().split(".")[:2])
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores ({cpu}), {memory:.0f} GB of memory, Linux {kernel}, Python {python}, rsync {rsync}"


def write(measured: Figures, folder: pathlib.Path) -> None:
    """Write results.md and results.svg into ``folder``, and print the page."""
    head = HEAD.format(date=measured["date"], minutes=measured["minutes"], machine=measured["machine"])
    sizes = {int(size): figures for size, figures in measured["sizes"].items()}
    page = head + "".join(_goal_rows(sizes, measured["judge"])) + NOTES
    page += "".join(_size_table(size, figures) for size, figures in sizes.items())
    page += _interruption_table(sizes) + _judging_table(measured["judge"])
    (folder / "results.md").write_text(page, encoding="utf-8")
    (folder / "results.svg").write_text(plot.draw(_curves(sizes)), encoding="utf-8")
    print(page)


def _goal_rows(sizes: t.Mapping[int, Figures], judged: t.Sequence[Figures]) -> t.Iterator[str]:
    middle, large = sizes.get(100_000, {}), sizes.get(1_000_000, {})
    against = "the shell recipe (rsync, chown), then sync"
    for what, name, goal in (
        ("migrating 100,000 files, checksummed and durable", "native", 0.7),
        ("the same with `verify: metadata`", "metadata", 0.5),
    ):
        wall, cpu = (
            _ratio(_median(middle, name, "cost", field), _median(middle, "seed", "cost", field))
            for field in ("wall", "cpu")
        )
        yield _goal(what, against, goal, wall, cpu)
    stopped, recipe = _median(middle, "late", "stopped"), _median(middle, "seed", "stopped")
    yield _goal(
        "interruption at 100,000 files, 1 % changed", "the shell recipe, stopped", 0.05, _ratio(stopped, recipe)
    )
    few = _median(large, "late_few", "stopped")
    yield _goal("interruption at 1,000,000 files, as many changed", "at 100,000 files", 10, _ratio(few, stopped))
    for size, figures in ((100_000, middle), (1_000_000, large)):
        wall, cpu = (
            _ratio(
                _difference(_median(figures, "native", f"unchanged{kind}"), _median(figures, "native", f"start{kind}")),
                _median(figures, "rsync", f"unchanged{kind}"),
            )
            for kind in ("", "_cpu")
        )
        yield _goal(f"a run without changes, {size:,} files", "`rsync -a` of the unchanged tree", 0.3, wall, cpu)
    wall, cpu = (
        _ratio(_difference(_over(judged, f"info{kind}"), _over(judged, f"start{kind}")), _over(judged, f"find{kind}"))
        for kind in ("", "_cpu")
    )
    what = "counting and checking 300 accounts of 2,000 files"
    yield _goal(what, "`find -maxdepth 3 -name creds.json`", 0.3, wall, cpu)
    memory = _median(large, "native", "cost", "together") or _median(large, "late_few", "cost", "together")
    yield _goal("peak memory at 1,000,000 files, MB", "-", 100, memory / 1024 if memory else None)


def _goal(what: str, against: str, goal: float, value: float | None, cpu: float | None = None) -> str:
    if value is None:
        return f"| {what} | {against} | at most {goal:g} | not measured, or lost in noise | - | |\n"
    shown = f"{value:.0f}" if goal >= 100 else f"{value:.3f}" if goal < 0.1 else f"{value:.2f}"
    met = "yes" if value <= goal else "**no**"
    return f"| {what} | {against} | at most {goal:g} | {shown} | {met} | {'' if cpu is None else _text(cpu)} |\n"


def _size_table(size: int, figures: Figures) -> str:
    runs = len(next(iter(figures.values())))
    seed = _median(figures, "seed", "cost", "wall")
    lines = [
        f"\n## {size:,} files, medians of {runs}\n",
        "| way | time s | to the recipe | CPU s | memory MB | run without changes s | other work, cores |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, title in TITLES.items():
        if name in figures:
            wall, cpu, memory = (_median(figures, name, "cost", field) for field in ("wall", "cpu", "together"))
            again, start = _median(figures, name, "unchanged"), _median(figures, name, "start")
            unchanged = (
                "" if again is None else f"{again:.2f}" if start is None else f"{again - start:.2f} ({again:.2f})"
            )
            others = statistics.median(run["cost"]["others"] / run["cost"]["wall"] for run in figures[name])
            spread = [run["cost"]["wall"] for run in figures[name]]
            lines.append(
                f"| {title} | {wall:.2f} ({min(spread):.2f} to {max(spread):.2f}) | {_text(_ratio(wall, seed))} | {cpu:.2f} "
                f"| {(memory or 0) / 1024:.0f} | {unchanged} | {others:.1f} |"
            )
    return "\n".join(lines) + "\n"


def _interruption_table(sizes: t.Mapping[int, Figures]) -> str:
    rows = (
        ("the shell recipe, stopped", "seed", "stopped"),
        ("two passes, 1 % changed", "rsync", "two_passes"),
        ("`session_migrate`, 1 % changed", "late", "stopped"),
        ("`session_migrate`, 1,000 files changed", "late_few", "stopped"),
        ("`session_migrate`, 1 % changed, staged ahead", "ahead", "stopped"),
        ("`session_migrate`, `engine: rename`, new owner", "rename", "stopped"),
    )
    head = [f"{size:,} files" for size in sizes]
    lines = [
        "\n## Interruption in seconds, and relative to the shell recipe\n",
        "| way | " + " | ".join(head) + " |",
        "| --- |" + " --- |" * len(head),
    ]
    for title, name, field in rows:
        cells = []
        for figures in sizes.values():
            value, seed = _median(figures, name, field), _median(figures, "seed", "stopped")
            cells.append("" if value is None else f"{value:.2f} ({_text(_ratio(value, seed), 3)})")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "Phases of `session_migrate` in seconds, 1 % changed:", ""]
    names = [name for name in _phases(next(iter(sizes.values()))) if name not in ("stage",)]
    lines += ["| files | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for size, figures in sizes.items():
        phases = _phases(figures)
        lines.append(f"| {size:,} | " + " | ".join(f"{phases.get(name, 0):.3f}" for name in names) + " |")
    return "\n".join(lines) + "\n"


def _phases(figures: Figures) -> dict[str, float]:
    runs = figures.get("late", [])
    return {
        name: statistics.median(run["phases"].get(name, 0) for run in runs)
        for run in runs[:1]
        for name in run["phases"]
    }


def _judging_table(judged: t.Sequence[Figures]) -> str:
    if not judged:
        return ""
    info, start, found = (_over(judged, name) or 0 for name in ("info", "start", "find"))
    lines = [
        f"\n## Counting and checking 300 accounts of 2,000 files, medians of {len(judged)}\n",
        "| way | time s |",
        "| --- | --- |",
        f"| `find -maxdepth 3 -name creds.json`, counted | {found:.3f} |",
        f"| `session_info` | {info - start:.3f} ({info:.3f}) |",
    ]
    return "\n".join(lines) + "\n"


def _curves(sizes: t.Mapping[int, Figures]) -> list[plot.Chart]:
    def curve(name: str, *way: str) -> list[tuple[int, float]]:
        points = ((size, _median(figures, name, *way)) for size, figures in sizes.items())
        return [(size, value) for size, value in points if value]

    totals = {
        "synchronize + file": curve("synchronize", "cost", "wall"),
        "recipe (rsync, chown)": curve("seed", "cost", "wall"),
        "cp -a": curve("cp", "cost", "wall"),
        "session_migrate": curve("native", "cost", "wall"),
        "rename engine": curve("rename", "cost", "wall"),
    }
    stopped = {
        "recipe, stopped": curve("seed", "stopped"),
        "two passes": curve("rsync", "two_passes"),
        "session_migrate": curve("late", "stopped"),
    }
    return [plot.Chart("Durable copy, seconds", totals), plot.Chart("Interruption with 1 % changed, seconds", stopped)]


def _median(figures: Figures, name: str, *way: str) -> float | None:
    values = []
    for run in figures.get(name, []):
        value = run
        for part in way:
            value = value.get(part) if value is not None else None
        if value is not None:
            values.append(value)
    return statistics.median(values) if values else None


def _over(judged: t.Sequence[Figures], name: str) -> float | None:
    return statistics.median(run[name] for run in judged) if judged else None


def _difference(one: float | None, other: float | None) -> float | None:
    """Return the difference to the start of a module; None if it is negative, because the machine was too busy."""
    return None if one is None or other is None or one <= other else one - other


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _text(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _first(path: pathlib.Path, word: str) -> str:
    with path.open(encoding="utf-8") as lines:
        return next((line.partition(":")[2].strip() for line in lines if line.startswith(word)), "")
