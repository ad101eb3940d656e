# SPDX-License-Identifier: GPL-3.0-or-later
"""Audits of a real host: as many root causes as a host can have at once, each found; and none after persist."""

from __future__ import annotations

import json
import re
import typing as t

from hostkit import DROP_INS, ENVIRONMENT_FILE, LEGACY, PATH, UNIT, Host, State
from playkit import play

CURRENT = "/opt/whatsapp/current"
# The unit of the tests restarts for ever; one that is looked after does not.
LOOKED_AFTER = "[Unit]\nStartLimitIntervalSec=60\n[Service]\nRestart=on-failure\n"
# The real library does so when it closes a session.
PRINTS_KEYS = [{"id": "keys_in_journal", "reason": "the library of the tests prints them", "until": "2999-12-31"}]
OPTIONS = {"path": PATH, "unit": UNIT, "min_free_bytes": 1 << 20, "min_free_inodes": 1}
NUMBER = re.compile(r"1555010\d{4}")


def audit(host: Host, steady: bool = True, **options: t.Any) -> dict[str, str]:
    """Run the module; return its findings with their evidence. It changes nothing and shows no account.

    ``steady``: whether the backend runs without interruption.
    """
    before = host.look()
    result = host.module("session_audit", **{**OPTIONS, **options})
    assert "findings" in result, result
    assert not result["changed"]
    assert not NUMBER.search(json.dumps(result))
    after = host.look()
    for unchanged in ("legacy", "path", "drop_ins", "control", *(["pid"] if steady else [])):
        assert after[unchanged] == before[unchanged]
    return {
        finding["id"]: "; ".join(f"{one['where']}: {one['what']}" for one in finding["evidence"])
        for finding in result["findings"]
    }


def test_a_host_as_persist_and_backup_leave_it_has_no_finding(host: Host, before: State) -> None:
    host.put(f"{DROP_INS}/06-limits.conf", LOOKED_AFTER)
    played = play(host, "persist")
    assert played.rc == 0, played.output
    host.well()
    saved = host.module("session_backup", path=PATH, unit=UNIT)
    assert saved.get("saved") == len(before["legacy"]), saved

    found = audit(host, exceptions=PRINTS_KEYS)
    audited = play(
        host, "audit", wa_audit_fail_at="low", wa_audit_exceptions=PRINTS_KEYS, wa_audit_min_free_bytes=1,
        wa_audit_min_free_inodes=1,
    )  # fmt: skip

    assert found == {}
    assert (audited.rc, audited.changed) == (0, 0), audited.output
    assert f"{len(before['legacy'])} accounts, no finding" in audited.output


def test_what_a_backend_has_before_persist(host: Host) -> None:
    first, second = sorted(host.sh(f"ls {LEGACY}").split())[:2]
    clean = '{"name": "backend", "scripts": {"clean": "rm -rf .baileys_auth"}}'
    host.sh(
        f"cd {CURRENT} && mkdir .git && cp package.json /srv/package.json && echo '{clean}' >package.json && cd {LEGACY} && "
        f"cp -a {first} {first}-backup && cp -a {second} other && : >{second}/pre-key-9999.json && mkdir {first}.old && "
        f": >{first}.old/creds.json && chown -R whatsapp: {first}.old {second}"
    )
    try:
        found = audit(host, max_files=2)
        refused = play(host, "audit")
    finally:
        host.sh(f"cd {CURRENT} && rm -rf .git && mv /srv/package.json package.json")

    assert {
        "path_elsewhere", "path_relative", "path_in_release", "path_in_git", "path_wiped_by_script", "parent_of_backend",
        "stop_signal", "umask_open", "restart_unlimited", "account_twice", "copy_in_path", "account_without_content",
        "account_growth", "backup_missing",
    } <= set(found), found  # fmt: skip
    assert "/opt/whatsapp/releases/" in found["path_in_release"]
    assert "KillSignal is SIGTERM, but SIGINT" in found["stop_signal"]
    assert "not_examined" not in found
    assert refused.rc != 0
    assert "path_in_release" in refused.output
    assert not NUMBER.search(refused.output)


def test_what_goes_wrong_after_persist(host: Host) -> None:
    assert play(host, "persist").rc == 0
    host.well()
    first, second, third = sorted(host.sh(f"ls {PATH}").split())[:3]
    bad = (
        "[Service]\nProtectSystem=strict\nReadWritePaths=\nReadWritePaths=-/opt -/run\nKillSignal=SIGKILL\nKillMode=process\n"
        'TimeoutStopSec=5\nUMask=0022\nExecStartPost=/bin/echo "privKey: <Buffer 01 02>"\n'
    )
    control = host.sh("ls -d /var/lib/whatsapp-ops/*-sessions-*").strip()
    host.put(f"{DROP_INS}/90-bad.conf", bad)
    host.sh(f"systemctl daemon-reload; systemctl restart {UNIT}")
    pid = host.sh(f"systemctl show --property=MainPID --value {UNIT}").strip()
    host.sh(
        f"[ {pid} = 0 ] || kill -9 {pid}; systemd-run --unit=second --setenv=SESSIONS_PATH={PATH} sleep infinity; "
        f"systemd-run --unit=whatsapp-ops-test false; "
        f"chown root: {PATH}/{first}/creds.json; chmod 0755 {PATH} {PATH}/{second}; chmod 0644 {PATH}/{second}/creds.json; "
        f"chown whatsapp: /var/lib/whatsapp-backend; touch -d '+1 hour' {LEGACY}/{third}/creds.json; "
        f"echo >>{LEGACY}/{third}/creds.json; echo '{{\"moves\": [1]}}' >{control}/intent.json; ln -s nowhere {PATH}/linked; "
        f"echo SESSIONS_PATH=/opt/elsewhere >{ENVIRONMENT_FILE}; echo SESSIONS_PATH=./auth >{CURRENT}/.env; "
        f'until [ "$(systemctl show --property=NRestarts --value {UNIT})" -ge 1 ]; do sleep 0.1; done'
    )
    expired = [{"id": "unit_root", "reason": "was accepted", "until": "2020-01-31"}]
    try:
        found = audit(host, steady=False, max_restarts=1, min_free_bytes=1 << 60, exceptions=expired)
    finally:
        host.sh(
            f"systemctl stop second; systemctl reset-failed; rm -f {CURRENT}/.env {control}/intent.json; chmod 0750 {PATH}"
        )

    assert {
        "path_sandboxed", "former_path_newer", "cutover_unfinished", "two_writers", "variable_overridden", "dotenv_contradicts",
        "stop_signal", "stop_mode", "stop_timeout", "umask_open", "restarts_repeated", "keys_in_journal", "account_foreign_owner",
        "account_open", "path_open", "parent_of_backend", "link_not_followed", "disk_space", "exception_expired", "backup_failed",
    } <= set(found), found  # fmt: skip
    assert "second.service" in found["two_writers"]
    assert f"{ENVIRONMENT_FILE} line 1: SESSIONS_PATH is not {PATH}" in found["variable_overridden"]
    assert "lines of its journal look like key material" in found["keys_in_journal"]
    assert "Buffer" not in str(found)
    assert "whatsapp-ops-test.service: it is failed" in found["backup_failed"]
