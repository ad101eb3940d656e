# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that supervises a host from its boot until it is off."""

from __future__ import annotations

import signal
import subprocess

from .command import run
from .host import Host, machine
from .layout import Lab

# systemd-nspawn --keep-unit leaves the reboot to its caller, and requests it with this exit code.
REBOOT_ASKED_FOR = 133


def until_off(lab: Lab, host: Host) -> int:
    """Boot the host, boot it again when it reboots itself, and shut it down cleanly on SIGTERM."""
    root = _mounted_root(lab, host)
    running: list[subprocess.Popen] = []
    stopping = False

    def power_off(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for nspawn in running:
            nspawn.terminate()

    signal.signal(signal.SIGTERM, power_off)
    code = REBOOT_ASKED_FOR
    while code == REBOOT_ASKED_FOR and not stopping:
        nspawn = subprocess.Popen(_nspawn(lab, host, root), stdin=subprocess.DEVNULL)
        running[:] = [nspawn]
        if stopping:
            nspawn.terminate()
        code = nspawn.wait()
    return code


def _mounted_root(lab: Lab, host: Host) -> str:
    folder = host.folder(lab)
    if not host.overlay:
        return str(host.root(lab))
    for part in ("work", "merged"):
        (folder / part).mkdir(exist_ok=True)
    layers = f"lowerdir={host.image},upperdir={host.root(lab)},workdir={folder}/work"
    run(["mount", "-t", "overlay", "overlay", "-o", layers, folder / "merged"])
    return str(folder / "merged")


def _nspawn(lab: Lab, host: Host, root: str) -> list[str]:
    return [
        # The host never outlives this process.
        "setpriv",
        "--pdeathsig=TERM",
        "systemd-nspawn",
        "--quiet",
        "--boot",
        f"--directory={root}",
        f"--machine={machine(lab, host)}",
        f"--hostname={host.name}",
        f"--network-bridge={lab.bridge}",
        "--register=no",
        "--keep-unit",
        "--kill-signal=SIGRTMIN+3",
        "--console=pipe",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        *(f"--bind-ro={bind}" for bind in host.binds),
        *([f"--system-call-filter={' '.join(host.system_calls)}"] if host.system_calls else ()),
    ]
