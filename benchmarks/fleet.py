# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares the playbook persist with a manually written one, on many hosts, and writes fleet.md.

    fleet.py [--hosts "1 20 50"] [--runs 3] [--report]

Candidates alternate (A B C A B C), each on reset hosts: a first run, a run with nothing to do over the connections that are already
open, and one that opens its own. ``--report`` only writes the last figures again.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import typing as t

import fleet_report
from fleet_hosts import REPOSITORY, Fleet
from fleet_report import Figures
from measure import busy
from report import machine

HERE = pathlib.Path(__file__).resolve().parent

# The root of the hosts is an overlay, which persist correctly treats as ephemeral.
SETTINGS = {"wa_health_url": "http://127.0.0.1:8080/health", "wa_allow_ephemeral": True}
WAYS: dict[str, list[str]] = {
    "by_hand": [str(HERE / "by_hand.yml")],
    "persist": ["whatsapp_ops.sessions.persist", "--extra-vars", json.dumps(SETTINGS)],
    "ping": [str(HERE / "ping.yml")],
}


@dataclasses.dataclass(frozen=True)
class Run:
    """The cost of a run: wall time, and CPU seconds of the controller (with ssh), of all hosts, of everything else."""

    wall: float
    controller: float
    targets: float
    tasks: int
    events: int
    others: float


def main() -> None:
    options = _options()
    work = REPOSITORY / ".work" / "bench-fleet"
    last = work / "last.json"
    if not options.report:
        _inherit_orphans()
        signal.signal(signal.SIGTERM, lambda *_signal: sys.exit("ended"))  # so that no host remains
        work.mkdir(parents=True, exist_ok=True)
        _measure(options, work, lambda measured: last.write_text(json.dumps(measured), encoding="utf-8"))
    fleet_report.write(json.loads(last.read_text(encoding="utf-8")), HERE)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", default="1 20 50")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ways", default=" ".join(WAYS))
    parser.add_argument("--report", action="store_true")
    return parser.parse_args()


def _measure(options: argparse.Namespace, work: pathlib.Path, save: t.Callable[[Figures], t.Any]) -> None:
    """Measure; results are saved after each round, in case that a later one does not end."""
    begin = time.monotonic()
    measured: Figures = {"date": datetime.date.today().isoformat(), "machine": machine(), "hosts": {}}
    for number in map(int, options.hosts.split()):
        figures: dict[str, list[Figures]] = {}
        measured["hosts"][number] = figures
        with Fleet(number, work).up() as fleet:
            for turn in range(options.runs):
                for way in options.ways.split():
                    figures.setdefault(way, []).append(
                        _measure_way(fleet, way, f"{number} hosts, run {turn + 1}, {way}")
                    )
                save({**measured, "minutes": round((time.monotonic() - begin) / 60, 1)})


def _measure_way(fleet: Fleet, way: str, title: str) -> Figures:
    fleet.lay()
    runs = {}
    for kinds in (("first", "no_change"), ("reconnected",)):
        with _connections() as sockets:
            for kind in kinds:
                runs[kind] = dataclasses.asdict(_run(fleet, WAYS[way], sockets))
                print(f"{title}, {kind}: {json.dumps(runs[kind])}", flush=True)
    return runs


@contextlib.contextmanager
def _connections() -> t.Iterator[pathlib.Path]:
    """Create a directory for persistent connections, which ansible-playbook leaves open, and close them at the end."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        sockets = pathlib.Path(folder) / "ssh"
        try:
            yield sockets
        finally:
            for socket in sockets.glob("*"):
                subprocess.run(
                    ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "nowhere"],
                    stderr=subprocess.DEVNULL,
                    check=False,
                )
            for pid in _orphans("ssh"):
                os.waitpid(pid, 0)


def _run(fleet: Fleet, playbook: list[str], sockets: pathlib.Path) -> Run:
    """Run a playbook, which must succeed on all hosts, with the connections in ``sockets``."""
    command = [
        str(pathlib.Path(sys.executable).with_name("ansible-playbook")),
        "--inventory",
        str(fleet.inventory),
        *playbook,
    ]
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, tempfile.TemporaryFile("w+") as printed:
        counted = pathlib.Path(folder) / "events"
        environment = {
            # As in a shell of an operator: with these variables, ansible-playbook would compile itself again at each start.
            **{
                name: value
                for name, value in fleet.environment.items()
                if not name.startswith(("PYTHONDONT", "PYTHONPYC"))
            },
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks" / "collections"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
            # A separate directory, because Ansible runs every program in it.
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "fleet_callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "count_events",
            "COUNT_EVENTS": str(counted),
        }
        begin, worked, targets, connected = time.monotonic(), busy(), fleet.cpu_seconds(), _connected()
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _pid, status, usage = os.wait4(process.pid, 0)
        wall, worked, targets = time.monotonic() - begin, busy() - worked, fleet.cpu_seconds() - targets
        process.returncode = os.waitstatus_to_exitcode(status)
        controller = usage.ru_utime + usage.ru_stime + _connected() - connected
        if process.returncode:
            printed.seek(0)
            raise RuntimeError(f"{' '.join(playbook)} ended with {process.returncode}: {printed.read()[-4000:]}")
        events = json.loads(counted.read_text(encoding="ascii"))
    return Run(wall, controller, targets, events["tasks"], events["events"], max(0.0, worked - controller - targets))


def _connected() -> float:
    """Return the CPU seconds of the open connections, proc(5)."""
    return sum(int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in _orphans("ssh")) / 1e9


def _orphans(name: str) -> list[int]:
    """Return the children of this process that run the program ``name``; the hosts are children of it, too."""
    found = []
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            before, _mark, after = status.read_text().rpartition(") ")
            pid, program = before.split(" (", 1)
            if program == name and int(after.split()[1]) == os.getpid():
                found.append(int(pid))
    return found


def _inherit_orphans() -> None:
    """Adopt the processes of connections, which detach from ansible-playbook, to measure their cost (prctl(2))."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


if __name__ == "__main__":
    main()
