# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs jobs of the collection without Ansible, each in a child made by fork(2): what a run does is then the job's, not Python's start.

Requests and replies are lines of JSON on stdin and stdout. ``{"job": "migration", "options": {...}, "clock": 0, "home": "/place"}`` is
answered with the child's PID; the child waits until the next line (strace(1) can be attached meanwhile), then comes its outcome.
``foreseen`` tells an error
that the code has a sentence for from one that it does not know. ``clock`` is by how many seconds the child's clock is wrong, ``home``
stands for /var/lib/whatsapp-ops.
The first line is ``{}``: it is ready.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import mmap
import os
import pkgutil
import signal
import sys
import time
import traceback
import typing as t

UTILS = "ansible_collections.whatsapp_ops.sessions.plugins.module_utils"
JOBS = {
    "migration": importlib.import_module(f"{UTILS}._migration.job"),
    "backup": importlib.import_module(f"{UTILS}._backup.job"),
    "restore": importlib.import_module(f"{UTILS}._restore.job"),
}
START = {signal.SIGUSR1}
# Also what jobs import only where they need it.
for _found in pkgutil.walk_packages(importlib.import_module(UTILS).__path__, f"{UTILS}."):
    if not _found.name.endswith("._core.module"):  # which needs Ansible
        importlib.import_module(_found.name)
_names, _errors, _job = (importlib.import_module(f"{UTILS}._core.{name}") for name in ("names", "errors", "job"))


def main() -> None:
    os.chdir("/")
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_BLOCK, START)
    _say({})
    for line in sys.stdin:
        request = json.loads(line)
        told = mmap.mmap(-1, 1 << 20)  # memory that both have: telling the outcome is no system call that could be hit
        child = os.fork()
        if not child:
            signal.sigwait(START)  # a system call that no test has fail
            _run(request, told)
        _say({"pid": child})
        sys.stdin.readline()
        os.kill(child, *START)
        _pid, status = os.waitpid(child, 0)
        _bury()
        _say({"killed": True} if os.WIFSIGNALED(status) else json.loads(told[:].rstrip(b"\0")))


def _run(request: dict[str, t.Any], told: mmap.mmap) -> None:
    try:
        _set_clock(request["clock"])
        _names.HOME = request["home"]
        outcome = json.dumps(_outcome(JOBS[request["job"]], request["options"])).encode()
        told[: len(outcome)] = outcome
    finally:
        os._exit(0)


def _bury() -> None:
    """Wait for the orphans of a job that was killed: they are left to the first process of a PID namespace, which may be this one."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _set_clock(wrong_by: float) -> None:
    """Set the clock of this process; that of the machine, which stamps files, belongs to everybody."""
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() + wrong_by
    time.time_ns = lambda: right_ns() + int(wrong_by * 1_000_000_000)


def _outcome(job: t.Any, options: dict[str, t.Any]) -> dict[str, t.Any]:
    try:
        outcome = _job.execute(job, options, check_mode=False)
    except _errors.SessionsError as error:
        return {"failed": str(error), "foreseen": True}
    except Exception:
        return {"failed": traceback.format_exc(), "foreseen": False}
    return {"changed": outcome.changed, **outcome.report.values}


def _say(reply: dict[str, t.Any]) -> None:
    sys.stdout.write(f"{json.dumps(reply)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
