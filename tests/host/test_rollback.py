# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator sees when a real backend goes back: by itself when it is not well, and later by hand, under load."""

from __future__ import annotations

import typing as t

from hostkit import ENVIRONMENT_FILE, LEGACY, PATH, UNIT, Host, State
from playkit import Play, module_calls, play

DROP_INS = f"/etc/systemd/system/{UNIT}.d"
CONFIGURATION = f"cat {DROP_INS}/20-sessions.conf {ENVIRONMENT_FILE} 2>&1 || true"
# Each of three stops may end the connection of each of three accounts before the other end has answered its last message.
CUT_OFF = 9
NEWEST = "find {} -name 'session-*' -printf '%T@\\n' | sort -n | tail -n 1"


def quiet(played: Play, before: State) -> Play:
    """Nothing from inside a session may be in what is shown."""
    for secret in ("CANARY", "SessionEntry", *before["legacy"]):
        assert secret.lower() not in played.output.lower(), secret
    return played


def newest_key(host: Host, path: str) -> float:
    return float(host.sh(NEWEST.format(path)))


def require_as_before(host: Host, before: State, configuration: str) -> State:
    """The backend is connected on its old path with all accounts, as it was configured before."""
    now = host.well()
    assert now["well"], now
    assert (now["sessions_path"], now["needs_qr"]) == (None, 0)
    assert now["legacy"] == before["legacy"]
    assert host.sh(CONFIGURATION) == configuration
    return now


def test_a_backend_that_is_not_well_goes_back_with_its_newer_keys(host: Host, before: State) -> None:
    """Also where it had an environment file; without one, test_by_hand_under_load goes the same way back."""
    host.put(ENVIRONMENT_FILE, "# mine\nSESSIONS_PATH=.baileys_auth\nTOKEN=CANARY\n")
    host.sh(f"systemctl restart {UNIT}")
    host.well()
    configuration, calls = host.sh(CONFIGURATION), module_calls(host)

    played = play(host, "persist", "-vvv", "--diff", wa_health_expect={"waMode": "CONNECTED"}, wa_health_timeout=3)

    assert quiet(played, before).rc != 0
    message = " ".join(played.output.split())
    assert "the backend was not healthy after 3" in message
    assert f"so it was rolled back to {host.sh(f'realpath {LEGACY}').strip()} with the current keys" in message
    assert "stopped at backend (failed, the backend runs)" in message
    assert module_calls(host) - calls <= 7
    now = host.well()
    assert now["well"], now
    assert now["legacy"] == before["legacy"]
    assert host.sh(CONFIGURATION) == configuration
    assert newest_key(host, LEGACY) > newest_key(host, PATH)  # it works there now, and did so at the other path before
    assert not now["guarded"]

    again = play(host, "persist")

    assert again.rc == 0, again.output
    now = host.well()
    assert (now["well"], now["path"], now["needs_qr"]) == (True, before["legacy"], 0)


def test_it_stays_where_that_is_wanted(host: Host, before: State) -> None:
    played = play(host, "persist", wa_health_expect={"waMode": "CONNECTED"}, wa_health_timeout=2, wa_rollback=False)

    assert played.rc != 0
    assert f"the backend stays on {PATH}" in " ".join(played.output.split())
    now = host.well()
    assert (now["sessions_path"], now["well"]) == (PATH, True)


def test_by_hand_under_load_and_forth_again(host: Host, before: State) -> None:
    """Messages are sent all the time, and the other end can read every one, before, between and after."""
    configuration, since = host.sh(CONFIGURATION), float(host.sh("date +%s.%N"))
    assert play(host, "persist").rc == 0
    host.well()
    calls, pid = module_calls(host), host.look()["pid"]

    predicted = play(host, "rollback", "--check", "--diff")
    assert (predicted.rc, predicted.changed, host.look()["pid"]) == (0, 1, pid), predicted.output
    played = quiet(play(host, "rollback", "-vvv", "--diff"), before)

    assert played.rc == 0, played.output
    require_as_before(host, before, configuration)
    sent_before = host.messages(since)["sent"]
    assert module_calls(host) - calls <= 5
    calls, pid = module_calls(host), host.look()["pid"]
    second = play(host, "rollback")
    assert (second.rc, second.changed, host.look()["pid"]) == (0, 0, pid), second.output
    assert module_calls(host) - calls == 1

    assert play(host, "persist").rc == 0
    now = host.well()
    assert (now["well"], now["path"], now["needs_qr"]) == (True, before["legacy"], 0)
    host.sh("sleep 2")
    messages = host.messages(since)
    assert messages["unread"] <= CUT_OFF < messages["sent"], messages
    assert messages["sent"] > sent_before > 0


# What is done before, settings, and words of the sentence.
NO_WAY_BACK: list[tuple[str, dict[str, t.Any], str]] = [
    ("true", {"wa_sessions_path": "/var/lib/nothing"}, "/var/lib/nothing does not exist"),
    ("mkdir -p /var/lib/nothing", {"wa_sessions_path": "/var/lib/nothing"}, "no receipt says where the accounts"),
    ("true", {"wa_service": "whatsapp-bakend"}, "the unit whatsapp-bakend.service does not exist"),
]


def test_what_has_no_way_back_is_refused(host: Host, before: State) -> None:
    for prepare, settings, message in NO_WAY_BACK:
        host.sh(prepare)
        played = play(host, "rollback", **settings)
        host.sh("rm -rf /var/lib/nothing")
        assert played.rc != 0, settings
        assert message in " ".join(played.output.split()), settings
    assert host.look()["pid"] == before["pid"]
