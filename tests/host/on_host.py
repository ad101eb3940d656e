#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the test host: lays the scene anew, waits until the backend is well, tells how things stand. Prints JSON, metadata only.

on_host.py reset                   accounts at the legacy path as they were paired, no trace of a migration, backend running there
on_host.py look                    how things stand
on_host.py well SECONDS            the same, once the backend runs and all its accounts are connected, or the time is over
on_host.py messages SINCE          how many messages were sent since then (seconds since the epoch), and how many of them could not be read
on_host.py steps                   several steps (JSON on stdin) in one connection, with the outcome of each
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import typing as t
import urllib.request

UNIT = "whatsapp-backend.service"
LEGACY = pathlib.Path("/opt/whatsapp/current/.baileys_auth")
PRISTINE = pathlib.Path("/srv/pristine")
PATH = pathlib.Path("/var/lib/whatsapp-backend/sessions")
AREA = PATH.with_name(".sessions.whatsapp-ops")
CONTROL = pathlib.Path("/var/lib/whatsapp-ops")
DROP_INS = pathlib.Path(f"/etc/systemd/system/{UNIT}.d")
ENVIRONMENT_FILE = pathlib.Path("/etc/whatsapp-backend/env")
GUARD = pathlib.Path(f"/run/systemd/system/{UNIT}.d/00-whatsapp-ops-guard.conf")
RUNTIME = pathlib.Path("/run/whatsapp-ops")
EMULATOR = pathlib.Path("/run/whatsapp-emulator")
ACCOUNTS = 3
SEARCH_PATH = "/repository/playbooks/collections:/controller"


def main() -> None:
    verb, *arguments = sys.argv[1:]
    if verb == "steps":
        print(json.dumps([VERBS[step](*given) for step, *given in json.load(sys.stdin)]))
    else:
        print(json.dumps(VERBS[verb](*map(float, arguments))))


def reset() -> dict[str, t.Any]:
    if not PRISTINE.exists():
        shutil.copytree(LEGACY, PRISTINE)
    run("systemctl", "stop", UNIT)
    for place in (PATH.parent, CONTROL, DROP_INS, RUNTIME, LEGACY, GUARD.parent):
        shutil.rmtree(place, ignore_errors=True)
    LEGACY.unlink(missing_ok=True)
    for aside in (*LEGACY.parent.glob(f"{LEGACY.name}.migrated-*"), LEGACY.parent / f".{LEGACY.name}.whatsapp-ops"):
        shutil.rmtree(aside, ignore_errors=True)
    ENVIRONMENT_FILE.unlink(missing_ok=True)
    run("cp", "--archive", str(PRISTINE), str(LEGACY))
    run("chown", "--recursive", "whatsapp:whatsapp", str(LEGACY))
    DROP_INS.mkdir()
    (DROP_INS / "05-chatter.conf").write_text("[Service]\nEnvironment=CHATTER_MS=2000\n")
    run("systemctl", "daemon-reload")
    run("systemctl", "reset-failed", UNIT)
    run("systemctl", "start", UNIT)
    return well(30.0)


def module(name: str, options: dict[str, t.Any], wrapper: list[str]) -> dict[str, t.Any]:
    """Run a module of the checkout with the host's Python; return what it printed, nothing when it was killed."""
    begin(name, options, wrapper)
    return end()


def begin(name: str, options: dict[str, t.Any], wrapper: list[str]) -> int:
    """Start a module; return its PID (or its wrapper's)."""
    started = subprocess.Popen(
        [*wrapper, "python3", "-m", f"ansible_collections.whatsapp_ops.sessions.plugins.modules.{name}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPYCACHEPREFIX": "/var/cache/bytecode",
            "PYTHONDONTWRITEBYTECODE": "1" if wrapper else "",  # a wrapper counts the system calls of the module alone
            "PYTHONPATH": SEARCH_PATH,
        },
    )
    assert started.stdin
    started.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": options}))
    started.stdin.close()
    _begun.append(started)
    return started.pid


def end() -> dict[str, t.Any]:
    """Wait for the module that was begun last."""
    ended = _begun.pop()
    assert ended.stdout
    told = ended.stdout.read()
    ended.wait()
    return t.cast("dict[str, t.Any]", json.loads(told)) if told.strip() else {}


def until(path: str, seconds: float = 20.0) -> bool:
    """Wait until a file is there; tell whether it came."""
    deadline = time.monotonic() + seconds
    while not pathlib.Path(path).exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def signalled(number: int) -> bool:
    """Send a signal to the module that was begun last, not to its wrapper."""
    children = run("pgrep", "--parent", str(_begun[-1].pid)).split()
    os.kill(int(children[0]), number)
    return True


def put(path: str, text: str) -> bool:
    """Write a file."""
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(text)
    return True


def sh(command: str) -> dict[str, t.Any]:
    """Run a shell command; return its exit code and all that it printed."""
    done = subprocess.run(
        ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return {"rc": done.returncode, "out": done.stdout}


def well(seconds: float) -> dict[str, t.Any]:
    deadline = time.monotonic() + seconds
    while True:
        now = look()
        if (now["well"] and not now["rescuers"]) or time.monotonic() > deadline:
            return now
        time.sleep(0.05)


def look() -> dict[str, t.Any]:
    shown = show("ActiveState", "SubState", "MainPID", "Result", "NeedDaemonReload", "NRestarts")
    health = asked()
    accounts = health.get("accounts", {})
    connected = accounts.get("connected", 0)
    pid = int(shown["MainPID"])
    return {
        **shown,
        "pid": pid,
        "sessions_path": environment(pid).get("SESSIONS_PATH"),
        "connected": connected,
        "needs_qr": accounts.get("needs_qr", 0),
        "well": shown["ActiveState"] == "active" and connected == ACCOUNTS and health.get("pid") == pid,
        "legacy": identities(LEGACY),
        "path": identities(PATH),
        "drop_ins": sorted(file.name for file in DROP_INS.glob("*")),
        "environment_file": ENVIRONMENT_FILE.exists(),
        "guarded": GUARD.exists() or (RUNTIME / f"{UNIT}.moving").exists(),
        "busy": (RUNTIME / f"{UNIT}.busy").exists(),
        "rescuers": len(run("systemctl", "list-units", "--no-legend", "--plain", "whatsapp-ops-rescue-*").split("\n"))
        - 1,
        "control": sorted(entry.name for entry in CONTROL.glob("*/*")),
        "boot_units": sorted(str(file) for file in pathlib.Path("/etc/systemd/system").rglob("whatsapp-ops-*")),
        "staged": sorted(entry.name for entry in AREA.glob("staging/*")),
    }


def messages(since: float) -> dict[str, int]:
    """Count the messages that the backend sent since then, and those that the other end could not decrypt.

    Those of the last second may still be on their way. The library makes a new Signal session with each start, so this does not tell
    whether the old one was of the newest generation: what is compared for that is the content of files, in tests/module.
    """
    sent: set[str] = set()
    read: set[str] = set()
    for file in EMULATOR.glob("*.jsonl"):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            body = record.get("body") or {}
            at = datetime.datetime.fromisoformat(record["at"].replace("Z", "+00:00")).timestamp()
            if record.get("accepted"):
                read.add(body["key"]["id"])
            elif isinstance(body, dict) and body.get("tag") == "message" and since < at < time.time() - 1:
                sent.add(body["attrs"]["id"])
    return {"sent": len(sent), "unread": len(sent - read)}


def identities(root: pathlib.Path) -> dict[str, str]:
    """Return a fingerprint of each linked account: the number that it is linked to, in its credentials."""
    return {file.parent.name: identity(file) for file in sorted(root.glob("*/creds.json"))}


def identity(credentials: pathlib.Path) -> str:
    for _attempt in range(50):
        try:
            me = json.loads(credentials.read_bytes()).get("me", {})
        except (
            ValueError,
            FileNotFoundError,
        ):  # the library truncates, then writes: the next look shows whether it is torn
            time.sleep(0.01)
            continue
        return hashlib.sha256(str(me.get("id", "fresh")).encode()).hexdigest()[:12]
    return "torn"


def asked() -> dict[str, t.Any]:
    try:
        with urllib.request.urlopen("http://127.0.0.1:8080/health", timeout=2) as answer:
            return t.cast("dict[str, t.Any]", json.load(answer))
    except (OSError, ValueError):
        return {}


def environment(pid: int) -> dict[str, str]:
    try:
        items = pathlib.Path(f"/proc/{pid}/environ").read_text().split("\0")
    except OSError:
        return {}
    return dict(item.split("=", 1) for item in items if "=" in item)


def show(*names: str) -> dict[str, str]:
    return dict(
        line.split("=", 1) for line in run("systemctl", "show", f"--property={','.join(names)}", UNIT).splitlines()
    )


def run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


_begun: list[subprocess.Popen[str]] = []
VERBS: dict[str, t.Callable[..., t.Any]] = {
    verb.__name__: verb for verb in (reset, look, well, messages, module, begin, end, until, signalled, put, sh)
}

if __name__ == "__main__":
    main()
