# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts that go from one real backend to another one, on two hosts: connected there with the same identity, and not here."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import typing as t

import pytest
from hostkit import PATH, UNIT, Host
from playkit import DESCRIBED, Play, command, environment, play

HOME = os.path.dirname(PATH)
OUTBOX = f"{HOME}/.sessions.whatsapp-ops/outbox"
INBOX = f"{HOME}/.sessions.whatsapp-ops/inbox"
ONE, *OTHERS = ACCOUNTS = ("15550100002", "15550100001", "15550100003")
DROP_IN = f"/etc/systemd/system/{UNIT}.d/zz-test.conf"


class Pair(t.NamedTuple):
    """The host that has three accounts, connected, and the one that has none; what each account is by its own keys."""

    first: Host
    second: Host
    identities: dict[str, str]


@pytest.fixture(scope="module")
def persisted(booted: Host) -> t.Iterator[Pair]:
    """Both hosts as the role persist leaves them."""
    booted.reset()
    played = play(booted, "persist")
    assert played.rc == 0, played.output
    booted.sh(f"systemctl stop {UNIT}; rm -rf /srv/persisted; cp -a {HOME} /srv/persisted")
    second = Host("second", booted.suite, pathlib.Path(booted.environment["LAB_DIR"]))
    second.boot()
    second.put("/etc/whatsapp-backend/env", f"SESSIONS_PATH={PATH}\n")
    try:
        yield Pair(booted, second, identities(booted))
    finally:
        booted.lab("down", second.name)


@pytest.fixture
def pair(persisted: Pair) -> Pair:
    """The hosts without a trace of an earlier test."""
    first, second = persisted.first, persisted.second
    lay = f"systemctl stop {UNIT}; rm -rf {HOME} {DROP_IN}; systemctl daemon-reload; systemctl reset-failed {UNIT}"
    first.sh(f"{lay}; cp -a /srv/persisted {HOME}; systemctl start {UNIT}")
    second.sh(f"{lay}; install -d -o whatsapp -g whatsapp -m 0750 {PATH}")
    first.before = first.well()
    assert first.before["well"], first.before
    return persisted


def identities(host: Host) -> dict[str, str]:
    """A fingerprint of the public identity key of each account that is linked, as the library reads it."""
    known = json.loads(host.sh(f"node /srv/build/app/identity.mjs {PATH}"))
    return {account: identity for account, identity in known.items() if identity}


def connected(host: Host) -> tuple[int, int]:
    """How many accounts are connected, and how many wait for somebody to scan a QR code."""
    now = host.look()
    return now["connected"], now["needs_qr"]


def move(pair: Pair, *options: str, back: bool = False, **settings: t.Any) -> Play:
    """Run the playbook, as loudly as can be; neither accounts nor what is inside of them may be in what it shows."""
    names = [pair.first.name, pair.second.name]
    from_to = dict(zip(("wa_move_from", "wa_move_to"), reversed(names) if back else names, strict=True))
    played = play(pair.first, "move", "-vvv", "--diff", *options, **from_to, **settings)
    for secret in ("CANARY", "SessionEntry", "<Buffer", "PRIVATE KEY", *ACCOUNTS):
        assert secret.lower() not in played.output.lower(), secret
    return played


def changed(played: Play) -> int:
    """How many tasks changed something on either host."""
    return sum(map(int, re.findall(r"changed=(\d+)", played.output.rpartition("PLAY RECAP")[2])))


def left_behind(pair: Pair) -> str:
    """What should not be there after a move, on either host: keys and what was on its way."""
    look = f"grep -c whatsapp_ops /root/.ssh/authorized_keys; ls -d {OUTBOX}/*.way {OUTBOX}/{pair.second.name} {INBOX}/* 2>/dev/null"
    return "".join(host.sh(look, may_fail=True) for host in (pair.first, pair.second)).replace("0\n", "")


def test_one_account_connects_there_and_cannot_start_here(pair: Pair) -> None:
    first, second, before = pair
    foreseen = move(pair, "--check", wa_move_accounts=[ONE])
    assert foreseen.rc == 0, foreseen.output
    assert changed(foreseen) == 1
    assert "1 account(s) would leave backend for second: 1…2-" in foreseen.output
    assert first.look()["pid"] == first.before["pid"]

    played = move(pair, wa_move_accounts=[ONE])

    assert played.rc == 0, played.output
    assert identities(second) == {ONE: before[ONE]}
    assert connected(second)[0] == 1
    first.sh(f"systemctl restart {UNIT}")
    first.sh("timeout 20 sh -c 'until journalctl -u whatsapp-backend -n 20 | grep -q cannot.use; do sleep 0.1; done'")
    assert first.sh(f"stat -c '%F %U %a' {PATH}/{ONE}").strip() == "regular file root 444"
    assert "It is on second" in first.sh(f"cat {PATH}/{ONE}")
    assert identities(first) == {account: before[account] for account in OTHERS}
    assert first.sh(f"stat -c %U:%a {OUTBOX}").strip() == "root:700"
    assert left_behind(pair) == ""

    at_rest = first.look()["pid"], second.look()["pid"]
    again = move(pair, wa_move_accounts=f"{ONE}\n")
    legacy = first.migrate()

    assert (again.rc, changed(again)) == (0, 0), again.output
    assert "Nothing is left to move from backend to second" in again.output
    assert (legacy["changed"], legacy["counts"]["skipped"], legacy["counts"]["unchanged"]) == (False, 1, 2)
    assert (first.look()["pid"], second.look()["pid"]) == at_rest
    assert connected(first) == (2, 0)


def test_all_go_through_the_controller_where_hosts_cannot_reach_each_other_and_one_comes_back(pair: Pair) -> None:
    first, second, before = pair
    address = first.lab("address", second.name).strip()
    first.sh(f"ip route add blackhole {address}")
    try:
        played = move(pair, wa_move_via="controller", **DESCRIBED)
    finally:
        first.sh(f"ip route del blackhole {address}")

    assert played.rc == 0, played.output
    assert identities(second) == before
    assert connected(second) == (3, 0)
    assert (first.look()["ActiveState"], connected(first), identities(first)) == ("active", (0, 0), {})
    assert left_behind(pair) == ""

    back = move(pair, back=True, wa_move_accounts=[ONE])

    assert back.rc == 0, back.output
    assert identities(first) == {ONE: before[ONE]}
    assert connected(first) == (1, 0)
    assert connected(second) == (2, 0)


def test_what_fails_before_it_is_published_there_is_put_back_here(pair: Pair) -> None:
    first, second, before = pair
    second.put(DROP_IN, "[Service]\nExecStop=/bin/false\n")
    second.sh(f"systemctl daemon-reload; systemctl start {UNIT}")  # it makes accounts of its own, which nobody linked

    played = move(pair, wa_move_accounts=[ONE])

    message = " ".join(played.output.split())
    assert played.rc != 0
    assert "failed before anything was published there" in message
    assert "so the accounts were put back on backend, where whatsapp-backend runs as before" in message
    assert first.well()["well"]
    assert identities(first) == before
    assert identities(second) == {}
    assert (second.look()["ActiveState"], left_behind(pair)) == ("active", f"{OUTBOX}/second\n")  # which is empty

    second.sh(f"rm {DROP_IN}; systemctl daemon-reload")
    again = move(pair, wa_move_accounts=[ONE])

    assert again.rc == 0, again.output
    assert (identities(second), connected(second)) == ({ONE: before[ONE]}, (1, 2))


def test_a_run_that_was_killed_goes_on_where_it_stopped(pair: Pair) -> None:
    first, second, before = pair
    with subprocess.Popen(
        command("move", wa_move_from=first.name, wa_move_to=second.name),
        env=environment(first),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        first.sh(f"timeout 100 sh -c 'until ls {OUTBOX}/*/sessions/{ONE} >/dev/null 2>&1; do sleep 0.05; done'")
        os.killpg(running.pid, signal.SIGKILL)
    first.sh(f"timeout 20 sh -c 'until systemctl is-active {UNIT} && test -e {PATH}/{ONE}; do sleep 0.1; done'")
    assert identities(first) == identities(second) == {}

    played = move(pair, **DESCRIBED)

    assert played.rc == 0, played.output
    assert "3 account(s) are on their way to second since an earlier run, and go on" in played.output
    assert (identities(second), connected(second)) == (before, (3, 0))
    assert (identities(first), left_behind(pair)) == ({}, "")


def test_while_nobody_knows_whether_it_is_published_there_it_stays_fenced_here(pair: Pair) -> None:
    first, second, before = pair
    again = second.root / "srv/ssh-again"
    again.unlink(missing_ok=True)
    cut = "systemctl stop ssh; pkill sshd; until [ -e /srv/ssh-again ]; do sleep 0.1; done; systemctl start ssh"
    second.put("/usr/local/sbin/cut", f"#!/bin/sh\n{cut}\n")
    second.put(DROP_IN, "[Service]\nExecStop=+systemd-run --quiet --collect sh /usr/local/sbin/cut\n")
    second.sh(f"systemctl daemon-reload; systemctl start {UNIT}")

    played = move(pair, wa_move_accounts=[ONE])
    again.touch()
    second.lab("wait", second.name)

    message = " ".join(played.output.split())
    assert played.rc != 0
    assert "it may have published the accounts, so they stay out of reach" in message
    assert identities(first) == {account: before[account] for account in OTHERS}
    assert connected(first) == (2, 0)

    second.sh(f"rm {DROP_IN}; systemctl daemon-reload")
    resumed = move(pair, wa_move_accounts=[ONE])

    assert resumed.rc == 0, resumed.output
    assert (identities(second), connected(second)[0]) == ({ONE: before[ONE]}, 1)
    assert left_behind(pair) == ""


def test_what_speaks_against_a_move_is_said_before_anything_is_interrupted(pair: Pair) -> None:
    first, second, before = pair
    misspelt = move(pair, wa_move_accounts=["15550100009"])
    second.put(f"{PATH}/{ONE}/creds.json", first.sh(f"cat {PATH}/{ONE}/creds.json"))  # a copy that somebody made
    second.sh(f"chown -R whatsapp: {PATH}; systemctl start {UNIT}")

    twice = move(pair)
    second.sh("mv /etc/whatsapp-backend/env /srv/env")
    elsewhere = move(pair)
    second.sh("mv /srv/env /etc/whatsapp-backend/env")

    for played, words in (
        (misspelt, "accounts that were named are not there: 1…9-"),
        (twice, "second does not take 1…2-"),
        (elsewhere, "whatsapp-backend on second does not keep its accounts in /var/lib/whatsapp-backend/sessions"),
    ):
        assert played.rc != 0
        assert words in " ".join(played.output.split())
        assert "15550100009" not in played.output
    assert "decide with wa_on_conflict=replace or wa_on_conflict=keep" in " ".join(twice.output.split())
    assert (first.look()["pid"], identities(first)) == (first.before["pid"], before)
    assert left_behind(pair) == ""
