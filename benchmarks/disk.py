# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates ext4 filesystems with a journal, in private images that vanish with this process.

A root filesystem without a journal would not do: it avoids the inodes of files deleted lately and searches past them, which makes
whatever runs second look ten times slower.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import tempfile
import typing as t

import disks

BYTES_PER_FILE = 6400  # a block, an inode, a share of directories, and the reserve that session_migrate requires


@contextlib.contextmanager
def private_mounts(work: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """Yield a new directory below ``work`` for mounts that only this process and its children see."""
    work.mkdir(parents=True, exist_ok=True)
    disks.unshare_mounts()
    with tempfile.TemporaryDirectory(prefix="mounts-", dir=work, ignore_cleanup_errors=True) as mounts:
        yield pathlib.Path(mounts)


class Disk:
    """An image in an unnamed file, recreated by each ``mounted``."""

    def __init__(self, folder: pathlib.Path, where: pathlib.Path, files: int) -> None:
        self.where = where
        self._inodes = files * 5 // 4  # session_migrate requires a tenth more than it needs
        size = self._inodes * BYTES_PER_FILE + (700 << 20)
        descriptor, name = tempfile.mkstemp(prefix="image-", dir=folder)
        os.unlink(name)
        self._image = os.fdopen(descriptor, "r+b", buffering=0)
        self._path = f"/proc/{os.getpid()}/fd/{descriptor}"
        # Written once, so that no candidate has to allocate blocks of the image.
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={self._path}", "bs=1M", f"count={size >> 20}", "oflag=direct", "status=none"],
            check=True,
        )

    @contextlib.contextmanager
    def mounted(self) -> t.Iterator[None]:
        """Create and mount a new filesystem. No access times, because the first reader would cause writes."""
        self.where.mkdir(parents=True, exist_ok=True)
        disks.command("mkfs.ext4", "-q", "-F", "-E", "nodiscard", "-N", str(self._inodes), "-m", "0", self._path)
        os.fsync(self._image.fileno())
        # noinit_itable: otherwise the kernel zeroes inode tables in the background, during a measurement.
        disks.command("mount", "-o", "loop,noatime,noinit_itable", self._path, str(self.where))
        try:
            disks.command("losetup", "--direct-io=on", self._device())
            self.where.chmod(0o755)
            yield
        except BaseException:
            disks.unmount(self.where)  # lazily, because processes may still use it
            raise
        disks.command("umount", str(self.where))

    def sync(self) -> None:
        disks.command("sync", "--file-system", str(self.where))

    def _device(self) -> str:
        mounts = pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(" - ")[1].split()[1] for line in reversed(mounts) if line.split()[4] == str(self.where))
