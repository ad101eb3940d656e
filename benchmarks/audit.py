# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares session_audit with `find` over the same 300 accounts, side by side in one run, and writes audit.md.

    audit.py [--accounts 300] [--files 2000] [--runs 5]

`find` reads the status of every file and reports those that other users can read, that belong to another user, or that are empty: a part
of what the module reports. `find -printf` prints mode and owner of each. All are measured as whole processes, candidates alternate, and the
first round only fills the caches.
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

_FIND = 'find "$0" -type f ( -perm /004 -o ! -user "$1" -o -size 0 ) | wc -l'.replace("(", r"\(").replace(")", r"\)")
Costs = dict[str, list[measure.Cost]]


def main() -> None:
    options = _options()
    work = HERE.parent / ".work" / "bench"
    with private_mounts(work) as mounts:
        costs = _measured(options, work, mounts)
    page = "\n".join(_page(options, costs)) + "\n"
    (HERE / "audit.md").write_text(page, encoding="utf-8")
    print(page)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=300)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    return parser.parse_args()


def _measured(options: argparse.Namespace, work: pathlib.Path, mounts: pathlib.Path) -> Costs:
    path, empty = mounts / "audited" / "sessions", mounts / "audited" / "empty"
    disk = Disk(work, mounts / "audited", options.accounts * options.files)
    costs: Costs = {}
    with disk.mounted():
        empty.mkdir()
        trees.make(path, options.accounts, options.files)
        disk.sync()
        for number in range(options.runs + 1):
            found = {
                "find": _find(path),
                "find -printf '%m %u'": measure.run(["find", str(path), "-printf", "%m %u\n"])[0],
                "audit": _audit(path, work, options.accounts),
                "audit of every file": _audit(path, work, options.accounts, scan_files=options.files),
                "start of the module": _audit(empty, work, 0),
            }
            for name, cost in found.items() if number else ():  # the first round fills the caches
                costs.setdefault(name, []).append(cost)
    return costs


def _find(path: pathlib.Path) -> measure.Cost:
    cost, printed = measure.run(["bash", "-c", _FIND, str(path), str(trees.OWNER)])
    if int(printed):
        raise RuntimeError(f"find reports {int(printed)} files of a clean tree")
    return cost


def _audit(path: pathlib.Path, work: pathlib.Path, accounts: int, **more: t.Any) -> measure.Cost:
    cost, result = candidates.audit(path, work, **more)
    if result["linked_accounts"] != accounts:
        raise RuntimeError(f"session_audit sees {result['linked_accounts']} of {accounts} accounts")
    return cost


def _page(options: argparse.Namespace, costs: Costs) -> t.Iterator[str]:
    yield "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->"
    yield "<!-- Written by `make bench-audit`; do not edit. -->"
    yield "# An audit compared with find\n"
    yield f"{datetime.date.today().isoformat()}. {report.machine()}.\n"
    yield (
        f"{options.accounts} accounts of {options.files} files on ext4, in the page cache. Medians of {options.runs} rounds, candidates "
        "alternate. The last column compares CPU time, without the start of the module, which is listed by itself. Both kinds of `find` "
        "read the status of every file. `audit` lists and counts all files, reads the status of 200 of each account, and judges the "
        "accounts.\n"
    )
    yield "| candidate | seconds | CPU seconds | CPU, times `find` |"
    yield "| --- | --- | --- | --- |"
    cpu = {name: statistics.median(cost.cpu for cost in found) for name, found in costs.items()}
    start = "start of the module"
    for name, found in costs.items():
        wall = statistics.median(cost.wall for cost in found)
        beyond = cpu[name] - (cpu[start] if name.startswith("audit") else 0.0)
        yield f"| {name} | {wall:.2f} | {cpu[name]:.2f} | {beyond / cpu['find']:.2f} |"


if __name__ == "__main__":
    main()
