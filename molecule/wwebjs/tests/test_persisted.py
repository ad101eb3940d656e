# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the renamed host after the profiles were persisted and the backend was redeployed and restarted."""

from __future__ import annotations

import json

import pytest

SESSIONS = "/var/lib/whatsapp-backend/sessions"
BACKEND = "http://127.0.0.1:8080"
ACCOUNTS = 3
# The cutover, two redeployments and a restart; each can happen between the two stores of one message.
STOPS = 4


def ask(host, path: str) -> dict:
    """Return the answer of the backend; if there is none, show the end of its journal."""
    program = f"from urllib.request import urlopen; print(urlopen('{BACKEND}{path}').read().decode())"
    answer = host.run("python3 -c %s", program)
    assert answer.rc == 0, host.check_output("journalctl --unit=whatsapp-backend --lines=20 --no-pager")
    return json.loads(answer.stdout)


@pytest.fixture
def health(host):
    return ask(host, "/health")


@pytest.fixture
def accounts(host):
    """Compare each account as its browser reads it now with the account before the migration."""
    now, before = ask(host, "/sessions"), json.loads(host.file("/root/lab/before.json").content_string)
    assert now.keys() == before.keys()
    assert len(now) == ACCOUNTS
    return [(before[name], now[name]) for name in now]


def profiles(host, *condition: str) -> list[str]:
    """Return the paths below the sessions path that match a condition of find(1)."""
    return host.check_output(f"find {SESSIONS} {' '.join(condition)}").splitlines()


def test_all_browsers_run_and_no_account_needs_a_qr_code(host, health):
    assert health["accounts"] == {"total": ACCOUNTS, "connected": ACCOUNTS, "needs_qr": 0, "failed": 0, "starting": 0}
    assert health["sessions_dir_writable"] is True
    assert health["instance"] == "wa-renamed"


def test_the_browsers_read_the_same_identities(accounts):
    assert all(now["linked"] and before["fingerprint"] == now["fingerprint"] for before, now in accounts)


def test_what_was_written_before_is_there(accounts):
    for before, now in accounts:
        assert now["indexed_db"] >= before["indexed_db"] > 0
        assert now["local_storage"] >= before["local_storage"] > 0


def test_no_stop_lost_what_was_written_last(accounts):
    """A killed browser loses up to five seconds of its Local Storage: twenty-five messages of the test."""
    apart = [abs(now["local_storage"] - now["indexed_db"]) for before, now in accounts]
    assert max(apart) <= STOPS + 1


def test_the_accounts_went_on(accounts):
    assert all(now["local_storage"] > before["local_storage"] for before, now in accounts)


def test_every_lock_is_of_a_browser_of_this_host_under_its_new_name(host):
    locks = profiles(host, "-name SingletonLock -type l -printf '%l\\n'")
    assert len(locks) == ACCOUNTS
    for lock in locks:
        name, _, pid = lock.rpartition("-")
        assert name == "wa-renamed"
        assert "chromium" in host.file(f"/proc/{pid}/cmdline").content_string
    assert profiles(host, "-name 'Singleton*' -not -type l") == []


def test_caches_were_left_behind_and_the_rest_was_not(host):
    # In brackets, because the journal contains this command, and is searched for the word.
    assert profiles(host, "-name '[C]ANARYCACHE'") == []
    assert len(profiles(host, "-name '[C]ANARYNAME'")) == ACCOUNTS


def test_the_profiles_belong_to_the_service(host):
    directory = host.file(SESSIONS)
    assert (directory.user, directory.group, oct(directory.mode)) == ("whatsapp", "whatsapp", "0o750")
    assert profiles(host, "-mindepth 1 -not -user whatsapp") == []


def test_the_unit_lets_browsers_be_closed(host):
    shown = host.check_output(
        "systemctl show --property=KillMode,KillSignal,TimeoutStopUSec,SendSIGKILL whatsapp-backend"
    )
    settings = dict(line.split("=", 1) for line in shown.splitlines())
    assert settings["KillMode"] == "mixed"
    assert settings["KillSignal"] == "2"
    assert seconds(settings["TimeoutStopUSec"]) >= 45


def seconds(text: str) -> int:
    """Parse a time span of systemd, such as 1min 30s."""
    units = {"min": 60, "s": 1}
    numbers = (word.rstrip("mins") for word in text.split())
    return sum(int(number) * units[word[len(number) :]] for number, word in zip(numbers, text.split(), strict=True))


def test_the_running_process_uses_the_sessions_path(host, health):
    environment = host.check_output("tr '\\0' '\\n' </proc/%s/environ", str(health["pid"])).splitlines()
    assert f"SESSIONS_PATH={SESSIONS}" in environment


def test_no_restart_happened_by_itself(host):
    assert host.check_output("systemctl show --property=NRestarts --value whatsapp-backend") == "0"


def test_the_log_says_so_in_the_words_that_operators_look_for(host):
    invocation = host.check_output("systemctl show --property=InvocationID --value whatsapp-backend")
    lines = host.check_output("journalctl --output=cat _SYSTEMD_INVOCATION_ID=%s", invocation).splitlines()
    assert "Session restoration complete: 3 restored, 0 failed" in lines


def test_the_release_with_the_legacy_path_is_gone(host):
    assert not host.file("/opt/whatsapp/releases/1").exists
