# SPDX-License-Identifier: GPL-3.0-or-later
"""For how long the other end hears nothing of a backend that a snapshot interrupts, with the real library on a test host."""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
import tempfile
import time
import typing as t

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "host"))

from hostkit import DROP_INS, LEGACY, UNIT, Host  # noqa: E402

WAYS = ("none", "freeze", "stop")
EVERY_MS = 10  # so often that no account is ever quiet
# Prints the longest time between two messages of an account, in seconds, and the number of messages.
GAPS = """\
import datetime, json, pathlib, sys
since, longest, number = float(sys.argv[1]), 0.0, 0
for file in pathlib.Path("/run/whatsapp-emulator").glob("*.jsonl"):
    times = [since]
    for line in file.read_text().splitlines():
        record = json.loads(line)
        body = record.get("body")
        if isinstance(body, dict) and body.get("tag") == "message":
            at = datetime.datetime.fromisoformat(record["at"].replace("Z", "+00:00")).timestamp()
            times += [at] if at > since else []
    number += len(times) - 1
    longest = max([longest, *(after - before for before, after in zip(times, times[1:]))])
print(json.dumps({"longest": longest, "messages": number}))
"""
Figures = dict[str, t.Any]


def measured(suite: str, runs: int) -> Figures:
    """Return by way: the seconds of silence (median), and the accounts of all runs that were saved and skipped."""
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        host = Host("backend", suite, pathlib.Path(folder) / "lab")
        try:
            host.up()
            host.put(f"{DROP_INS}/06-chatter.conf", f"[Service]\nEnvironment=CHATTER_MS={EVERY_MS}\n")
            host.put("/root/gaps.py", GAPS)
            host.sh(f"systemctl daemon-reload; systemctl restart {UNIT}")
            found: dict[str, list[Figures]] = {way: [] for way in WAYS}
            for _run in range(runs):
                for way in WAYS:
                    found[way].append(_backup(host, way))
        finally:
            host.lab("destroy")
    return {
        "suite": suite,
        "runs": runs,
        "every": EVERY_MS,
        "ways": {way: _summary(each) for way, each in found.items()},
    }


def _backup(host: Host, way: str) -> Figures:
    """Save a snapshot while messages are sent; return what the module returns, and the longest silence."""
    host.well(30.0)
    since = float(host.sh("date +%s.%N"))
    result = host.module("session_backup", path=LEGACY, unit=UNIT, quiesce=way, keep_last=1, keep_days=0)
    if result.get("failed"):
        raise RuntimeError(result["msg"])
    now = host.well(30.0)
    if not now["well"]:
        raise RuntimeError(f"the backend has not come back: {now}")
    time.sleep(1)  # messages of every account after it
    return {**result, **json.loads(host.sh(f"python3 /root/gaps.py {since}"))}


def _summary(results: t.Sequence[Figures]) -> Figures:
    return {
        "seconds": statistics.median(result["longest"] for result in results),
        "saved": sum(result["saved"] for result in results),
        "skipped": sum(result["skipped"] for result in results),
        "messages": sum(result["messages"] for result in results),
    }
