# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of a disk may be taken: known without counting where there is plenty, and looked after while files are copied."""

from __future__ import annotations

import os
import pathlib
import types
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs import free_space
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.free_space import (
    SpaceReserve,
    has_room,
    has_room_for_all,
    kept_free,
)

MIB = 1 << 20


def disk(*, free: int, used: int = 0, files: int = 1000, free_files: int = 900, block: int = 4096) -> t.Any:
    blocks = {"f_bavail": free // block, "f_bfree": free // block, "f_blocks": (free + used) // block}
    return types.SimpleNamespace(f_frsize=block, f_files=files, f_ffree=free_files, f_favail=free_files, **blocks)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> t.Iterator[dict[str, t.Any]]:
    """Let the open directories 'target' and 'source' be on the disks that the test says."""
    disks: dict[str, t.Any] = {"types": {}}
    descriptors = {name: os.open(tmp_path, os.O_RDONLY) for name in ("target", "source")}
    names = {descriptor: name for name, descriptor in descriptors.items()}
    types_of = {"source": "ext4"}
    ask = os.fstatvfs
    monkeypatch.setattr(os, "fstatvfs", lambda opened: disks[names[opened]] if opened in names else ask(opened))
    monkeypatch.setattr(
        free_space, "filesystem_of", lambda descriptor: types.SimpleNamespace(type=types_of[names[descriptor]])
    )
    disks.update(descriptors=descriptors, types=types_of)
    yield disks
    for descriptor in descriptors.values():
        os.close(descriptor)


def ample(now: dict[str, t.Any]) -> bool:
    return has_room_for_all(now["descriptors"]["target"], [now["descriptors"]["source"]] * 2)


def test_there_is_room_for_all_that_the_other_disk_holds(now: dict[str, t.Any]) -> None:
    now["source"] = disk(free=0, used=100 * MIB)
    now["target"] = disk(free=111 * MIB)
    assert ample(now)
    now["target"] = disk(free=109 * MIB)
    assert not ample(now), "a tenth has to stay"
    now["target"] = disk(free=111 * MIB, free_files=109)
    assert not ample(now), "of the inodes, too"


@pytest.mark.parametrize(
    ("kind", "files", "block"), [("btrfs", 1000, 4096), ("xfs", 1000, 4096), ("ext4", 0, 4096), ("ext4", 1000, 1024)]
)
def test_what_a_disk_holds_may_be_less_than_its_copies_take(
    now: dict[str, t.Any], kind: str, files: int, block: int
) -> None:
    """Compressed, shared, in inodes that nobody counts, or in smaller blocks."""
    now["types"]["source"] = kind
    now["source"], now["target"] = disk(free=MIB, used=MIB, files=files, block=block), disk(free=900 * MIB)
    assert not ample(now)


@pytest.mark.parametrize(("size", "files", "fits"), [(90, 80, True), (91, 80, False), (90, 82, False)])
def test_a_tenth_of_what_is_needed_stays(size: int, files: int, fits: bool) -> None:
    assert has_room(disk(free=100 * MIB, free_files=90), size * MIB, files) is fits
    assert has_room(disk(free=100 * MIB, files=0, free_files=0), size * MIB, files) is (size == 90)


def test_what_has_to_stay_free_stays(now: dict[str, t.Any]) -> None:
    target = now["descriptors"]["target"]
    now["target"] = disk(free=100 * MIB, free_files=400)
    kept = kept_free(target)
    assert kept == (5 * MIB, 20)
    assert SpaceReserve(kept).is_left(target, 95 * MIB)
    assert not SpaceReserve(kept).is_left(target, 96 * MIB)
    now["target"] = disk(free=100 * MIB, free_files=20)
    assert not SpaceReserve(kept).is_left(target, 1)


def test_it_is_looked_at_first_and_then_every_16_mib(now: dict[str, t.Any]) -> None:
    target, room = now["descriptors"]["target"], SpaceReserve((MIB, 0))
    now["target"] = disk(free=2 * MIB)
    assert room.is_left(target, 1)
    now["target"] = disk(free=0)
    taken = next(number for number in range(5000) if not room.is_left(target, 2000))
    assert 1000 < taken < 16 * MIB / (2000 + 4096)
    assert not SpaceReserve((MIB, 0)).is_left(target, 1)
