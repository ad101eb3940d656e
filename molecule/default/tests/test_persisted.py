# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks every host after sessions were persisted and the backend was redeployed, restarted and rebooted."""

from __future__ import annotations

import json

import pytest

SESSIONS = "/var/lib/whatsapp-backend/sessions"
ACCOUNTS = 3
HEALTH = "http://127.0.0.1:8080/health"


@pytest.fixture
def health(host):
    """Return the health page; if it does not answer, show the end of the backend's journal."""
    program = f"from urllib.request import urlopen; print(urlopen('{HEALTH}').read().decode())"
    answer = host.run("python3 -c %s", program)
    assert answer.rc == 0, host.check_output("journalctl --unit=whatsapp-backend --lines=20 --no-pager")
    return json.loads(answer.stdout)


def test_the_directory_belongs_to_the_service(host):
    directory = host.file(SESSIONS)
    assert (directory.user, directory.group, oct(directory.mode)) == ("whatsapp", "whatsapp", "0o750")


def test_every_account_is_there(host):
    found = host.check_output("find %s -maxdepth 3 -name creds.json", SESSIONS).splitlines()
    assert len(found) == ACCOUNTS


def test_accounts_are_the_same_byte_for_byte(host):
    comparison = host.run("cd %s && sha256sum --check --quiet /root/lab/before.sha256", SESSIONS)
    assert comparison.rc == 0, f"{comparison.stdout.count('FAILED')} files differ"


def test_nothing_was_added_to_the_accounts(host):
    files = host.check_output("cd %s && find . -mindepth 2 -type f | wc -l", SESSIONS)
    assert files == host.check_output("wc -l </root/lab/before.sha256")


def test_the_library_reads_the_same_identities(host):
    now = host.check_output("cd /opt/whatsapp/current && runuser -u whatsapp -- node identity.mjs %s", SESSIONS)
    before = host.file("/root/lab/before.identity").content_string
    assert json.loads(now) == json.loads(before)
    assert None not in json.loads(now).values()


def test_all_accounts_are_connected_and_none_needs_a_qr_code(health):
    assert health["accounts"] == {"total": ACCOUNTS, "connected": ACCOUNTS, "needs_qr": 0}
    assert health["sessions_dir_writable"] is True
    assert health["waMode"] == "active"
    assert health["lock"]["holder"] == health["instance"]


def test_the_running_process_uses_the_sessions_path(host, health):
    environment = host.check_output("tr '\\0' '\\n' </proc/%s/environ", str(health["pid"])).splitlines()
    assert f"SESSIONS_PATH={SESSIONS}" in environment


@pytest.mark.parametrize("name", ["10-graceful-stop.conf", "20-sessions.conf"])
def test_the_drop_in_is_loaded(host, name):
    path = f"/etc/systemd/system/whatsapp-backend.service.d/{name}"
    assert host.file(path).mode == 0o644
    assert path in host.check_output("systemctl show --property=DropInPaths --value whatsapp-backend").split()


def test_the_environment_file_agrees(host):
    assert host.file("/etc/whatsapp-backend/env").contains(f"^SESSIONS_PATH={SESSIONS}$")


def test_no_restart_happened_by_itself(host):
    assert host.check_output("systemctl show --property=NRestarts --value whatsapp-backend") == "0"


def test_the_release_with_the_legacy_path_is_gone(host):
    assert not host.file("/opt/whatsapp/releases/1").exists
