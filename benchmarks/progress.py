# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures what it costs that a migration reports its progress, and writes progress.md.

progress.py [--files 100000] [--runs 5]

Runs with and without reports alternate, each on a new filesystem.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import statistics
import sys
import typing as t

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "tools"))

import candidates  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
import trees  # noqa: E402
from disk import Disk, private_mounts  # noqa: E402

ACCOUNTS = 100
GOAL = 1.02
WAYS: dict[str, list[str]] = {"with reports": [], "without": [str(HERE / "unreported.py")]}
Costs = dict[str, list[measure.Cost]]


def main() -> None:
    options = _options()
    work = HERE.parent / ".work" / "bench"
    with private_mounts(work) as mounts:
        costs = _measured(options, work, mounts)
    page = "\n".join(_page(options, costs)) + "\n"
    (HERE / "progress.md").write_text(page, encoding="utf-8")
    print(page)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def _measured(options: argparse.Namespace, work: pathlib.Path, mounts: pathlib.Path) -> Costs:
    costs: Costs = {}
    disk = Disk(work, mounts / "disk", 2 * options.files)
    for number in range(options.runs + 1):
        for way in sorted(WAYS, reverse=bool(number % 2)):
            with disk.mounted():
                place = candidates.Place(disk.where / "source", disk.where / "target" / "sessions", work)
                place.target.parent.mkdir()
                trees.make(place.source, ACCOUNTS, options.files // ACCOUNTS)
                disk.sync()
                cost, result = candidates.migrate(place, program=WAYS[way], allow_foreign_owner=True)
                if result["counts"]["migrated"] != ACCOUNTS:
                    raise RuntimeError(f"{result['counts']} of {ACCOUNTS} accounts were migrated")
                if number:  # the first round fills the caches
                    costs.setdefault(way, []).append(cost)
    return costs


def _page(options: argparse.Namespace, costs: Costs) -> t.Iterator[str]:
    yield "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->"
    yield "<!-- Written by `make bench-progress`; do not edit. -->"
    yield "# The cost of reports of progress\n"
    yield f"{datetime.date.today().isoformat()}. {report.machine()}.\n"
    yield (
        f"A migration of {options.files} files in {ACCOUNTS} accounts on ext4. Medians of {options.runs} rounds; both ways alternate, each "
        f"on a new filesystem. The goal is at most {GOAL} times the CPU time of a migration without reports.\n"
    )
    yield "| way | seconds | CPU seconds | from, to |"
    yield "| --- | --- | --- | --- |"
    cpu = {way: statistics.median(cost.cpu for cost in found) for way, found in costs.items()}
    for way, found in costs.items():
        wall = statistics.median(cost.wall for cost in found)
        least, most = min(cost.cpu for cost in found), max(cost.cpu for cost in found)
        yield f"| {way} | {wall:.2f} | {cpu[way]:.2f} | {least:.2f}, {most:.2f} |"
    ratio = cpu["with reports"] / cpu["without"]
    yield f"\nTimes without reports: {ratio:.3f}, goal {'met' if ratio <= GOAL else 'not met'}."


if __name__ == "__main__":
    main()
