# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures session_backup next to restic, tar and cp, and writes backup.md. As root: backup.py [FILES]

All of them save the same accounts a second time on the same ext4 filesystem: once unchanged, once with one file rewritten in each account.
On XFS one large file is copied with and without shared blocks. What a candidate wrote is durable when its time ends.
"""

from __future__ import annotations

import functools
import json
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import typing as t

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests/tools"))

import measure  # noqa: E402
import trees  # noqa: E402

import disks  # noqa: E402

RUNS = 3
OF_AN_ACCOUNT = 1000  # files
LARGE = 512  # MiB
PASSWORD = {"RESTIC_PASSWORD": "benchmark", "RESTIC_CACHE_DIR": "/srv/cache", "PATH": os.environ["PATH"]}
COLLECTIONS = REPOSITORY / "playbooks/collections"
MODULE = "ansible_collections.whatsapp_ops.sessions.plugins.modules.session_backup"
Figures = tuple[float, float, float]  # seconds, CPU seconds of all its processes, MiB of disk


def session_backup(source: pathlib.Path, place: pathlib.Path, _turn: int) -> measure.Cost:
    options = {"path": str(source), "backup_path": str(place / "store"), "layout": "baileys", "keep_days": 30}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(COLLECTIONS), *sys.path[1:]])}
    stdin = json.dumps({"ANSIBLE_MODULE_ARGS": options})
    return measure.run([sys.executable, "-m", MODULE], stdin=stdin, env=environment)[0]


def restic(source: pathlib.Path, place: pathlib.Path, _turn: int) -> measure.Cost:
    repository = str(place / "repository")
    if not os.path.exists(repository):
        measure.run(["restic", "--quiet", "-r", repository, "init"], env=PASSWORD)
    return measure.run(["restic", "--quiet", "-r", repository, "backup", str(source)], env=PASSWORD)[0]


def tar(source: pathlib.Path, place: pathlib.Path, turn: int) -> measure.Cost:
    place.mkdir(exist_ok=True)
    return measure.run(["tar", "czf", str(place / f"{turn}.tar.gz"), "-C", str(source), "."])[0]


def cp(source: pathlib.Path, place: pathlib.Path, turn: int) -> measure.Cost:
    place.mkdir(exist_ok=True)
    return measure.run(["cp", "-a", "--reflink=never", str(source), str(place / str(turn))])[0]


CANDIDATES: dict[str, t.Callable[[pathlib.Path, pathlib.Path, int], measure.Cost]] = {
    "session_backup": session_backup,
    "restic backup": restic,
    "tar czf": tar,
    "cp -a": cp,
}


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    disks.unshare_mounts()
    where = pathlib.Path("/srv")
    disks.mount_image("ext4", where, megabytes=files // 20 + 2048, inodes=files * 12)
    source = where / "sessions"
    trees.make(source, files // OF_AN_ACCOUNT, OF_AN_ACCOUNT)
    rows = [
        (name, *_measured(candidate, source, where / str(number)))
        for number, (name, candidate) in enumerate(CANDIDATES.items())
    ]
    disks.unmount(where)
    page = _page(files, rows, _large_file())
    (REPOSITORY / "benchmarks/backup.md").write_text(page, encoding="utf-8")
    print(page)


def _measured(
    candidate: t.Callable[[pathlib.Path, pathlib.Path, int], measure.Cost], source: pathlib.Path, place: pathlib.Path
) -> tuple[Figures, Figures, Figures]:
    """Return the cost of the first save, and the median of further ones: unchanged, and with a file changed in each account."""
    turns = iter(range(1000))
    first = _timed(source, lambda: candidate(source, place, next(turns)))
    same = [_timed(source, lambda: candidate(source, place, next(turns))) for _run in range(RUNS)]
    changed = []
    for _run in range(RUNS):
        trees.change(source, len(os.listdir(source)))
        changed.append(_timed(source, lambda: candidate(source, place, next(turns))))
    return first, _median(same), _median(changed)


def _timed(disk: pathlib.Path, work: t.Callable[[], measure.Cost]) -> Figures:
    os.sync()
    before, begin = os.statvfs(disk), os.times().elapsed
    cost = work()
    measure.run(["sync", "--file-system", str(disk)])
    seconds, after = os.times().elapsed - begin, os.statvfs(disk)
    return seconds, cost.cpu, max(0, before.f_bfree - after.f_bfree) * after.f_frsize / (1 << 20)


def _median(figures: t.Sequence[Figures]) -> Figures:
    seconds, cpu, disk = (statistics.median(column) for column in zip(*figures, strict=True))
    return seconds, cpu, disk


def _large_file() -> list[tuple[str, Figures]]:
    """Return the cost of one large file in an account, on XFS: with shared blocks, and as a copy."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        where = pathlib.Path(folder)
        disks.mount_image("xfs", where, megabytes=4 * LARGE)
        where.chmod(0o755)
        source = where / "sessions"
        trees.make(source, 1, 10)
        (account,) = source.iterdir()
        with (account / "large.json").open("wb") as file:
            for _block in range(LARGE):
                file.write(os.urandom(1 << 20))
        os.chown(account / "large.json", trees.OWNER, trees.OWNER)
        for name in ("session_backup", "cp -a"):
            place = where / name.replace(" ", "")
            found.append((name, _timed(where, functools.partial(CANDIDATES[name], source, place, 0))))
        disks.unmount(where)
    return found


def _page(
    files: int, rows: t.Sequence[tuple[str, Figures, Figures, Figures]], large: t.Sequence[tuple[str, Figures]]
) -> str:
    lines = [
        "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
        "# Saving accounts",
        "",
        f"Written by `benchmarks/backup.py {files}`: {files} files of 200 bytes to 2 KB in accounts of {OF_AN_ACCOUNT}, on ext4.",
        _machine(),
        f"Seconds until everything is durable, CPU time, and MiB of disk; median of {RUNS} runs except for the first save.",
        "`session_backup` includes the start of Python, compares each file, reads back what it copied and judges each account. `restic`",
        "also encrypts and deduplicates, so it does more than the others. The start of Python costs what the last table shows for",
        "`session_backup`, where the account has ten small files besides the large one.",
        "",
        "| | first | unchanged | one file changed in each account |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| `{name}` | " + " | ".join(_shown(one) for one in costs) + " |" for name, *costs in rows]
    lines += ["", f"One file of {LARGE} MiB in an account, saved to the same XFS:", "", "| | |", "| --- | --- |"]
    lines += [f"| `{name}` | {_shown(cost)} |" for name, cost in large]
    return "\n".join([*lines, ""])


def _shown(cost: Figures) -> str:
    seconds, cpu, disk = cost
    return f"{seconds:.1f} s, {cpu:.2f} s of CPU, {disk:.1f} MiB"


def _machine() -> str:
    cpus, load = len(os.sched_getaffinity(0)), os.getloadavg()[2]
    linux, python = platform.release().split("-")[0], platform.python_version()
    return f"{cpus} CPUs, Linux {linux}, Python {python}, and a load of {load:.1f} on average, other programs included."


if __name__ == "__main__":
    main()
