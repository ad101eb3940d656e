# SPDX-License-Identifier: GPL-3.0-or-later
"""Small disks: out of bytes, out of inodes, read-only. The run says so, and everything is as it was."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

import disks
from faultkit import Outcome, Scene
from test_errors import require_all_or_nothing, require_sentence

COPYING = ("native", "rsync")
# KiB left free on the disk of the sessions path; the accounts need about 90 with all that belongs to them.
LEFT_FREE = (0, 4, 16, 40, 64, 76, 84, 88, 92, 96, 104, 128, 200)


@pytest.fixture
def small(place: pathlib.Path) -> t.Iterator[t.Callable[..., Scene]]:
    """Make scenes whose sessions path is on a small disk; the accounts come from the large one."""
    mounted = []

    def make(inodes: int = 0, **fields: t.Any) -> Scene:
        root = place / f"small-{len(mounted)}"
        (root / "lib").mkdir(parents=True)
        disks.mount_image("ext4", root / "lib", megabytes=2, inodes=inodes)
        mounted.append(root / "lib")
        return Scene(root=root, path=root / "lib" / "sessions", **fields).build()

    yield make
    for where in mounted:
        disks.unmount(where)


@pytest.mark.parametrize("engine", COPYING)
def test_out_of_bytes(small: t.Callable[..., Scene], engine: str, record_property: t.Any) -> None:
    failed = 0
    for free in LEFT_FREE:
        tight = small(engine=engine)
        ballast = tight.path.parent / "ballast"
        fill(ballast, free << 10)
        outcome = tight.run()
        failed += "failed" in outcome
        require_as_it_was(tight, outcome)
        ballast.unlink()
        tight.check_converges()
    record_property("full disks", failed)
    assert 3 <= failed < len(LEFT_FREE)


@pytest.mark.parametrize("engine", COPYING)
def test_out_of_inodes(small: t.Callable[..., Scene], engine: str, record_property: t.Any) -> None:
    failed = 0
    for left in (0, 3, 10, 20, 30, 40, 60):
        tight = small(engine=engine, inodes=256)
        ballast = tight.path.parent / "ballast"
        ballast.mkdir()
        for number in range(os.statvfs(ballast).f_favail - left):
            (ballast / str(number)).touch()
        outcome = tight.run()
        failed += "failed" in outcome
        require_as_it_was(tight, outcome)
        for file in ballast.iterdir():
            file.unlink()
        ballast.rmdir()
        tight.check_converges()
    record_property("full disks", failed)
    assert 3 <= failed < 7


@pytest.mark.parametrize("engine", COPYING)
def test_read_only(small: t.Callable[..., Scene], engine: str) -> None:
    tight = small(engine=engine)
    disks.command("mount", "-o", "remount,ro", str(tight.path.parent))
    outcome = tight.run()
    assert "Read-only" in outcome["failed"]
    require_as_it_was(tight, outcome)
    disks.command("mount", "-o", "remount,rw", str(tight.path.parent))
    tight.check_converges()


def require_as_it_was(tight: Scene, outcome: Outcome) -> None:
    """The run published all or nothing, and what it copied in vain takes no space from the backend that goes on writing."""
    require_sentence(outcome)
    tight.check_after_fault()
    require_all_or_nothing(tight)
    if "failed" in outcome:
        assert not list(tight.area.glob("staging/*"))


def fill(path: pathlib.Path, free: int) -> None:
    """Make a file that leaves ``free`` bytes."""
    disk = os.statvfs(path.parent)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, disk.f_bavail * disk.f_frsize - free))
