# SPDX-License-Identifier: GPL-3.0-or-later
"""Saves an account again and again while its backend writes to it, and counts what was saved that never existed at any moment."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import subprocess
import sys
import typing as t

import live_writer
import trees
from backup_unchanged import mounted

from module_server import Server, served

HERE = pathlib.Path(__file__).resolve().parent
FILES = 200
PAUSE = 0.15  # seconds between two messages
WHOLE, TORN, MIXED, SKIPPED = "whole", "torn", "mixed", "skipped"
Counts = dict[str, int]


def measured(snapshots: int) -> dict[str, t.Any]:
    """Return for both ways how many copies are whole, torn (half a file), mixed (files of two moments), or were not made."""
    with mounted("ext4", megabytes=512) as where, served() as server:
        trees.make(where / "sessions", 1, FILES)
        (account,) = (where / "sessions").iterdir()
        names = live_writer.names_in(account)
        ways = {
            "session_backup": lambda: _backed_up(server, where, account.name),
            "rsync -a": lambda: _copied(account, where / "copy"),
        }
        counts = {name: dict.fromkeys((WHOLE, TORN, MIXED, SKIPPED), 0) for name in ways}
        with _backend(account):
            for _turn in range(snapshots):
                for name, way in ways.items():
                    copy = way()
                    counts[name][_judged(copy, names) if copy else SKIPPED] += 1
    return {"snapshots": snapshots, "counts": counts}


@contextlib.contextmanager
def _backend(account: pathlib.Path) -> t.Iterator[None]:
    argv = [sys.executable, str(HERE / "live_writer.py"), str(account), str(PAUSE)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as backend:
        try:
            assert backend.stdout
            backend.stdout.readline()
            yield
        finally:
            backend.kill()


def _backed_up(server: Server, where: pathlib.Path, name: str) -> pathlib.Path | None:
    """Save the account with the module, keeping one snapshot; return the copy."""
    store = where / "store"
    options = {"path": str(where / "sessions"), "backup_path": str(store), "layout": "baileys", "keep_last": 1}
    result = server.run("session_backup", {**options, "keep_days": 0})
    if result.get("failed"):
        raise RuntimeError(result["msg"])
    (newest,) = store.glob("backup-*")
    return newest / "root" / name if result["saved"] else None


def _copied(account: pathlib.Path, copy: pathlib.Path) -> pathlib.Path:
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(["rsync", "-a", f"{account}/", str(copy)], check=True)
    return copy


def _judged(copy: pathlib.Path, names: t.Sequence[str]) -> str:
    """The backend writes file after file, so at any moment the first ones are of this generation and the others of the one before."""
    try:
        found = [live_writer.generation_in((copy / name).read_bytes(), name) for name in names]
    except ValueError:
        return TORN
    return WHOLE if found == sorted(found, reverse=True) and found[0] - found[-1] <= 1 else MIXED
