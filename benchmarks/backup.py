# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures session_backup next to what it replaces, and writes backup.md. As root, with restic and xfsprogs.

    backup.py [--parts "unchanged live held blocks"] [--files 100000] [--runs 3] [--snapshots 300] [--suite bookworm] [--report]

unchanged   a second snapshot of unchanged files, next to the first one, restic, tar and rsync
live        snapshots and copies of a backend that writes all the time: how many are torn or mixed
held        for how long a backend on a test host is interrupted
blocks      large files on XFS: backup, restore and migration next to cp

Each part keeps its last figures. ``--report`` only writes the page again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import sys
import typing as t

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests" / "tools"), str(REPOSITORY / "playbooks" / "collections")]

import backup_blocks  # noqa: E402
import backup_held  # noqa: E402
import backup_live  # noqa: E402
import backup_report  # noqa: E402
import backup_unchanged  # noqa: E402
import report  # noqa: E402

PARTS: dict[str, t.Callable[[argparse.Namespace], t.Any]] = {
    "unchanged": lambda options: backup_unchanged.measured(options.files, options.runs),
    "live": lambda options: backup_live.measured(options.snapshots),
    "held": lambda options: backup_held.measured(options.suite, options.runs),
    "blocks": lambda options: backup_blocks.measured(options.runs),
}


def main() -> None:
    options = _options()
    last = REPOSITORY / ".work" / "bench" / "backup.json"
    last.parent.mkdir(parents=True, exist_ok=True)
    for name in () if options.report else options.parts.split():
        figures = _in_own_process(PARTS[name], options)
        about = {"date": datetime.date.today().isoformat(), "machine": report.machine(), "load": os.getloadavg()[2]}
        kept = json.loads(last.read_text(encoding="utf-8")) if last.exists() else {}
        last.write_text(json.dumps({**kept, name: {**about, "figures": figures}}), encoding="utf-8")
    page = backup_report.page(json.loads(last.read_text(encoding="utf-8")))
    (REPOSITORY / "benchmarks" / "backup.md").write_text(page, encoding="utf-8")
    print(page)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=" ".join(PARTS))
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--snapshots", type=int, default=300)
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument("--report", action="store_true")
    return parser.parse_args()


def _in_own_process(part: t.Callable[[argparse.Namespace], t.Any], options: argparse.Namespace) -> t.Any:
    """Measure a part in a process of its own, because parts change the mounts that they see."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with os.fdopen(writing, "w") as out:
            json.dump(part(options), out)
        sys.exit()
    os.close(writing)
    with os.fdopen(reading) as replied:
        reply = replied.read()
    if os.waitpid(child, 0)[1]:
        sys.exit("a part failed")
    return json.loads(reply)


if __name__ == "__main__":
    main()
