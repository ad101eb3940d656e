# SPDX-License-Identifier: GPL-3.0-or-later
"""Real directories on real filesystems, in a mount namespace of the test process, and processes of its own: all gone with it."""

from __future__ import annotations

import collections
import itertools
import os
import pathlib
import shutil
import typing as t

import pytest

import disks
from faultkit import Scene, compile_modules, make_own_processes
from layoutkit import scene_of

_numbers = itertools.count()


@pytest.fixture(scope="session")
def disk() -> pathlib.Path:
    """A journalling ext4 of our own, mounted at /srv where no other process sees it."""
    if os.geteuid() != 0:
        pytest.fail("fault tests mount filesystems, trace processes and change owners: run them as root")
    compile_modules()
    disks.unshare_mounts()
    make_own_processes()
    disks.command("mount", "-t", "proc", "proc", "/proc")
    mounted = pathlib.Path("/srv")
    disks.mount_image("ext4", mounted, megabytes=512)
    return mounted


@pytest.fixture
def place(disk: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """A new directory on the disk."""
    made = (
        disk / f"wa-{os.getpid()}-{next(_numbers)}"
    )  # paths are told apart by name across the namespaces of the test processes
    made.mkdir()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def scene(place: pathlib.Path) -> t.Callable[..., Scene]:
    """Make a scene; several of one test do not get in each other's way."""

    def make(**fields: t.Any) -> Scene:
        root = place / f"scene-{next(_numbers)}"
        root.mkdir()
        return scene_of(**{"root": root, "path": root / "lib" / "sessions", **fields})

    return make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Add up what the tests counted."""
    figures: dict[str, int] = collections.Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport) and report.when == "call":
            for name, value in report.user_properties:
                figures[name] += int(value)
    for name, value in sorted(figures.items()):
        terminalreporter.write_line(f"{name}: {value}")
