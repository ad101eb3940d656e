# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts filesystems for tests, in disk images or in memory, in a mount namespace that ends with the process of the test."""

from __future__ import annotations

import ctypes
import os
import pathlib
import subprocess
import tempfile

CLONE_NEWNS = 0x00020000  # sched.h; os.unshare() came with Python 3.12 only


def unshare_mounts() -> None:
    """Move this process to a private mount namespace."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    command("mount", "--make-rprivate", "/")


def mount_image(kind: str, where: pathlib.Path, *, options: str = "", megabytes: int = 16, inodes: int = 0) -> None:
    """Mount a new filesystem of ``kind`` (ext4, xfs) in a disk image; once mounted, the image lives as long as the mount."""
    with tempfile.NamedTemporaryFile(prefix="wa-image-") as image:
        os.truncate(image.name, megabytes << 20)
        command(f"mkfs.{kind}", "-q", *(["-N", str(inodes)] if inodes else []), image.name)
        command("mount", "-o", ",".join(filter(None, ["loop", options])), image.name, str(where))


def mount_memory(where: pathlib.Path, *, options: str = "", megabytes: int = 16) -> None:
    """Mount a tmpfs."""
    command(
        "mount", "-t", "tmpfs", "-o", ",".join(filter(None, [f"size={megabytes}m", options])), "wa-test", str(where)
    )


def mount_overlay(where: pathlib.Path) -> None:
    """Mount an overlay with its layers next to ``where``."""
    layers = pathlib.Path(tempfile.mkdtemp(prefix=f"{where.name}-", dir=where.parent))
    for name in ("lower", "upper", "work"):
        (layers / name).mkdir()
    options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
    command("mount", "-t", "overlay", "-o", options, "wa-test", str(where))


def keep_apart(where: pathlib.Path) -> None:
    """Redirect writes of this mount namespace to a directory of the machine, so that they do not reach the machine."""
    layers = pathlib.Path(tempfile.mkdtemp(prefix="wa-apart-"))
    mount_memory(layers)
    for name in ("upper", "work"):
        (layers / name).mkdir()
    options = f"lowerdir={where},upperdir={layers}/upper,workdir={layers}/work"
    command("mount", "-t", "overlay", "-o", options, "wa-test", str(where))
    unmount(layers)  # the overlay holds its layers
    layers.rmdir()


def unmount(where: pathlib.Path) -> None:
    """Unmount a filesystem, even while files on it are open."""
    command("umount", "--lazy", str(where))


def command(*argv: str) -> None:
    """Run a program, which must succeed."""
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60)
