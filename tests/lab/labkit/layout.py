# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths of a lab, and its unique names.

Several labs can run on one machine at the same time (tests and the demo). Names that are global to the
machine (bridge, interfaces, cgroups, systemd units) contain a tag derived from the directory of the lab.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .command import LabError, run

CHECKOUT = Path(__file__).resolve().parents[3]
TOOL = Path(__file__).resolve().parents[1] / "lab"

# Shared by all labs of the machine while any is up; removed at a reboot, like bridges.
MACHINE = Path("/run/wa-lab")


@dataclass(frozen=True)
class Lab:
    folder: Path
    cache: Path

    @classmethod
    def from_environment(cls) -> Lab:
        work = CHECKOUT / ".work"
        return cls(
            folder=Path(os.environ.get("LAB_DIR") or work / "lab").absolute(),
            cache=Path(os.environ.get("LAB_CACHE") or work / "lab-cache").absolute(),
        )

    @property
    def tag(self) -> str:
        return hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:6]

    @property
    def bridge(self) -> str:
        return f"wa-{self.tag}"

    @property
    def hosts(self) -> Path:
        return self.folder / "host"

    @property
    def key(self) -> Path:
        return self.folder / "id"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def output(self) -> Path:
        """Outputs of runs against the hosts: molecule/shared/run_and_keep."""
        return self.folder / "output"

    def make(self) -> None:
        """Create the directory of the lab and the SSH key for its hosts."""
        self.hosts.mkdir(parents=True, exist_ok=True)
        kind = run(["stat", "--file-system", "--format=%T", self.folder]).strip()
        if kind in ("overlayfs", "tmpfs", "ramfs"):
            raise LabError(
                f"{self.folder} is on {kind}, but servers store sessions on a disk: set LAB_DIR to a directory on a disk"
            )
        if not self.key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.bridge, "-f", self.key])

    def remove(self) -> None:
        """Remove the files of the lab; its directory may contain other files."""
        for mine in (self.hosts, self.output):
            shutil.rmtree(mine, ignore_errors=True)
        for mine in (self.key, Path(f"{self.key}.pub"), self.known_hosts, self.folder / "lock"):
            mine.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def locked(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        return locked(self.folder / "lock")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, which is released when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
