# SPDX-License-Identifier: GPL-3.0-or-later
"""session_health and a real journal: whose lines are counted, from where on, and that none of them gets out."""

from __future__ import annotations

import json
import typing as t

import pytest

from conftest import Host, Result

pytestmark = pytest.mark.slow
CANARY = "5511999990000"
KEY = "<Buffer 58 db 6c 2a ea 77 a9 36 85 c4 e6 19 d6 31 51 43>"
# It prints what it is told by files, at its start and whenever it gets SIGUSR1.
SCRIPT = """\
#!/bin/sh
say() { cat /etc/wa/says 2>/dev/null; : >/run/wa-said; }
trap say USR1
say
while :; do sleep 1000 & wait $!; done
"""
UNIT = "[Service]\nExecStart=/etc/wa/script\nKillMode=control-group\nEnvironment=INSTANCE_ID=%H\n"
SPEAK = "kill --signal=USR1 --kill-whom=main"


class Backend:
    """The unit ``wa`` on a booted throw-away host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def run(self, command: str) -> str:
        return self._host.ssh(command)

    def put(self, path: str, text: str) -> None:
        self._host.ssh(f"cat >{path}", stdin=text)

    def says(self, *lines: str, verb: str = SPEAK) -> None:
        """Have the unit print lines, which are in the journal when this returns."""
        self.put("/etc/wa/says", "".join(f"{line}\n" for line in lines))
        self.speaks(verb)

    def speaks(self, verb: str) -> None:
        said = "until [ -e /run/wa-said ]; do sleep 0.02; done; journalctl --sync"
        self.run(f"rm -f /run/wa-said; systemctl {verb} wa; {said}")

    def health(self, **options: t.Any) -> Result:
        given = {"unit": "wa", "timeout": 0, "interval": 0.1, **options}
        result = self._host.run_module("session_health", diff=True, **given)
        shown = json.dumps(result, ensure_ascii=False)
        assert CANARY not in shown
        assert KEY[:20] not in shown
        return result


@pytest.fixture
def wa(host: Host) -> t.Iterator[Backend]:
    backend = Backend(host)
    backend.run("mkdir -p /etc/wa /etc/systemd/system/wa.service.d")
    backend.put("/etc/wa/script", SCRIPT)
    backend.put("/etc/systemd/system/wa.service", UNIT)
    backend.run("chmod 755 /etc/wa/script; rm -f /etc/wa/says; systemctl daemon-reload; systemctl start wa")
    yield backend
    backend.run(
        "systemctl stop wa; systemctl reset-failed; rm -rf /etc/wa /etc/systemd/system/wa.service*; systemctl daemon-reload"
    )


def seen(result: Result) -> dict[str, int]:
    return {name: count for name, count in result["signals"].items() if count}


def test_signals_of_this_start_and_since_a_cursor(wa: Backend) -> None:
    wa.says(f"[{CANARY}] needs_qr")
    wa.says(
        f"[{CANARY}] Session restored from disk", "Session restoration complete: 2 restored, 1 failed", verb="restart"
    )
    this_start = wa.health(signals={})
    wa.says(f"✓ Session restored: {CANARY}")
    since_then = wa.health(since=this_start["cursor"])
    nothing_new = wa.health(since=since_then["cursor"])
    both_starts = wa.health(since="-1h")

    restored = {"restored_from_disk": 1, "restoration_complete": 1}
    assert seen(this_start) == {**restored, "restoration_complete_restored": 2, "restoration_complete_failed": 1}
    assert (seen(since_then), seen(nothing_new)) == ({"restored": 1}, {})
    assert seen(wa.health(since=nothing_new["cursor"])) == {}
    assert both_starts["signals"]["needs_qr"] >= 1
    assert this_start["signal_accounts"] == {"restored_from_disk": since_then["signal_accounts"]["restored"]}


def test_what_others_say_in_its_name_is_not_counted(wa: Backend) -> None:
    before = wa.health(since="now")
    wa.run("echo needs_qr | systemd-cat --identifier=wa; echo needs_qr | systemd-cat --identifier=wa.service")
    wa.run("printf 'MESSAGE=needs_qr\\nUNIT=wa.service\\n_SYSTEMD_UNIT=wa.service\\n' | logger --journald")
    wa.run("systemctl kill --signal=KILL wa; journalctl --sync")
    assert seen(wa.health(since=before["cursor"], check=True)) == {}


def test_it_waits_for_what_is_required_and_reads_on(wa: Backend) -> None:
    before = wa.health(since="now")
    wa.says(f"[{CANARY}] Session restored from disk")
    late = "systemd-run --quiet --on-active=5s systemctl kill --signal=USR1 --kill-whom=main wa"
    wa.run(late)
    result = wa.health(since=before["cursor"], require={"restored_from_disk": 2}, timeout=30)
    assert (result["healthy"], seen(result)) == (True, {"restored_from_disk": 2})
    assert result["elapsed_seconds"] > 0.1


def test_keys_in_the_journal_are_a_finding_and_fail_when_forbidden(wa: Backend) -> None:
    before = wa.health(since="now")
    wa.says("Closing session: SessionEntry {", f"      privKey: {KEY}", "    \x1b[33mrootKey\x1b[39m: <Buffer f3 e3>")
    told = wa.health(since=before["cursor"])
    refused = wa.health(since=before["cursor"], forbid={"key_material": 0})
    assert (told["healthy"], told["changed"], seen(told)) == (True, False, {"key_material": 3})
    assert "3 lines that look like private keys" in told["warnings"][0]
    assert "key_material 3 times instead of at most 0" in refused["msg"]
    assert refused["failed"]


def test_a_line_longer_than_journalctl_shows_and_one_that_is_no_text(wa: Backend) -> None:
    before = wa.health(since="now")
    wa.says("x" * 9000 + " needs_qr")
    long_one = wa.health(since=before["cursor"])
    wa.run("printf '\\377\\376 \\033[1mneeds\\033[0m_qr\\n' >/etc/wa/says")
    wa.speaks(SPEAK)
    assert seen(long_one) == {"needs_qr": 1}
    assert seen(wa.health(since=long_one["cursor"])) == {"needs_qr": 1}


def test_a_unit_that_prints_elsewhere_or_is_masked_from_us(wa: Backend) -> None:
    wa.put("/etc/systemd/system/wa.service.d/out.conf", "[Service]\nStandardOutput=append:/run/wa.log\n")
    wa.run("systemctl daemon-reload; systemctl restart wa")
    elsewhere = wa.health(forbid={"needs_qr": 0})
    assert "the output of wa.service does not go to the journal (StandardOutput=append)" in elsewhere["msg"]


def test_a_journal_of_its_own_namespace(wa: Backend) -> None:
    wa.put("/etc/systemd/system/wa.service.d/namespace.conf", "[Service]\nLogNamespace=whatsapp\n")
    wa.run("systemctl daemon-reload")
    wa.says("needs_qr", verb="restart")
    wa.run("journalctl --namespace=whatsapp --sync")
    assert seen(wa.health(signals={})) == {"needs_qr": 1}


def test_no_journal_and_no_right_to_it_are_one_sentence(wa: Backend) -> None:
    options = json.dumps({"ANSIBLE_MODULE_ARGS": {"unit": "wa", "signals": {}, "timeout": 0}})
    path = "PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/checkout/playbooks/collections:/opt/controller"
    module = "python3 -m ansible_collections.whatsapp_ops.sessions.plugins.modules.session_health"
    wa.put("/tmp/options", options)
    as_nobody = json.loads(wa.run(f"cd /; runuser -u nobody -- env {path} {module} </tmp/options || true"))
    wa.run("mkdir -p /tmp/empty; rm /tmp/options")
    hidden = f"unshare --mount sh -c 'mount --bind /tmp/empty /var/log; mount --bind /tmp/empty /run/log; {path} {module} || true'"
    without = json.loads(wa.run(f"cd /; echo '{options}' | {hidden}"))
    assert "cannot read the journal of wa.service: No journal files were opened" in as_nobody["msg"]
    assert "this host keeps no journal; set Storage= in journald.conf(5)" in without["msg"]
    assert "\n" not in as_nobody["msg"] + without["msg"]


def test_the_plan_takes_the_same_options(wa: Backend, host: Host) -> None:
    before = wa.health(since="now")
    wa.says("Closing session: SessionEntry {", f"[{CANARY}] needs_qr")
    health = {
        "unit": "wa",
        "since": before["cursor"],
        "forbid": {"needs_qr": 1},
        "signals": {"key_material": "SessionEntry"},
    }
    plan = host.run_module("session_plan", health={**health, "timeout": 0, "interval": 0.1})
    mistaken = host.run_module("session_plan", health={**health, "forbid": {"needs-qr": 0}})
    assert (plan["health"]["healthy"], seen(plan["health"])) == (True, {"needs_qr": 1, "key_material": 1})
    assert "1 lines that look like private keys" in plan["warnings"][0]
    assert "there is no signal 'needs-qr'" in mistaken["msg"]
    assert CANARY not in json.dumps([plan, mistaken])
