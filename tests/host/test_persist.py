# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator sees when persist and verify run against a real backend whose sessions change all the time."""

from __future__ import annotations

import pytest
from hostkit import ENVIRONMENT_FILE, LEGACY, PATH, UNIT, Host, State
from playkit import DESCRIBED, module_calls, play

DROP_INS = f"/etc/systemd/system/{UNIT}.d"


def test_the_first_run_costs_three_calls_the_second_one_and_a_lost_drop_in_interrupts_nothing(host: Host) -> None:
    before = module_calls(host)
    first = play(host, "persist")
    after_first, pid = module_calls(host), host.well()["pid"]
    second = play(host, "persist")
    after_second = module_calls(host)
    host.sh(f"rm {DROP_INS}/10-graceful-stop.conf; systemctl daemon-reload")
    third = play(host, "persist")

    assert first.rc == 0, first.output
    assert first.changed == 1
    assert 0 < after_first - before <= 3
    assert (second.rc, second.changed) == (0, 0), second.output
    assert after_second - after_first == 1
    assert (third.rc, third.changed) == (0, 1), third.output
    assert host.sh(f"systemctl show --property=KillSignal --value {UNIT}").strip() == "2"
    assert host.well()["pid"] == pid


def test_what_was_done_by_hand_before_is_taken_over_in_one_run(host: Host, before: State) -> None:
    """As the first recipe has it: the drop-in has our name and holds the stop settings, too."""
    by_hand = f"[Service]\nEnvironment=SESSIONS_PATH={PATH}\nTimeoutStopSec=30\nKillSignal=SIGINT\n"
    host.sh(f"systemctl stop {UNIT}; mkdir -p {PATH}; cp -a {LEGACY}/. {PATH}; chmod 755 {PATH}")
    host.put(f"{DROP_INS}/20-sessions.conf", by_hand)
    host.put(ENVIRONMENT_FILE, f"SESSIONS_PATH={PATH}\n")
    host.sh(f"systemctl daemon-reload; systemctl start {UNIT}")
    host.well()

    first, second = play(host, "persist"), play(host, "persist")

    assert first.rc == 0, first.output
    assert (second.rc, second.changed) == (0, 0), second.output
    assert "KillSignal=SIGINT" in host.sh(f"cat {DROP_INS}/10-graceful-stop.conf")
    assert host.well()["path"] == before["legacy"]


def test_accounts_of_a_described_library_are_themselves_after_redeploys_and_on_the_way_back(
    host: Host, before: State
) -> None:
    """Copied by rsync here; by the other engines in molecule's default scenario and in test_cutover.py."""
    played = play(host, "persist", wa_engine="rsync", wa_legacy_paths=[LEGACY], **DESCRIBED)

    assert played.rc == 0, played.output
    assert host.well()["path"] == before["legacy"]
    host.sh("redeploy; redeploy")  # two, so that the release with the legacy path is gone
    now = host.well()
    assert now["well"], now
    assert (now["path"], now["needs_qr"]) == (before["legacy"], 0)

    back = play(host, "rollback", **DESCRIBED)

    assert back.rc == 0, back.output
    now = host.well()  # at the same path below the release that runs now
    assert (now["well"], now["sessions_path"], now["legacy"]) == (True, None, before["legacy"])


def test_accounts_that_nothing_leads_to_are_not_left_behind(host: Host, before: State) -> None:
    """Where the operator's library keeps them nobody knows; and a path that was named may be misspelt."""
    unknown = play(host, "persist", **DESCRIBED)
    misspelt = play(host, "persist", wa_legacy_paths=["/opt/whatsapp/current/.baileys_aut"])

    for played in (unknown, misspelt):
        assert played.rc != 0
        assert f"in {LEGACY} would be left behind" in played.output, played.output
    now = host.look()
    assert (now["pid"], now["path"], now["drop_ins"]) == (before["pid"], {}, before["drop_ins"])


def test_old_copies_in_a_directory_of_an_earlier_version_are_not_brought_alive(host: Host, before: State) -> None:
    earlier = "/opt/whatsapp/current/auth_info_baileys"
    host.sh(f"runuser -u whatsapp -- sh -c 'mkdir {earlier}; cp -a {LEGACY}/15550100001 {earlier}/old'")
    try:
        host.sh(f"systemctl restart {UNIT}")
        pid = host.well()["pid"]
        refused = play(host, "persist")
        at_rest = host.look()
        played = play(host, "persist", wa_legacy_paths=[LEGACY])
    finally:
        host.sh(f"rm -r {earlier}")

    assert refused.rc != 0
    assert "/auth_info_baileys, but whatsapp-backend.service has written only to the former" in refused.output
    assert (at_rest["pid"], at_rest["path"]) == (pid, {})
    assert played.rc == 0, played.output
    assert host.well()["path"] == before["legacy"]


def test_a_backend_that_is_down_stays_down_and_has_its_accounts(host: Host, before: State) -> None:
    """Also before its first start. Its unit calls the release by a link, and no process tells where that leads."""
    host.sh(f"systemctl stop {UNIT}")

    first, second = play(host, "persist"), play(host, "persist")
    down = host.look()
    host.sh(f"systemctl start {UNIT}")
    up = host.well()
    host.sh(f"systemctl stop {UNIT}")
    back = play(host, "rollback")

    assert first.rc == 0, first.output
    assert f"{UNIT} is stopped" in first.output
    assert (second.rc, second.changed) == (0, 0), second.output
    assert (down["ActiveState"], down["path"]) == ("inactive", before["legacy"])
    assert (up["well"], up["sessions_path"]) == (True, PATH)
    assert back.rc == 0, back.output
    assert host.look()["ActiveState"] == "inactive"


LACKS, USES = "its main process does not have the values of the switch", " using /opt/whatsapp/releases/"


@pytest.mark.parametrize(
    ("command", "messages"),
    [
        ("/bin/sh -c 'env -u SESSIONS_PATH node server.mjs; exit 0'", [USES]),
        # A program that opens its accounts within the time for the values is reported for that.
        ("/usr/bin/env -u SESSIONS_PATH node server.mjs", [LACKS, USES]),
    ],
)
def test_a_program_that_looks_elsewhere_is_left_as_it_was(
    host: Host, before: State, command: str, messages: list[str]
) -> None:
    host.put(f"{DROP_INS}/elsewhere.conf", f"[Service]\nExecStart=\nExecStart={command}\n")
    host.sh(f"systemctl daemon-reload; systemctl restart {UNIT}")
    host.connected()

    played = play(host, "persist", wa_attach="variable")

    assert played.rc != 0
    assert any(message in played.output for message in messages), played.output
    assert "20-sessions.conf" not in host.look()["drop_ins"]
    assert host.connected()["legacy"] == before["legacy"]


def test_a_unit_whose_program_ends_and_leaves_the_backend_behind(host: Host, before: State) -> None:
    left_behind = (
        "Type=oneshot\nRemainAfterExit=yes\nRestart=no\nExecStart=\nExecStart=/bin/sh -c 'setsid node server.mjs &'"
    )
    host.put(f"{DROP_INS}/leaves.conf", f"[Service]\n{left_behind}\n")
    host.sh(f"systemctl daemon-reload; systemctl restart {UNIT}")
    host.connected()

    played = play(host, "persist")
    connected = host.connected()
    restarted = play(host, "restart")

    assert played.rc == 0, played.output
    assert "make sure that" not in played.output  # what was left behind was seen to open its accounts at the path
    assert connected["path"] == before["legacy"]
    assert restarted.rc == 0, restarted.output


def test_an_environment_file_that_says_otherwise_is_fixed_and_nothing_else_in_it(host: Host) -> None:
    host.put(ENVIRONMENT_FILE, "# kept as it is\nTOKEN='a secret'\nSESSIONS_PATH=./.baileys_auth\nPORT=8080\n")
    host.sh(f"chmod 640 {ENVIRONMENT_FILE}; systemctl restart {UNIT}")
    host.well()

    played = play(host, "persist", "-vvv", "--diff")

    assert played.rc == 0, played.output
    assert host.sh(f"cat {ENVIRONMENT_FILE}") == f"# kept as it is\nTOKEN='a secret'\nSESSIONS_PATH={PATH}\nPORT=8080\n"
    assert host.sh(f"stat --format=%a {ENVIRONMENT_FILE}").strip() == "640"
    assert "a secret" not in played.output
    assert host.well()["sessions_path"] == PATH


def test_a_file_that_beats_ours_is_named_with_its_line_before_anything_happens(host: Host, before: State) -> None:
    host.put("/etc/whatsapp-backend/other", "A=1\nSESSIONS_PATH=./.baileys_auth\n")
    host.put(f"{DROP_INS}/zz.conf", "[Service]\nEnvironmentFile=/etc/whatsapp-backend/other\n")
    host.sh("systemctl daemon-reload")

    played = play(host, "persist")

    now = host.look()
    assert played.rc != 0
    assert "/etc/whatsapp-backend/other line 2 sets SESSIONS_PATH" in played.output
    assert (now["pid"], now["drop_ins"], now["path"]) == (before["pid"], ["05-chatter.conf", "zz.conf"], {})


def test_a_closed_unit_gets_the_line_that_lets_it_write(host: Host) -> None:
    host.put(f"{DROP_INS}/closed.conf", "[Service]\nProtectSystem=strict\nReadWritePaths=/opt/whatsapp\n")
    host.sh(f"systemctl daemon-reload; systemctl restart {UNIT}")
    host.well()

    played = play(host, "persist", wa_health_expect={"sessions_dir_writable": True})

    assert played.rc == 0, played.output
    assert host.well()["well"]


def test_a_retired_path_stops_an_old_release_and_asks_for_nothing_more(host: Host) -> None:
    first = play(host, "persist", wa_retire=True, wa_attach="variable")
    second = play(host, "persist", wa_retire=True, wa_attach="variable")

    assert first.rc == 0, first.output
    assert (second.rc, second.changed) == (0, 0), second.output
    assert PATH in host.sh(f"cat {LEGACY}")
    assert host.sh(f"stat --format='%U %a' {LEGACY}.migrated-*").split() == ["root", "700"]


# Settings, what is done before, and words of the sentence.
BAD_INPUT: list[tuple[dict[str, object], str, str]] = [
    ({"wa_service": "whatsapp-bakend"}, "true", "the unit whatsapp-bakend.service does not exist"),
    ({"wa_sessions_path": "/tmp/sessions"}, "true", "/tmp"),
    ({"wa_sessions_path": "/opt/link"}, "ln -sfn /var/lib /opt/link", "link"),
    # Lines of text, as a survey has them.
    (
        {"wa_legacy_paths": f"{LEGACY}\r\n\n {PATH} \n"},
        f"install -d -o whatsapp {PATH}",
        "is the sessions path itself",
    ),
    (
        {},
        f"printf '[Service]\\nDynamicUser=yes\\n' >{DROP_INS}/dynamic.conf; systemctl daemon-reload",
        "StateDirectory=",
    ),
]


def test_bad_input_gets_one_sentence_before_anything_is_changed(host: Host) -> None:
    look = f"ls -l {DROP_INS} {PATH} /etc/whatsapp-backend 2>&1 || true"
    pid = host.look()["pid"]
    for settings, prepare, message in BAD_INPUT:
        host.sh(prepare)
        there = host.sh(look)

        played = play(host, "persist", **settings)

        assert played.rc != 0, settings
        assert message in played.output, settings
        assert host.sh(look) == there, settings
    assert host.look()["pid"] == pid
    host.sh("rm --force /opt/link")


def test_verify_tells_counts_files_and_lines_and_no_account(host: Host, before: State) -> None:
    assert play(host, "persist").rc == 0
    assert play(host, "verify", wa_expected_accounts=3).rc == 0

    too_few = play(host, "verify", wa_expected_accounts=4)
    host.sh(f"sed --in-place 's,^SESSIONS_PATH=.*,SESSIONS_PATH=/elsewhere,' {ENVIRONMENT_FILE}")
    elsewhere = play(host, "verify")
    host.sh(f"sed --in-place 's,^SESSIONS_PATH=.*,SESSIONS_PATH={PATH},' {ENVIRONMENT_FILE}")
    host.sh(f"mkdir {PATH}/490123456; : >{PATH}/490123456/creds.json")  # not one that the backend knows, and fixes
    damaged = play(host, "verify", "-vvv")

    assert too_few.rc != 0
    assert "3 accounts are linked" in too_few.output
    assert elsewhere.rc != 0
    assert f"{ENVIRONMENT_FILE} line 1 sets it" in elsewhere.output
    assert damaged.rc != 0
    assert "1 are damaged" in damaged.output
    assert not any(name in damaged.output + too_few.output for name in (*before["legacy"], "490123456"))


def test_nothing_is_interrupted_for_fewer_accounts_than_expected(host: Host, before: State) -> None:
    played = play(host, "persist", wa_expected_accounts=4)

    assert played.rc != 0
    assert "3 accounts would be linked at" in played.output
    assert "are expected ('expected_accounts')" in played.output
    now = host.look()
    assert (now["pid"], now["path"], now["drop_ins"]) == (before["pid"], {}, before["drop_ins"])


TEMPLATE = "/etc/systemd/system/lines@.service"
OF_A_USER = "/home/anna/.config/systemd/user/lines.service"


def test_a_name_that_is_no_unit_of_the_system_ends_in_a_way_out(host: Host, before: State) -> None:
    host.sh("id anna >/dev/null 2>&1 || useradd --create-home anna")
    host.put(TEMPLATE, "[Service]\nExecStart=/bin/sleep infinity\n")
    host.sh("systemctl daemon-reload; systemctl start lines@4")
    try:
        of_a_template = play(host, "persist", wa_service="lines")
        template = play(host, "persist", wa_service="lines@")
        host.put(OF_A_USER, "[Service]\nExecStart=/bin/sleep infinity\n")
        of_a_user = play(host, "persist", wa_service="lines")
    finally:
        host.sh(f"systemctl stop lines@4; rm -rf {TEMPLATE} /home/anna/.config; systemctl daemon-reload")
    misspelt = play(host, "persist", wa_service="whatsap-backend")
    with_suffix = play(host, "persist", "--check", wa_service=UNIT)

    for played in (of_a_template, template):
        assert "lines@.service is a template" in played.output, played.output
        assert "in 'unit', such as lines@4.service" in played.output
    assert "it is a unit of the user manager of the user anna (systemctl --user)" in of_a_user.output, of_a_user.output
    assert f"{UNIT} uses accounts in /opt/whatsapp/releases/" in misspelt.output, misspelt.output
    assert "set 'unit' to that unit" in misspelt.output
    assert with_suffix.rc == 0, with_suffix.output
    assert host.look()["pid"] == before["pid"]


def test_a_unit_with_a_dynamic_user_is_refused_with_what_works_and_can_be_verified(host: Host, before: State) -> None:
    service, kept = "/etc/systemd/system/dynamic.service", "/var/lib/dynamic"
    host.put(
        service,
        f"[Service]\nDynamicUser=yes\nStateDirectory=dynamic\nEnvironment=SESSIONS_PATH={kept}\nExecStart=/bin/sleep infinity\n",
    )
    host.sh(
        f"systemctl daemon-reload; systemctl start dynamic; cp -r {LEGACY}/15550100001 {kept}/; systemctl restart dynamic"
    )
    try:
        refused = play(host, "persist", wa_service="dynamic", wa_health_url="")
        verified = play(
            host, "verify", wa_service="dynamic", wa_sessions_path=kept, wa_expected_accounts=1, wa_health_url=""
        )
    finally:
        host.sh(f"systemctl stop dynamic; rm -rf {service} {kept} /var/lib/private/dynamic; systemctl daemon-reload")

    assert refused.rc != 0
    assert f"systemd manages {kept} for it (StateDirectory=)" in refused.output, refused.output
    assert verified.rc == 0, verified.output
    assert host.look()["pid"] == before["pid"]
