# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the results of fleet.py: a page of tables with the goals first."""

from __future__ import annotations

import pathlib
import statistics
import typing as t

Figures = dict[str, t.Any]

TITLES = {
    "by_hand": "written by hand",
    "persist": "`persist`",
    "ping": "a single `ping`",
}
KINDS = {
    "first": "First run",
    "no_change": "Nothing to do",
    "reconnected": "Nothing to do, with new connections",
}
# Goals: how many times faster for each kind, and CPU seconds of the controller for each host.
FASTER = {"no_change": 8.0, "first": 2.0}
CONTROLLER = 0.1

HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- Written by `make bench-fleet`; do not edit. -->
# Measurements with a fleet

{date}, in one run of {minutes} minutes. {machine}.

`by_hand.yml` is the shell recipe as a careful author writes it with Ansible's own modules alone. It is tuned like `persist`: both
gather no facts, and use pipelining and `forks = 50` (`ansible.cfg`). The hosts are test hosts of `tests/lab`, all on this machine,
so controller and hosts share its cores. Each host has a backend with 3 accounts of 300 files. Before each first run, the hosts
are reset. A playbook with a single `ping`, which inspects nothing, shows the cost of Ansible itself. Candidates alternate
(A B C A B C); each figure is a median.

## Goals

| what | hosts | goal | measured | met |
| --- | --- | --- | --- | --- |
"""

NOTES = """
How it was measured:

- The manual playbook works on all hosts at the same time, and restarts all backends at the same time. `persist` works on one host, then
  on a tenth, then on a quarter at a time of the hosts that need changes.
- The manual playbook copies accounts while the backend writes, and every later run copies them again, old over new. This defect is the
  reason why it always reports changes; it is not taken into account.
- Time and CPU of the controller include `ansible-playbook` with its start and all ssh processes. First runs open their connections. Runs
  with nothing to do reuse these, like playbooks that follow each other within `ControlPersist`; the last table has
  runs that open their own connections, like each job of AWX. This costs both playbooks the same.
- Hosts are listed in a file. A script that lists them would be started, and measured, with each run.
- Events are what AWX would store: one for each task, two for each host that a task runs on, one for each item.
- *Other work* is the activity of everything else on the machine; above about 0.3 cores, the machine was not quiet.
- The controller's CPU time is what scales to larger fleets, whose hosts have their own cores.
"""


def write(measured: Figures, folder: pathlib.Path) -> None:
    """Write fleet.md into ``folder``, and print it."""
    page = HEAD.format(date=measured["date"], minutes=measured["minutes"], machine=measured["machine"])
    fleets = {int(number): ways for number, ways in measured["hosts"].items()}
    page += "".join(_goals(fleets)) + NOTES
    page += "".join(_table(number, ways) for number, ways in fleets.items())
    (folder / "fleet.md").write_text(page, encoding="utf-8")
    print(page)


def _goals(fleets: t.Mapping[int, Figures]) -> t.Iterator[str]:
    for number, ways in fleets.items():
        if number < 2 or "by_hand" not in ways or "persist" not in ways:
            continue
        for kind, goal in FASTER.items():
            ratio = _median(ways["by_hand"], kind, "wall") / _median(ways["persist"], kind, "wall")
            yield _goal(
                f"{KINDS[kind].lower()}: how many times faster", number, f"at least {goal:g}", ratio, ratio >= goal
            )
        cost = _median(ways["persist"], "no_change", "controller") / number
        what = "nothing to do: CPU seconds of the controller for each host"
        yield _goal(what, number, f"under {CONTROLLER:g}", cost, cost < CONTROLLER)


def _goal(what: str, hosts: int, goal: str, value: float, met: bool) -> str:
    return f"| {what} | {hosts} | {goal} | {value:.{1 if value >= 1 else 3}f} | {'yes' if met else '**no**'} |\n"


def _table(number: int, ways: Figures) -> str:
    runs = len(next(iter(ways.values())))
    lines = [f"\n## {number} host{'s' if number > 1 else ''}, medians of {runs}\n"]
    for kind, title in KINDS.items():
        lines += [
            f"{title}:\n",
            "| way | time s | to by hand | controller CPU s | for each host | CPU s on each host | tasks | events | other work, cores |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        by_hand = ways.get("by_hand", next(iter(ways.values())))
        lines += [f"| {TITLES[way]} | {_row(number, runs, by_hand, kind)} |" for way, runs in ways.items()]
        lines.append("")
    return "\n".join(lines)


def _row(number: int, runs: list[Figures], by_hand: list[Figures], kind: str) -> str:
    wall, controller, targets = (_median(runs, kind, name) for name in ("wall", "controller", "targets"))
    spread = [run[kind]["wall"] for run in runs]
    others = statistics.median(run[kind]["others"] / run[kind]["wall"] for run in runs)
    cells = (
        f"{wall:.1f} ({min(spread):.1f} to {max(spread):.1f})",
        f"{wall / _median(by_hand, kind, 'wall'):.2f}",
        f"{controller:.1f}",
        f"{controller / number:.3f}",
        f"{targets / number:.2f}",
        f"{_median(runs, kind, 'tasks'):.0f}",
        f"{_median(runs, kind, 'events'):.0f}",
        f"{others:.1f}",
    )
    return " | ".join(cells)


def _median(runs: list[Figures], kind: str, name: str) -> float:
    return float(statistics.median(run[kind][name] for run in runs))
