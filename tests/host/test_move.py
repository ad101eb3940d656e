# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts that go from one real backend to another one, on two hosts: connected there with the same identity, and not here."""

from __future__ import annotations

from hostkit import PATH, UNIT
from movekit import DROP_IN, ONE, OTHERS, OUTBOX, Pair, begin, changed, connected, identities, kill, left_behind, move
from playkit import DESCRIBED


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
    legacy = first.migrate(switch=None)

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
    running = begin(pair)
    first.sh(f"timeout 100 sh -c 'until ls {OUTBOX}/*/sessions/{ONE} >/dev/null 2>&1; do sleep 0.05; done'")
    kill(running)
    first.sh(f"timeout 20 sh -c 'until systemctl is-active {UNIT} && test -e {PATH}/{ONE}; do sleep 0.1; done'")
    assert identities(first) == identities(second) == {}

    played = move(pair, **DESCRIBED)

    assert played.rc == 0, played.output
    assert "3 account(s) from an earlier run are in transit to second, and their move is resumed" in played.output
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
    assert "that host may have published the accounts, so they stay disabled" in message
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
        (misspelt, "these named accounts do not exist: 1…9-"),
        (twice, "second refuses 1…2-"),
        (elsewhere, "whatsapp-backend on second does not store its accounts in /var/lib/whatsapp-backend/sessions"),
    ):
        assert played.rc != 0
        assert words in " ".join(played.output.split())
        assert "15550100009" not in played.output
    assert "set wa_on_conflict=replace or wa_on_conflict=keep" in " ".join(twice.output.split())
    assert (first.look()["pid"], identities(first)) == (first.before["pid"], before)
    assert left_behind(pair) == ""


def test_one_that_is_linked_there_is_replaced_and_those_that_were_not_named_are_not_warned_of(pair: Pair) -> None:
    first, second, _before = pair
    second.put(f"{PATH}/{ONE}/creds.json", first.sh(f"cat {PATH}/{ONE}/creds.json"))  # a copy that somebody made
    second.sh(f"chown -R whatsapp: {PATH}; systemctl start {UNIT}")
    second.sh("timeout 20 sh -c 'until journalctl -u whatsapp-backend | grep -q connected; do sleep 0.1; done'")

    replaced = move(pair, wa_move_accounts=[ONE], wa_on_conflict="replace")
    more = move(pair, wa_move_accounts=list(OTHERS)[:1])

    assert (replaced.rc, more.rc) == (0, 0), replaced.output + more.output
    assert set(identities(second)) == {ONE, *list(OTHERS)[:1]}
    for played in (replaced, more):
        words = " ".join(played.output.split())
        assert "not expected" not in words
        assert "second: 1 account came from backend, away for " in words
        assert "backend: 1 account moved to second, away for " in words


def test_accounts_on_disks_of_their_own_are_copied_put_back_and_copied_again(pair: Pair) -> None:
    first, second, before = pair
    for host in (first, second):
        host.sh(f"systemctl stop {UNIT}; rm -rf /srv/disk; cp -aT {PATH} /srv/disk; mount --bind /srv/disk {PATH}")
    first.sh(f"systemctl start {UNIT}")
    second.put(DROP_IN, "[Service]\nExecStop=/bin/false\n")
    second.sh(f"systemctl daemon-reload; systemctl start {UNIT}")
    try:
        first.well()
        failed = move(pair, wa_move_accounts=[ONE])

        assert failed.rc != 0
        assert "so the accounts were put back on backend" in " ".join(failed.output.split())
        assert (identities(first), identities(second)) == (before, {})
        assert left_behind(pair) == ""

        second.sh(f"rm {DROP_IN}; systemctl daemon-reload")
        played = move(pair, wa_move_accounts=[ONE])

        assert played.rc == 0, played.output
        assert identities(second) == {ONE: before[ONE]}
        assert identities(first) == {account: before[account] for account in OTHERS}
        assert first.sh(f"stat -c '%F %U' {PATH}/{ONE}").strip() == "regular file root"
        assert left_behind(pair) == ""
    finally:
        for host in (first, second):
            host.sh(f"systemctl stop {UNIT}; umount -l {PATH}")
