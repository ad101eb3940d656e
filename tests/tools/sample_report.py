# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a report of hosts that do not exist: `make report-sample` renders it and takes the picture of the README.

The records are the same in each run.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import time
import typing as t

from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._report_document import Answer, document_of
from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._report_page import page_of

HOUR, DAY = 3600, 86400
NOW = 1_790_000_000
SETTINGS = {"max_age": 26 * HOUR, "days": 30}
LAYOUTS = ("baileys", "baileys", "baileys", "wwebjs", "whatsmeow", "waha")
SITES = ("ams", "fra", "gru", "lon", "sin", "nyc")


def text_of(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def account(chance: random.Random, moment: float) -> dict[str, t.Any]:
    state = chance.choices(("paired", "pending", "fresh", "corrupt"), (960, 18, 18, 1))[0]
    files, key = chance.randint(40, 9000), f"{chance.getrandbits(64):016x}"
    saved = state == "paired" and chance.random() > 0.004
    return {
        "id": f"{chance.choice('4513')}…{chance.randint(0, 9)}-{key[:6]}",
        "key": key,
        "state": state,
        "problems": ["readable_by_others"] if chance.random() < 0.01 else [],
        "files": files,
        "bytes": files * chance.randint(300, 900),
        "newest": text_of(moment - chance.expovariate(1 / HOUR)),
        "locked": False,
        "saved": None,
        "backup_age_seconds": int(min(chance.expovariate(1 / (5 * HOUR)), 60 * HOUR)) if saved else None,
    }


def history(chance: random.Random, moment: float, accounts: int) -> list[dict[str, t.Any]]:
    starts = [("started", chance.uniform(0, 30)) for _number in range(chance.choice((0, 0, 1, 1, 2)))]
    rare = [("failed", 0.01), ("migrated", 0.2), ("displaced", 0.03)]
    rare_days = [(kind, min(29.9, chance.expovariate(1 / 9))) for kind, often in rare if chance.random() < often]
    found = sorted((moment - days * DAY, kind) for kind, days in (*starts, *rare_days))
    return [
        {"event": kind, "time": text_of(at), "accounts": accounts if kind == "migrated" else 0} for at, kind in found
    ]


def record_of(chance: random.Random, accounts: int, moment: float = NOW) -> dict[str, t.Any]:
    """Return a record as session_report does."""
    listed = [account(chance, moment) for _number in range(accounts)]
    ages = [one["backup_age_seconds"] for one in listed if one["state"] == "paired"]
    known = [age for age in ages if age is not None]
    states = {
        state: sum(one["state"] == state for one in listed) for state in ("paired", "pending", "fresh", "corrupt")
    }
    stopped = chance.random() < 0.006
    finding = {"id": "stop_timeout", "severity": "high", "title": "The backend is killed before it has saved"}
    finding |= {"where": "whatsapp-backend.service", "evidence": "it is killed after 5 seconds, the layout needs 30"}
    finding |= {"remedy": "run the playbook persist"}
    return {
        "version": 1,
        "taken": text_of(moment),
        "unit": "whatsapp-backend.service",
        "path": "/var/lib/whatsapp-backend/sessions",
        "exists": True,
        "layout": chance.choice(LAYOUTS),
        "states": states,
        "total": accounts,
        "linked": states["paired"],
        "files": sum(one["files"] for one in listed),
        "bytes": sum(one["bytes"] for one in listed),
        "accounts": listed,
        "displaced": 0,
        "duplicates": 0,
        "backend": {
            "state": "stopped" if stopped else "running",
            "since": None if stopped else text_of(moment - chance.expovariate(1 / (6 * DAY))),
            "use": "stopped" if stopped else "used",
            "where": [],
            "problem": "",
        },
        "backups": {
            "exists": True,
            "snapshots": 7 * accounts,
            "bytes": 0,
            "oldest_age_seconds": max(known, default=None),
            "without_snapshot": len(ages) - len(known),
            "last_run": text_of(moment - 2 * HOUR),
            "last_failed": 0,
        },
        "history": history(chance, moment, accounts),
        "findings": [finding] if chance.random() < 0.02 else [],
        "accepted": [],
        "progress": None,
        "problems": [],
    }


def answers_of(hosts: int, accounts: int) -> dict[str, Answer]:
    """Return the answers of a fleet; a few hosts did not answer. ``accounts``: of each host."""
    chance = random.Random(7)
    found = {}
    for number in range(1, hosts + 1):
        name = f"wa{number:04d}.{chance.choice(SITES)}.example.org"
        record = record_of(chance, accounts)
        if chance.random() < 0.004:
            found[name] = Answer("unreachable", message="Failed to connect to the host via ssh: Connection timed out")
        else:
            found[name] = Answer("ok", record)
    return found


def sample_of(hosts: int, accounts: int) -> dict[str, t.Any]:
    """Return a document that is the tenth of its kind."""
    answers = answers_of(hosts, accounts)
    document = document_of(answers, text_of(NOW), "WhatsApp sessions", SETTINGS, None)
    chance = random.Random(3)
    for host in document["hosts"]:
        if host["record"]:
            for one in host["record"]["accounts"]:
                one["bytes"] = int(one["bytes"] * chance.uniform(0.97, 1.0))
            host["record"]["bytes"] = sum(one["bytes"] for one in host["record"]["accounts"])
    size, accounts_now, linked = (document["totals"][name] for name in ("bytes", "accounts", "linked"))
    document["taken"] = text_of(NOW - DAY)
    document["trend"] = [
        [
            text_of(NOW - (40 - day) * DAY),
            accounts_now,
            linked,
            int(size * (0.62 + 0.0085 * day + 0.05 * chance.random())),
        ]
        for day in range(40)
    ]
    return document_of(answers, text_of(NOW), "WhatsApp sessions", SETTINGS, document)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--hosts", type=int, default=400)
    parser.add_argument("--accounts", type=int, default=12)
    parser.add_argument("--picture", type=pathlib.Path, help="where to write a picture of it")
    given = parser.parse_args()
    document = sample_of(given.hosts, given.accounts)
    given.directory.mkdir(parents=True, exist_ok=True)
    (given.directory / "report.html").write_text(page_of(document), encoding="utf-8")
    (given.directory / "report.json").write_text(json.dumps(document), encoding="utf-8")
    if given.picture:
        from browser import Browser

        with Browser() as browser:
            browser.open(given.directory / "report.html", height=1180)
            browser.picture(given.picture, whole=False)


if __name__ == "__main__":
    main()
