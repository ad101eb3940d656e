# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures the playbook persist beside one that is written by hand from the first seed, on many hosts, and writes fleet.md.

    fleet.py [--hosts "1 20 50"] [--runs 3] [--report]

Ways alternate (A B C A B C), each from a freshly laid scene: a first run, one where nothing is to be done over the connections that are
open by then, and one that opens its own. ``--report`` only writes the last figures down again.
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

# The hosts' root is an overlay, which persist rightly takes for one that does not last.
SETTINGS = {"wa_health_url": "http://127.0.0.1:8080/health", "wa_allow_ephemeral": True}
WAYS: dict[str, list[str]] = {
    "by_hand": [str(HERE / "by_hand.yml")],
    "persist": ["whatsapp_ops.sessions.persist", "--extra-vars", json.dumps(SETTINGS)],
    "ping": [str(HERE / "ping.yml")],
}


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run of a playbook cost: wall time, and CPU seconds of the controller (with its ssh), of all hosts, of everything else."""

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
        signal.signal(signal.SIGTERM, lambda *_signal: sys.exit("ended"))  # so that no host stays behind
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
    """Measure; what is measured so far is saved after each round, should the rest never end."""
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
    """Make a place for open connections, which ansible-playbook leaves to the next run, and end them with it."""
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
    """Run a playbook that has to succeed on all hosts, over the connections that are open at ``sockets``, or are opened there."""
    command = [
        str(pathlib.Path(sys.executable).with_name("ansible-playbook")),
        "--inventory",
        str(fleet.inventory),
        *playbook,
    ]
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder, tempfile.TemporaryFile("w+") as printed:
        counted = pathlib.Path(folder) / "events"
        environment = {
            # As an operator's shell: with these ansible-playbook would compile itself anew at each start.
            **{
                name: value
                for name, value in fleet.environment.items()
                if not name.startswith(("PYTHONDONT", "PYTHONPYC"))
            },
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks" / "collections"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
            # It lies alone there: Ansible runs every program beside it, too.
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
    """Return the CPU seconds that the open connections have used so far, proc(5)."""
    return sum(int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in _orphans("ssh")) / 1e9


def _orphans(name: str) -> list[int]:
    """Return the children of this process that run the program ``name``; the hosts are children of it, too."""
    found = []
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            before, _mark, after = status.read_text().rpartition(") ")
            pid, program = before.split(" (", 1)
            if program == name and int(after.split()[1]) == os.getpid():
                found.append(int(pid))
    return found


def _inherit_orphans() -> None:
    """Connections are kept by processes that leave ansible-playbook: have them as children, to learn what they cost (prctl(2))."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


if __name__ == "__main__":
    main()
