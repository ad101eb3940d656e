# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a backend on a test host is interrupted by a snapshot, and how many accounts are skipped, for each value of ``quiesce``."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import typing as t

import ansible
import trees

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
TOOL = REPOSITORY / "tests" / "lab" / "lab"
SESSIONS = "/var/lib/wa/sessions"
ACCOUNTS, FILES = 4, 1000
LOADS = {"a message every 0.2 s": 0.2, "without a pause": 0.0}
WAYS = ("none", "freeze", "stop")
# It rewrites a key and the credentials of one account after the other, and ends between two of them.
PROGRAM = """\
import itertools, json, pathlib, signal, sys, time
ending = []
signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
pause = float(pathlib.Path("/etc/wa/pause").read_text())
accounts = sorted(pathlib.Path(sys.argv[1]).iterdir())
for number, account in zip(itertools.count(), itertools.cycle(accounts)):
    held = json.loads((account / "creds.json").read_bytes())
    for name, data in (("pre-key-1.json", {"n": number}), ("creds.json", {**held, "accountSyncCounter": number})):
        (account / name).write_text(json.dumps(data))
    time.sleep(pause)
    if ending:
        sys.exit()
"""
UNIT = f"[Service]\nExecStart=/usr/bin/python3 /etc/wa/program {SESSIONS}\n"
Figures = dict[str, t.Any]


def measured(suite: str, runs: int) -> Figures:
    """Return by load and way: the seconds of interruption (median), and the accounts of all runs that were saved and skipped."""
    found: dict[str, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="lab-") as folder, _host(suite, pathlib.Path(folder)) as host:
        for load, pause in LOADS.items():
            host(f"echo {pause} >/etc/wa/pause; systemctl restart wa")
            found[load] = {way: _summary([_backup(host, way) for _run in range(runs)]) for way in WAYS}
        kernel = host("systemctl --version | head -1; stat -fc %T /sys/fs/cgroup").split("\n")
    return {"suite": suite, "runs": runs, "accounts": ACCOUNTS, "files": FILES, "host": kernel, "ways": found}


@contextlib.contextmanager
def _host(suite: str, folder: pathlib.Path) -> t.Iterator[t.Callable[..., str]]:
    """Boot a host with a backend, and always remove it; yields a function that runs a shell command as root."""
    environment = {**os.environ, "LAB_DIR": str(folder / "lab")}
    trees.make(folder / "accounts", ACCOUNTS, FILES)
    views = {
        REPOSITORY: "/opt/checkout",
        pathlib.Path(ansible.__file__).parents[1]: "/opt/controller",
        folder / "accounts": "/srv/accounts",
    }

    def lab(*words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [str(TOOL), *words], env=environment, input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"lab {words[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def run(command: str, stdin: str = "") -> str:
        return lab("ssh", "wa", command, stdin=stdin)

    try:
        lab(
            "up",
            "wa",
            suite,
            *(word for source, target in views.items() for word in ("--bind-ro", f"{source}:{target}")),
        )
        lab("wait", "wa")
        run(f"mkdir -p /etc/wa {SESSIONS} && cp -a /srv/accounts/. {SESSIONS}/ && chown -R root:root {SESSIONS}")
        run("cat >/etc/wa/program", stdin=PROGRAM)
        run("cat >/etc/systemd/system/wa.service && systemctl daemon-reload", stdin=UNIT)
        yield run
    finally:
        lab("destroy")


def _backup(host: t.Callable[..., str], way: str) -> Figures:
    options = {"path": SESSIONS, "unit": "wa", "layout": "baileys", "quiesce": way, "keep_last": 1, "keep_days": 0}
    module = "ansible_collections.whatsapp_ops.sessions.plugins.modules.session_backup"
    search_path = "/opt/checkout/playbooks/collections:/opt/controller"
    call = f"PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={search_path} python3 -m {module} || true"
    result: Figures = json.loads(host(call, stdin=json.dumps({"ANSIBLE_MODULE_ARGS": options})))
    if result.get("failed"):
        raise RuntimeError(result["msg"])
    return result


def _summary(results: t.Sequence[Figures]) -> Figures:
    return {
        "seconds": statistics.median(result["interruption_seconds"] for result in results),
        "saved": sum(result["saved"] for result in results),
        "skipped": sum(result["skipped"] for result in results),
    }
