# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures session_backup next to restic, tar and cp, and writes backup.md. As root: backup.py [FILES]

All of them save the same accounts a second time on the same ext4 filesystem: once unchanged, once with one file rewritten in each account.
On XFS one large file is copied with and without shared blocks. What a candidate wrote is durable when its time ends.
"""

from __future__ import annotations

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
Figures = tuple[float, float]  # seconds, MiB of disk


def session_backup(source: pathlib.Path, place: pathlib.Path, _turn: int) -> None:
    options = {"path": str(source), "backup_path": str(place / "store"), "layout": "baileys", "keep_days": 30}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(COLLECTIONS), *sys.path[1:]])}
    stdin = json.dumps({"ANSIBLE_MODULE_ARGS": options})
    measure.run([sys.executable, "-m", MODULE], stdin=stdin, env=environment)


def restic(source: pathlib.Path, place: pathlib.Path, _turn: int) -> None:
    repository = str(place / "repository")
    if not os.path.exists(repository):
        measure.run(["restic", "--quiet", "-r", repository, "init"], env=PASSWORD)
    measure.run(["restic", "--quiet", "-r", repository, "backup", str(source)], env=PASSWORD)


def tar(source: pathlib.Path, place: pathlib.Path, turn: int) -> None:
    place.mkdir(exist_ok=True)
    measure.run(["tar", "czf", str(place / f"{turn}.tar.gz"), "-C", str(source), "."])


def cp(source: pathlib.Path, place: pathlib.Path, turn: int) -> None:
    place.mkdir(exist_ok=True)
    measure.run(["cp", "-a", "--reflink=never", str(source), str(place / str(turn))])


CANDIDATES: dict[str, t.Callable[[pathlib.Path, pathlib.Path, int], None]] = {
    "session_backup": session_backup,
    "restic backup": restic,
    "tar czf": tar,
    "cp -a": cp,
}


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    disks.unshare_mounts()
    where = pathlib.Path("/srv")
    disks.mount_image("ext4", where, megabytes=files // 20 + 2048, inodes=files * 8)
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
    candidate: t.Callable[[pathlib.Path, pathlib.Path, int], None], source: pathlib.Path, place: pathlib.Path
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


def _timed(disk: pathlib.Path, work: t.Callable[[], None]) -> Figures:
    os.sync()
    before, begin = os.statvfs(disk), os.times().elapsed
    work()
    descriptor = os.open(disk, os.O_RDONLY)
    measure.run(["sync", "--file-system", str(disk)])
    os.close(descriptor)
    seconds, after = os.times().elapsed - begin, os.statvfs(disk)
    return seconds, max(0, before.f_bfree - after.f_bfree) * after.f_frsize / (1 << 20)


def _median(figures: t.Sequence[Figures]) -> Figures:
    return statistics.median(one[0] for one in figures), statistics.median(one[1] for one in figures)


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
            found.append((name, _timed(where, lambda name=name, place=place: CANDIDATES[name](source, place, 0))))
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
        f"Seconds until everything is durable, and MiB of disk; median of {RUNS} runs except for the first save. `session_backup` includes",
        "the start of Python, compares each file, reads back what it copied and judges each account. `restic` also encrypts and",
        "deduplicates, so it does more than the others.",
        "",
        "| | first | unchanged | one file changed in each account |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{name}` | " + " | ".join(f"{one[0]:.2f} s, {one[1]:.1f} MiB" for one in costs) + " |"
        for name, *costs in rows
    ]
    lines += ["", f"One file of {LARGE} MiB in an account, saved to the same XFS:", "", "| | |", "| --- | --- |"]
    lines += [f"| `{name}` | {cost[0]:.2f} s, {cost[1]:.1f} MiB |" for name, cost in large]
    return "\n".join([*lines, ""])


def _machine() -> str:
    cpus, load = len(os.sched_getaffinity(0)), os.getloadavg()[2]
    linux, python = platform.release().split("-")[0], platform.python_version()
    return f"{cpus} CPUs, Linux {linux}, Python {python}, and a load of {load:.1f} on average, other programs included."


if __name__ == "__main__":
    main()
