# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to save the same accounts again and again, on one ext4 filesystem. What a candidate wrote is durable when its time ends."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pathlib
import statistics
import tempfile
import typing as t

import candidates
import measure
import trees

import disks

OF_AN_ACCOUNT = 1000  # files
RESTIC = {"RESTIC_PASSWORD": "benchmark", "PATH": os.environ["PATH"]}
Candidate = t.Callable[[pathlib.Path, pathlib.Path, int], measure.Cost]
Figures = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds until all is durable, CPU seconds of all processes, and MiB of disk."""

    wall: float
    cpu: float
    disk: float


def session_backup(source: pathlib.Path, place: pathlib.Path, _turn: int) -> measure.Cost:
    return candidates.backup(source, place / "store", place.parent)[0]


def restic(source: pathlib.Path, place: pathlib.Path, turn: int) -> measure.Cost:
    environment = {**RESTIC, "RESTIC_CACHE_DIR": str(place / "cache")}
    call = ["restic", "--quiet", "-r", str(place / "repository")]
    begin = measure.run([*call, "init"], env=environment)[0] if turn == 0 else measure.Cost()
    return begin.then(measure.run([*call, "backup", str(source)], env=environment)[0])


def tar(source: pathlib.Path, place: pathlib.Path, turn: int) -> measure.Cost:
    return measure.run(["tar", "czf", str(place / f"{turn}.tar.gz"), "-C", str(source), "."])[0]


def rsync(source: pathlib.Path, place: pathlib.Path, turn: int) -> measure.Cost:
    shared = [f"--link-dest={place}/{turn - 1}"] if turn else []
    return measure.run(["rsync", "-a", *shared, f"{source}/", str(place / str(turn))])[0]


CANDIDATES: dict[str, Candidate] = {
    "session_backup": session_backup,
    "restic backup": restic,
    "tar czf": tar,
    "rsync -a --link-dest": rsync,
}


def measured(files: int, runs: int) -> Figures:
    """Return the costs of each candidate by what was saved: ``first``, ``unchanged``, ``changed`` (one file in each account)."""
    with mounted("ext4", megabytes=files // 20 + 2048, inodes=files * 4) as where:
        source = where / "sessions"
        trees.make(source, files // OF_AN_ACCOUNT, OF_AN_ACCOUNT)
        measure.run(["du", "-s", str(source)])  # the first candidate finds it in the cache as well
        costs = {
            name: _costs(candidate, source, where / str(number), runs)
            for number, (name, candidate) in enumerate(CANDIDATES.items())
        }
        start = [_start(where) for _run in range(runs)]
    return {"files": files, "runs": runs, "costs": costs, "start": median(start)}


@contextlib.contextmanager
def mounted(kind: str, *, megabytes: int, inodes: int = 0) -> t.Iterator[pathlib.Path]:
    """Move this process to mounts of its own, and mount a new filesystem until the end of the body."""
    disks.unshare_mounts()
    where = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        disks.mount_image(kind, where, megabytes=megabytes, inodes=inodes)
        try:
            where.chmod(0o755)
            yield where
        finally:
            disks.unmount(where)
    finally:
        where.rmdir()


def _start(where: pathlib.Path) -> Costs:
    """Measure session_backup on an empty tree: interpreter, imports, arguments."""
    empty = where / "empty"
    empty.mkdir(exist_ok=True)
    return timed(where, lambda: candidates.backup(empty, where / "none", where)[0])


def _costs(candidate: Candidate, source: pathlib.Path, place: pathlib.Path, runs: int) -> dict[str, Figures]:
    place.mkdir()
    turns = iter(range(1000))
    first = [timed(source, functools.partial(candidate, source, place, next(turns)))]
    same = [timed(source, functools.partial(candidate, source, place, next(turns))) for _run in range(runs)]
    changed = []
    for _run in range(runs):
        trees.change(source, len(os.listdir(source)))
        changed.append(timed(source, functools.partial(candidate, source, place, next(turns))))
    return {"first": median(first), "unchanged": median(same), "changed": median(changed)}


def timed(disk: pathlib.Path, work: t.Callable[[], measure.Cost]) -> Costs:
    """Measure ``work`` until what it wrote to the filesystem of ``disk`` is durable."""
    os.sync()
    before = os.statvfs(disk)
    cost = work().then(measure.run(["sync", "--file-system", str(disk)])[0])
    after = os.statvfs(disk)
    return Costs(cost.wall, cost.cpu, max(0, before.f_bfree - after.f_bfree) * after.f_frsize / (1 << 20))


def median(costs: t.Sequence[Costs]) -> Figures:
    """Return the medians of all figures."""
    return {
        field.name: statistics.median(getattr(cost, field.name) for cost in costs)
        for field in dataclasses.fields(Costs)
    }
