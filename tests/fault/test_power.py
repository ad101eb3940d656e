# SPDX-License-Identifier: GPL-3.0-or-later
"""Lost power: what was not durable yet is gone (the shutdown ioctl of ext4, the journal not flushed), and the host has booted."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pathlib
import shutil
import struct
import typing as t

import pytest

import disks
from faultkit import ENGINES, Scene, content, count_calls, in_turn, write_in_place
from layoutkit import scene_of
from test_kill import SCENES, spread_over

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, linux/fs/ext4/ext4.h
NO_LOG_FLUSH = 2
BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id")
STRIKES = {"renameat2": 6, "fsync": 6, "syncfs": 3, "renameat": 6, "utimensat": 2, "unlinkat": 3}
_numbers = itertools.count()


class Machine:
    """A disk of its own, and the name of a boot; both are gone with the mount namespace."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._image = folder / "disk.img"
        self._boot = folder / "boot_id"
        self.root = folder / "root"
        self.root.mkdir()
        self._image.touch()
        os.truncate(self._image, 24 << 20)
        disks.command("mkfs.ext4", "-q", str(self._image))
        self._mount()

    def lose_power(self) -> None:
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)
        self.off()
        self._mount()

    def off(self) -> None:
        disks.command("umount", str(self.root))
        disks.unmount(BOOT)

    def _mount(self) -> None:
        disks.command("mount", "-o", "loop", str(self._image), str(self.root))
        self._boot.write_text(f"00000000-0000-0000-0000-{next(_numbers):012d}\n")
        disks.command("mount", "--bind", str(self._boot), str(BOOT))


@pytest.fixture
def machine(
    disk: pathlib.Path, tmp_path: pathlib.Path
) -> t.Iterator[t.Callable[[], contextlib.AbstractContextManager[Machine]]]:
    del disk  # for the namespace

    @contextlib.contextmanager
    def booted() -> t.Iterator[Machine]:
        folder = tmp_path / f"machine-{next(_numbers)}"
        folder.mkdir()
        made = Machine(folder)
        try:
            yield made
        finally:
            made.off()
            shutil.rmtree(folder)

    return booted  # type: ignore[return-value]


def sync(disk: pathlib.Path) -> None:
    """Make all of one disk durable, and of no other: the disks of tests that run beside this one are to lose theirs."""
    disks.command("sync", "--file-system", str(disk))


def laid_out(machine: Machine, **fields: t.Any) -> Scene:
    scene = scene_of(root=machine.root, path=machine.root / "lib" / "sessions", **fields)
    sync(machine.root)
    return scene


@pytest.mark.parametrize("engine", ENGINES)
def test_lost_anywhere(machine: t.Any, engine: str, tmp_path: pathlib.Path, record_property: t.Any) -> None:
    fields = {"engine": engine, **SCENES["conflict"]}
    with machine() as clean:
        assert laid_out(clean, **fields).run(log=tmp_path / "calls")["changed"]
    counts = count_calls(tmp_path / "calls")
    points = [(call, number) for call, most in STRIKES.items() for number in spread_over(counts[call], most)]
    failures = []
    for call, number in points:
        with machine() as struck:
            scene = laid_out(struck, **fields)
            scene.run([f"{call}:signal=KILL:when={number}"])
            struck.lose_power()
            try:
                scene.check_after_fault()
                scene.check_converges()
            except AssertionError as error:
                failures.append(f"power lost at {call} number {number}: {error}")
    record_property("power cuts", len(points))
    assert not failures, "\n".join([f"{len(failures)} of {len(points)}:", *failures])


@pytest.mark.parametrize(("kind", "engine"), in_turn(SCENES))
def test_lost_right_after_success(machine: t.Any, engine: str, kind: str, record_property: t.Any) -> None:
    """What was called done is done."""
    with machine() as struck:
        scene = laid_out(struck, engine=engine, **SCENES[kind])
        assert scene.run()["changed"]
        struck.lose_power()
        scene.check_published()
        assert scene.run()["changed"] is False
        scene.check_converged()  # the removal of staged copies is not made durable: they may have come back, until that run
    record_property("power cuts", 1)


@pytest.mark.parametrize("engine", ["native", "rsync"])
@pytest.mark.parametrize("verify", ["checksum", "metadata"])
def test_lost_between_staging_and_cutover(machine: t.Any, engine: str, verify: str, record_property: t.Any) -> None:
    """What is known of the copies became durable, for it was renamed over what was known before; the copies themselves did not."""
    with machine() as struck:
        scene = laid_out(struck, engine=engine, verify=verify)
        assert scene.run(state="staged")["changed"]
        scene.legacy = dict.fromkeys(scene.legacy, 3)
        scene.build()
        sync(struck.root)
        assert scene.run(["syncfs,fsync:retval=0:when=1+"], state="staged")["changed"]
        write_the_journal(struck.root)
        struck.lose_power()
        assert [file for file in scene.area.glob("staging/*/**/*.json") if not file.stat().st_size]
        scene.check_after_fault()
        scene.check_converges()
    record_property("power cuts", 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_used_after_it_was_lost_half_way(machine: t.Any, engine: str, record_property: t.Any) -> None:
    """All was in its place when power was lost, and not recorded. What the backend wrote there since is never taken back."""
    account = "5511999990001"
    with machine() as struck:
        scene = laid_out(struck, engine=engine, **SCENES["conflict"])
        assert scene.run([f"syncfs:signal=KILL:when={2 if engine == 'rename' else 3}"])["killed"]
        sync(struck.root)
        struck.lose_power()
        write_in_place(scene.path / account, content(account, 5))
        scene.later[account] = [5]
        assert "failed" not in scene.run()
        assert scene.is_whole(scene.path / account, account) == 5
    record_property("power cuts", 1)


def write_the_journal(disk: pathlib.Path) -> None:
    """Make names and renames durable, but not what was written to files: as ext4 does by itself every five seconds."""
    with (disk / "something else").open("wb") as file:
        os.fsync(file.fileno())


def test_this_test_sees_what_is_not_durable(machine: t.Any) -> None:
    """The same without syncs that work: files are lost although the run said that it was done."""
    with machine() as struck:
        scene = laid_out(struck)
        assert scene.run(["syncfs:retval=0:when=1+"])["changed"]
        struck.lose_power()
        with pytest.raises(AssertionError):
            scene.check_published()
