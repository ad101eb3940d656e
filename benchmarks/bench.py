# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares this collection with the tools that it replaces, in one run, and writes results.md and results.svg.

    bench.py [--sizes "10000 100000 1000000"] [--runs 5] [--only NAME,NAME] [--report]

Every candidate gets a fresh filesystem; candidates alternate (A B C A B C). ``--report`` only writes the last figures again.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import pathlib
import signal
import sys
import tempfile
import time
import typing as t

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "tools"))

import candidates  # noqa: E402
import report  # noqa: E402
import trees  # noqa: E402
from disk import Disk  # noqa: E402

import disks  # noqa: E402

PER_ACCOUNT = 1000
JUDGED_ACCOUNTS, JUDGED_FILES = 300, 2000
Figures = dict[str, t.Any]

CANDIDATES: dict[str, t.Callable[[candidates.Place], Figures]] = {
    "seed": candidates.seed,
    "rsync": candidates.rsync,
    "cp": candidates.cp,
    "synchronize": candidates.synchronize,
    "native": candidates.native,
    "metadata": candidates.metadata,
    "by_rsync": candidates.by_rsync,
    "late": candidates.late,
    "late_few": candidates.late_few,
    "ahead": candidates.ahead,
    "rename": candidates.rename,
}


def main() -> None:
    options = _options()
    work = HERE.parent / ".work" / "bench"
    last = work / "last.json"
    if not options.report:
        signal.signal(signal.SIGTERM, lambda *_signal: sys.exit("ended"))  # so that everything is unmounted
        _measure(options, work, lambda measured: last.write_text(json.dumps(measured), encoding="utf-8"))
    report.write(json.loads(last.read_text(encoding="utf-8")), HERE)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000 100000 1000000")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--runs-large", type=int, default=3, help="how often at 1,000,000 files")
    parser.add_argument("--only", default=",".join([*CANDIDATES, "judge"]))
    parser.add_argument("--only-large", help="the same for 1,000,000 files")
    parser.add_argument("--report", action="store_true")
    return parser.parse_args()


def _measure(options: argparse.Namespace, work: pathlib.Path, save: t.Callable[[Figures], t.Any]) -> None:
    """Measure; results are saved after each size, in case that a later one does not end."""
    work.mkdir(parents=True, exist_ok=True)
    disks.unshare_mounts()
    begin, wanted = time.monotonic(), options.only.split(",")
    measured: Figures = {
        "date": datetime.date.today().isoformat(),
        "machine": report.machine(),
        "sizes": {},
        "judge": [],
    }
    with tempfile.TemporaryDirectory(prefix="mounts-", dir=work, ignore_cleanup_errors=True) as mounts:
        if "judge" in wanted:
            measured["judge"] = _measure_judging(options.runs, work, pathlib.Path(mounts))
        for size in map(int, options.sizes.split()):
            large = size >= 1_000_000
            names = options.only_large.split(",") if large and options.only_large else wanted
            figures: dict[str, list[Figures]] = {}
            measured["sizes"][size] = figures
            for _finished in _measure_size(
                size, options.runs_large if large else options.runs, names, work, pathlib.Path(mounts), figures
            ):
                save({**measured, "minutes": round((time.monotonic() - begin) / 60, 1)})


def _measure_size(
    size: int,
    runs: int,
    wanted: t.Collection[str],
    work: pathlib.Path,
    mounts: pathlib.Path,
    figures: dict[str, list[Figures]],
) -> t.Iterator[None]:
    """Add the figures of each candidate to ``figures``, and yield after each run of all of them."""
    from_disk, to_disk = Disk(work, mounts / "from", size), Disk(work, mounts / "to", size)
    place = candidates.Place(mounts / "from" / "legacy", mounts / "to" / "sessions", work)
    with from_disk.mounted():
        trees.make(place.source, size // PER_ACCOUNT, PER_ACCOUNT)
        for number in range(runs):
            for name, candidate in CANDIDATES.items():
                if name in wanted and _is_worth(name, size):
                    from_disk.sync()
                    with to_disk.mounted():
                        figures.setdefault(name, []).append(_plain(candidate(place)))
                    _tell(f"{size} files, run {number + 1} of {runs}, {name}", figures[name][-1])
            yield


def _is_worth(name: str, size: int) -> bool:
    """Return the candidates for a size; a million files are only measured with the number of changed files that is 1 % of 100,000."""
    return not (name == "late_few" and size != 1_000_000) and not (name == "ahead" and size >= 1_000_000)


def _measure_judging(runs: int, work: pathlib.Path, mounts: pathlib.Path) -> list[Figures]:
    path, empty = mounts / "judged" / "sessions", mounts / "judged" / "empty"
    disk = Disk(work, mounts / "judged", JUDGED_ACCOUNTS * JUDGED_FILES)
    figures = []
    with disk.mounted():
        empty.mkdir()
        trees.make(path, JUDGED_ACCOUNTS, JUDGED_FILES)
        disk.sync()
        for number in range(runs + 1):
            found, count = candidates.find(path)
            info, result = candidates.info(path, work)
            if not count == result["count"] == result["linked_accounts"] == JUDGED_ACCOUNTS:
                raise RuntimeError("session_info and find do not see the same accounts")
            start = candidates.info(empty, work)[0]
            if number:  # the first run fills the caches
                costs = {"find": found, "info": info, "start": start}
                figures.append(
                    {name: cost.wall for name, cost in costs.items()}
                    | {f"{name}_cpu": cost.cpu for name, cost in costs.items()}
                )
                _tell(f"judging, run {number} of {runs}", figures[-1])
    return figures


def _plain(figures: Figures) -> Figures:
    cost = figures.get("cost")
    return {**figures, **({"cost": dataclasses.asdict(cost)} if cost else {})}


def _tell(what: str, figures: Figures) -> None:
    print(f"{what}: {json.dumps(figures)}", flush=True)


if __name__ == "__main__":
    main()
