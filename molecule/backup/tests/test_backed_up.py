# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the lost host, whose disk is still there, and its replacement, after the last restore."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
SESSIONS = "/var/lib/whatsapp-backend/sessions"
STORES = "/var/lib/whatsapp-ops/*/backups"
LOGGED_OUT = "15550100003"
LOST, SPARE = "wa-lost", "wa-spare"


@pytest.fixture
def name(host) -> str:
    return host.check_output("hostname")


def identities(host) -> dict[str, str]:
    now = host.check_output("cd /opt/whatsapp/current && runuser -u whatsapp -- node identity.mjs %s", SESSIONS)
    return json.loads(now)


def before() -> dict[str, str]:
    """Return the identities of the accounts when they were paired."""
    lab = CHECKOUT / "tests" / "lab" / "lab"
    read = [lab, "ssh", LOST, "--", "cat", "/root/lab/before.identity"]
    return json.loads(subprocess.run(read, check=True, capture_output=True).stdout)


def test_the_accounts_are_who_they_were_on_both_hosts(host):
    now = identities(host)
    assert {account for account, identity in before().items() if now[account] != identity} == {LOGGED_OUT}


def test_only_the_account_that_was_logged_out_needs_a_qr_code(host, name):
    if name == LOST:
        assert host.check_output("systemctl show --property=ActiveState --value whatsapp-backend") == "inactive"
        return
    program = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8080/health').read().decode())"
    health = json.loads(host.check_output("python3 -c %s", program))
    assert health["accounts"] == {"total": 3, "connected": 2, "needs_qr": 1}


def test_snapshots_are_private_and_complete(host):
    assert host.check_output(f"stat --format=%a:%U {STORES}/.. {STORES}/backup-* | sort -u") == "700:root"
    assert host.run(f"find {STORES} /etc/whatsapp-ops -type f -perm /077 | grep .").rc == 1
    assert host.run(f"find {STORES} -name '.partial-*' | grep .").rc == 1
    kept = host.check_output(f"ls {STORES}").split()
    assert all(sum(entry.startswith(f"backup-{account}-") for entry in kept) >= 2 for account in before())


def test_schedules_are_enabled_where_they_were_wanted(host, name):
    units = host.check_output("cd /etc/systemd/system && find . -name 'whatsapp-ops-*' -type f -printf '%f\\n'").split()
    kinds = sorted(unit.split("-")[2] + "." + unit.rpartition(".")[2] for unit in units if "-settled" not in unit)
    assert kinds == (
        ["backup.path", "backup.service", "backup.timer", "recover.service", "recover.timer", "restic.service"]
        if name == LOST
        else []
    )
    started = [unit for unit in units if unit.endswith((".timer", ".path")) and "-settled" not in unit]
    assert all(host.check_output("systemctl is-enabled %s", unit) == "enabled" for unit in started)


def test_the_service_that_recovers_is_confined(host, name):
    if name == LOST:
        unit = host.check_output("cd /etc/systemd/system && ls whatsapp-ops-recover-*.service")
        last = host.check_output("systemd-analyze security --no-pager %s | tail -n 1", unit)
        assert float(last.partition(": ")[2].split()[0]) < 3.0, last


def test_no_run_left_anything_behind(host):
    assert host.run("ls /var/lib/whatsapp-backend/.sessions.whatsapp-ops/staging | grep .").rc == 1
    assert host.run("systemctl list-units --plain --no-legend 'whatsapp-ops-rescue-*' | grep .").rc == 1
