# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that systemd runs on a real host without Ansible: after an account appears, copied with restic, and when they fail."""

from __future__ import annotations

import json
import re
import time
import typing as t

import pytest
from hostkit import DROP_INS, PATH, SECONDS, UNIT, Host
from playkit import Play, play

REPOSITORY = "/srv/repository"
PASSWORD = "/etc/whatsapp-ops/restic-password"
SETTINGS: t.Final = {"wa_backup_restic_repository": REPOSITORY, "wa_backup_settle": "2s"}
NEW = "15550109999"


class Scheduled(t.NamedTuple):
    """The host, with its schedule. ``service`` saves snapshots, ``copying`` copies them."""

    host: Host
    service: str
    copying: str
    store: str

    def show(self, name: str, unit: str) -> str:
        return self.host.sh(f"systemctl show --value -p {name} {unit}").strip()

    def wait(self, command: str) -> None:
        """Wait until a shell command succeeds."""
        deadline = time.monotonic() + SECONDS
        while self.host.sh(f"{command} >/dev/null 2>&1 && echo yes || true").strip() != "yes":
            assert time.monotonic() < deadline, command
            time.sleep(0.3)

    def rest(self) -> None:
        """Wait until no job runs, or is about to because accounts have changed."""
        units = "'whatsapp-ops-*-settled.timer' 'whatsapp-ops-*.service'"
        self.wait(f'test -z "$(systemctl list-units --no-legend --state=active --state=activating {units})"')

    def printed(self, unit: str) -> str:
        """Return what the program of a unit printed in its last run."""
        run = self.show("InvocationID", unit)
        return self.host.sh(f"journalctl --sync; journalctl -o cat --no-pager _SYSTEMD_INVOCATION_ID={run}")


def backup(host: Host, *options: str, **settings: t.Any) -> Play:
    """Run the playbook, as loudly as can be; nothing from inside a session may be in what it shows."""
    played = play(host, "backup", "-vvv", "--diff", *options, **{**SETTINGS, **settings})
    for secret in ("CANARY", *host.before["path"]):
        assert secret.lower() not in played.output.lower(), secret
    return played


@pytest.fixture(scope="module")
def at(booted: Host) -> t.Iterator[Scheduled]:
    """The host after persist and backup. Its backend is stopped, and sends no messages later, so that only tests change accounts."""
    booted.reset()
    booted.put(f"{DROP_INS}/05-chatter.conf", "[Service]\nEnvironment=CHATTER_MS=0\n")
    booted.sh("systemctl daemon-reload")
    played = play(booted, "persist")
    assert played.rc == 0, played.output
    booted.before = booted.well()
    booted.sh(f"systemctl stop {UNIT}; install -d -m 0700 /etc/whatsapp-ops; umask 077; echo secret >{PASSWORD}")
    first = backup(booted)
    assert first.rc == 0, first.output
    units = booted.sh("cd /etc/systemd/system && ls whatsapp-ops-*.service").split()
    service = next(unit for unit in units if "-backup-" in unit)
    copying = next(unit for unit in units if "-restic-" in unit)
    store = booted.sh("ls -d /var/lib/whatsapp-ops/*/backups").strip()
    try:
        yield Scheduled(booted, service, copying, store)
    finally:
        for job in ("backup", "restic"):
            booted.module("session_timer", job=job, options={"path": PATH}, state="absent")
        assert "whatsapp-ops-backup" not in booted.sh("ls /etc/systemd/system /etc/systemd/system/*.wants; ls /etc")
        booted.sh(f"rm -rf {REPOSITORY} {store} /etc/whatsapp-ops")


def test_a_run_of_systemd_saves_what_the_backend_wrote_and_copies_it(at: Scheduled) -> None:
    copied = at.host.sh(f"stat -c %Y%i {at.store}/last_copy.json")
    at.host.sh(f"systemctl start {UNIT}")
    at.host.before = at.host.well()
    at.host.sh(f"systemctl start {at.service}")
    assert at.show("Result", at.service) == "success"
    counts = at.printed(at.service).splitlines()
    line = next(line for line in counts if line.startswith("saved="))
    assert "skipped=0" in line
    at.wait(f"test \"$(stat -c %Y%i {at.store}/last_copy.json)\" != '{copied.strip()}'")
    at.wait(f"test $(systemctl show --value -p ActiveState {at.copying}) = inactive")
    assert at.show("Result", at.copying) == "success"
    assert "copied=" in at.printed(at.copying)
    for word in ("CANARY", *at.host.before["path"]):
        assert word not in "\n".join(counts)


def test_an_account_that_appears_is_saved_soon(at: Scheduled) -> None:
    account = at.host.before["path"] and min(at.host.before["path"])
    at.host.sh(f"cp -a {PATH}/{account} {PATH}/{NEW}")
    try:
        at.wait(f"ls -d {at.store}/backup-{NEW}-*")
        at.wait(f"test $(systemctl show --value -p ActiveState {at.service}) = inactive")
    finally:
        at.host.sh(f"rm -rf {PATH}/{NEW}")


def test_the_service_is_confined(at: Scheduled) -> None:
    for unit in (at.service, at.copying):
        told = at.host.sh(f"systemd-analyze security --no-pager {unit} | tail -n 1")
        assert float(re.findall(r": (\d+\.\d+)", told)[0]) < 3.0, told
    assert at.show("PrivateNetwork", at.service) == "yes"


def test_a_drill_restores_every_account_and_leaves_nothing(at: Scheduled) -> None:
    options = {"path": PATH, "repository": REPOSITORY, "password_file": PASSWORD, "state": "drilled"}
    drilled = at.host.module("session_restic", **options)
    assert drilled["drill"]["accounts"] == drilled["drill"]["sound"] >= 3, drilled
    assert not drilled["changed"]
    assert not at.host.sh("find /var/lib/whatsapp-ops -name 'drill-*'")
    assert not [name for name in at.host.before["path"] if name in json.dumps(drilled)]


def test_a_backup_that_fails_is_seen_in_the_unit_and_by_verify(at: Scheduled) -> None:
    at.host.sh(f"systemctl start {at.service}")
    at.rest()
    well = play(at.host, "verify")
    assert well.rc == 0, well.output

    at.rest()  # the health page of the backend writes below the sessions path
    at.host.sh(f"chmod 0755 {at.store}")
    try:
        assert at.host.sh(f"systemctl start {at.service} || echo failed").strip().endswith("failed")
        assert at.show("ActiveState", at.service) == "failed"
        assert "not private to root" in at.printed(at.service)
    finally:
        at.host.sh(f"chmod 0700 {at.store}")
    seen = play(at.host, "verify")
    assert seen.rc != 0
    assert f"the last run of {at.service} failed" in " ".join(seen.output.split())
    at.host.sh(f"systemctl start {at.service}")

    at.rest()
    at.wait(f"test $(($(date +%s) - $(stat -c %Y {at.store}/last_run.json))) -gt 2")
    late = play(at.host, "verify", wa_backup_max_age=1)
    assert late.rc != 0
    assert "(settings: 'backup.max_age' is wa_backup_max_age)" in " ".join(late.output.split())
    assert play(at.host, "verify").rc == 0


def test_a_copy_that_fails_is_seen(at: Scheduled) -> None:
    at.rest()
    at.host.sh(f"echo wrong >{PASSWORD}; systemctl reset-failed {at.copying}")  # and systemd counts how often
    try:
        at.host.sh(f"systemctl start {at.copying} || true")
        assert at.show("ActiveState", at.copying) == "failed"
        assert "the password is wrong" in at.printed(at.copying)
    finally:
        at.host.sh(f"echo secret >{PASSWORD}; systemctl reset-failed {at.copying}; systemctl start {at.copying}")
