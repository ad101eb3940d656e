# SPDX-License-Identifier: GPL-3.0-or-later
"""Many test hosts of tests/lab with a small backend on each, and their CPU time."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

import trees

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
TOOL = REPOSITORY / "tests" / "lab" / "lab"
SCENE = REPOSITORY / "benchmarks" / "fleet_scene"
SCRIPT = REPOSITORY / "tests" / "lab" / "inventory.py"
ACCOUNTS, FILES = 3, 300
AT_ONCE = 4  # hosts in parallel
CGROUPS = pathlib.Path("/sys/fs/cgroup")


class Fleet:
    """``number`` hosts that share an image, each with accounts and a running backend at the legacy path."""

    def __init__(self, number: int, folder: pathlib.Path) -> None:
        self.names = [f"wa-{index:03}" for index in range(1, number + 1)]
        self.environment = {**os.environ, "LAB_DIR": str(folder / "lab")}
        self.inventory = folder / "hosts.yml"
        self._accounts = folder / "accounts"
        self._lab_folder = folder / "lab"

    @contextlib.contextmanager
    def up(self) -> t.Iterator[Fleet]:
        """Boot the hosts, and always remove them afterwards."""
        shutil.rmtree(self._accounts, ignore_errors=True)
        trees.make(self._accounts, ACCOUNTS, FILES)
        views = [f"--bind-ro={SCENE}:/srv/scene", f"--bind-ro={self._accounts}:/srv/accounts"]
        try:
            self._lab("net-up")
            self._each(lambda name: self._lab("up", "--overlay", name, "bookworm", *views))
            self._lab("wait", *self.names)
            self._write_inventory()
            yield self
        finally:
            self._lab("destroy")
            shutil.rmtree(self._accounts)

    def lay(self) -> None:
        """Reset all hosts."""
        self._each(lambda name: self._lab("ssh", name, "/srv/scene/lay"))

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all hosts together; not a number if a systemd of this machine manages them."""
        kept = self._lab_folder / "host" / self.names[0] / "pid"
        if not kept.exists():
            return float("nan")
        groups = pathlib.Path("/proc", kept.read_text().split()[0], "cgroup").read_text().splitlines()
        for _number, controllers, group in (line.split(":", 2) for line in groups):
            if "cpuacct" in controllers:
                return int((CGROUPS / "cpuacct" / group[1:]).parent.joinpath("cpuacct.usage").read_text()) / 1e9
        unified = groups[-1].removeprefix("0::/")
        return int((CGROUPS / unified).parent.joinpath("cpu.stat").read_text().split()[1]) / 1e6

    def _write_inventory(self) -> None:
        """Write an inventory file, because a script would be started, and measured, with each run."""
        program = pathlib.Path(sys.executable).with_name("ansible-inventory")
        options = ("--list", "--export", "--yaml", "--output", self.inventory)
        subprocess.run(
            [program, "--inventory", SCRIPT, *options], env=self.environment, stdin=subprocess.DEVNULL, check=True
        )

    def _each(self, work: t.Callable[[str], object]) -> None:
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(work, self.names))

    def _lab(self, *words: str) -> str:
        done = subprocess.run(
            [str(TOOL), *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"lab {' '.join(words[:3])} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout
