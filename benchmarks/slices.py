# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures a job that is cut into slices as AWX does, on many test hosts, and writes slices.md.

    slices.py [--hosts 100] [--slices "1 2 4"] [--runs 3]

The job is `persist` in check mode, which AWX may slice. Each slice is an ansible-playbook of its own with every n-th host. Slices run one
after the other, each alone on this machine as on an execution node, and then all at the same time on this machine. The order of the numbers
of slices is repeated in each round.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import datetime
import json
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t

from fleet import SETTINGS
from fleet_hosts import REPOSITORY, Fleet
from report import machine

HERE = pathlib.Path(__file__).resolve().parent
ALLOWED = 0.15  # of the time of the whole job


class Round(t.NamedTuple):
    """Seconds of each slice alone, and of all of them at the same time."""

    alone: tuple[float, ...]
    together: float


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_signal: sys.exit("ended"))  # so that no host remains
    work = REPOSITORY / ".work" / "bench-slices"
    work.mkdir(parents=True, exist_ok=True)
    counts = [int(count) for count in options.slices.split()]
    with Fleet(options.hosts, work).up() as fleet:
        fleet.lay()
        _played(fleet, fleet.names)  # fills the caches of this machine and of the hosts
        rounds: dict[int, list[Round]] = {count: [] for count in counts}
        for number in range(options.runs):
            for count in counts:
                rounds[count].append(_round(fleet, count))
                print(f"round {number + 1}, {count} slices: {rounds[count][-1]}", flush=True)
    page = "\n".join(_page(options, rounds)) + "\n"
    (HERE / "slices.md").write_text(page, encoding="utf-8")
    print(page)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--slices", default="1 2 4")
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


def _round(fleet: Fleet, count: int) -> Round:
    slices = [fleet.names[offset::count] for offset in range(count)]
    alone = tuple(_played(fleet, names) for names in slices)
    if count == 1:
        return Round(alone, alone[0])
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda names: _played(fleet, names), slices))
    return Round(alone, time.monotonic() - begin)


def _played(fleet: Fleet, names: t.Sequence[str]) -> float:
    """Run the job on some hosts with connections of its own; return the seconds. Raises RuntimeError if a host fails."""
    with tempfile.TemporaryDirectory(prefix="slice-") as folder:
        sockets = pathlib.Path(folder) / "ssh"
        begin = time.monotonic()
        done = subprocess.run(
            [
                *(
                    str(pathlib.Path(sys.executable).with_name("ansible-playbook")),
                    "whatsapp_ops.sessions.persist",
                    "--check",
                ),
                *(
                    "--inventory",
                    str(fleet.inventory),
                    "--limit",
                    ",".join(names),
                    "--extra-vars",
                    json.dumps(SETTINGS),
                ),
            ],
            env={
                **fleet.environment,
                "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks" / "collections"),
                "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - begin
        for socket in sockets.glob("*"):
            with contextlib.suppress(OSError):
                close = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "nowhere"]
                subprocess.run(close, stderr=subprocess.DEVNULL, check=False)
    seen = sum(f"{name} " in done.stdout.partition("PLAY RECAP")[2] for name in names)
    if done.returncode or seen != len(names):
        raise RuntimeError(f"the job ended with {done.returncode}: {done.stdout[-4000:]}{done.stderr[-2000:]}")
    return seconds


def _page(options: argparse.Namespace, rounds: t.Mapping[int, t.Sequence[Round]]) -> t.Iterator[str]:
    yield "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->"
    yield "<!-- Written by `make bench-slices`; do not edit. -->"
    yield "# A job in slices\n"
    yield f"{datetime.date.today().isoformat()}. {machine()}.\n"
    yield (
        f"`persist` in check mode on {options.hosts} hosts, which share an image. {_rounds(options.runs)}. *Alone*: the longest "
        "slice while it runs alone on this machine, as on an execution node of its own. *Of ideal*: that time, multiplied by the number of "
        f"slices, compared with the whole job; the goal is at most {1 + ALLOWED:.2f}. *Together*: all slices at the same time on this "
        "machine, whose cores they and the hosts share, compared with the whole job.\n"
    )
    yield "| slices | hosts of a slice | alone, seconds | of ideal | goal met | together, seconds | of the whole job |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    whole = statistics.median(one.alone[0] for one in rounds[1])
    for count, found in rounds.items():
        alone = statistics.median(max(one.alone) for one in found)
        together = statistics.median(one.together for one in found)
        ideal = alone * count / whole
        met = "" if count == 1 else "yes" if ideal <= 1 + ALLOWED else "no"
        yield (
            f"| {count} | {-(-options.hosts // count)} | {alone:.1f} | {ideal:.2f} | {met} | {together:.1f} | {together / whole:.2f} |"
        )


def _rounds(number: int) -> str:
    return f"Medians of {number} rounds" if number > 1 else "One round"


if __name__ == "__main__":
    main()
