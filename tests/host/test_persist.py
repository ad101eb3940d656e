# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator sees when persist and verify run against a real backend."""

from __future__ import annotations

import pytest

from conftest import ACCOUNTS, DROP_INS, ENVIRONMENT, LEGACY, SESSIONS, Shop


def test_first_run_costs_five_calls_and_the_second_one(shop: Shop) -> None:
    before = shop.module_calls()
    first = shop.play("persist")
    after_first, pid = shop.module_calls(), shop.main_pid()
    second = shop.play("persist")

    assert first.rc == 0, first.output
    assert first.changed == 3
    assert after_first - before <= 5
    assert (second.rc, second.changed) == (0, 0), second.output
    assert shop.module_calls() - after_first == 1
    assert shop.main_pid() == pid


@pytest.mark.parametrize("engine", ["native", "rsync", "rename"])
def test_sessions_that_change_all_the_time_arrive_as_they_are(shop: Shop, engine: str) -> None:
    shop.sh(f"mkdir -p {DROP_INS}; printf '[Service]\\nEnvironment=CHATTER_MS=200\\n' >{DROP_INS}/05-chatter.conf")
    shop.sh("systemctl daemon-reload; systemctl restart whatsapp-backend")
    shop.wait_until_connected()
    identities = shop.identities(LEGACY)

    played = shop.play("persist", wa_engine=engine)

    assert played.rc == 0, played.output
    assert shop.identities(SESSIONS) == identities
    assert shop.wait_until_connected()["accounts"] == {"total": ACCOUNTS, "connected": ACCOUNTS, "needs_qr": 0}
    shop.sh("redeploy; redeploy")  # two, so that the release with the legacy path is gone
    assert shop.wait_until_connected()["accounts"]["needs_qr"] == 0
    assert shop.identities(SESSIONS) == identities


def test_an_environment_file_that_says_otherwise_is_mended_and_nothing_else_in_it(shop: Shop) -> None:
    text = "# kept as it is\\nTOKEN='a b'\\nSESSIONS_PATH=./.baileys_auth\\nPORT=8080\\n"
    shop.sh(f'printf "{text}" >{ENVIRONMENT}; chmod 640 {ENVIRONMENT}; systemctl restart whatsapp-backend')
    shop.wait_until_connected()

    played = shop.play("persist", "-vvv", "--diff")

    assert played.rc == 0, played.output
    assert shop.sh(f"cat {ENVIRONMENT}") == f"# kept as it is\nTOKEN='a b'\nSESSIONS_PATH={SESSIONS}\nPORT=8080"
    assert shop.sh(f"stat -c %a {ENVIRONMENT}") == "640"
    assert "a b" not in played.output
    assert f"SESSIONS_PATH={SESSIONS}" in shop.sh(
        "tr '\\0' '\\n' </proc/$(systemctl show -P MainPID whatsapp-backend)/environ"
    )


def test_a_file_that_beats_ours_is_named_with_its_line_before_anything_happens(shop: Shop) -> None:
    shop.sh(
        f"mkdir -p {DROP_INS}; printf '[Service]\\nEnvironmentFile=/etc/whatsapp-backend/other\\n' >{DROP_INS}/zz.conf;"
        "printf 'A=1\\nSESSIONS_PATH=./.baileys_auth\\n' >/etc/whatsapp-backend/other; systemctl daemon-reload"
    )
    pid = shop.main_pid()

    played = shop.play("persist")

    assert played.rc != 0
    assert "/etc/whatsapp-backend/other line 2 sets SESSIONS_PATH" in played.output
    assert shop.main_pid() == pid
    assert shop.sh(f"ls {DROP_INS}; ls -d {SESSIONS} 2>/dev/null || true") == "zz.conf"
    shop.sh("rm /etc/whatsapp-backend/other")


def test_a_closed_unit_gets_the_line_that_lets_it_write(shop: Shop) -> None:
    shop.sh(
        f"mkdir -p {DROP_INS}; printf '[Service]\\nProtectSystem=strict\\nReadWritePaths=/opt/whatsapp\\n' >{DROP_INS}/closed.conf;"
        "systemctl daemon-reload; systemctl restart whatsapp-backend"
    )
    shop.wait_until_connected()

    played = shop.play("persist", wa_health_expect={"sessions_dir_writable": True})

    assert played.rc == 0, played.output
    assert shop.wait_until_connected()["sessions_dir_writable"] is True


def test_a_retired_path_stops_an_old_release_and_asks_for_nothing_more(shop: Shop) -> None:
    first = shop.play("persist", wa_retire=True)
    second = shop.play("persist", wa_retire=True)

    assert first.rc == 0, first.output
    assert (second.rc, second.changed) == (0, 0), second.output
    assert SESSIONS in shop.sh(f"cat {LEGACY}")
    assert shop.sh(f"stat -c '%U %a' {LEGACY}.migrated-*") == "root 700"


@pytest.mark.parametrize(
    ("settings", "prepare", "message"),
    [
        ({"wa_service": "whatsapp-bakend"}, "true", "the unit whatsapp-bakend.service does not exist"),
        ({"wa_sessions_path": "/tmp/sessions"}, "true", "/tmp"),
        ({"wa_sessions_path": "/run/sessions"}, "true", "/run/sessions"),
        ({"wa_sessions_path": "sessions"}, "true", "relative"),
        ({"wa_sessions_path": "/srv/link"}, "ln -sfn /var/lib /srv/link", "link"),
        (
            {"wa_legacy_paths": [SESSIONS]},
            f"mkdir -p {SESSIONS}; chown -R whatsapp: {SESSIONS}",
            "is the sessions path itself",
        ),
        (
            {},
            f"mkdir -p {DROP_INS}; printf '[Service]\\nDynamicUser=yes\\n' >{DROP_INS}/dynamic.conf; systemctl daemon-reload",
            "StateDirectory=",
        ),
    ],
)
def test_bad_input_gets_one_sentence_before_anything_is_changed(
    shop: Shop, settings: dict[str, object], prepare: str, message: str
) -> None:
    shop.sh(prepare)
    pid = shop.main_pid()
    there = shop.sh(f"ls {DROP_INS} {SESSIONS} 2>&1 || true")

    played = shop.play("persist", **settings)

    assert played.rc != 0
    assert message in played.output
    assert shop.main_pid() == pid
    assert shop.sh(f"ls {DROP_INS} {SESSIONS} 2>&1 || true") == there
    shop.sh("rm -f /srv/link")


def test_verify_tells_counts_files_and_lines_and_no_account(shop: Shop) -> None:
    assert shop.play("persist").rc == 0
    assert shop.play("verify", wa_expected_accounts=ACCOUNTS).rc == 0

    too_few = shop.play("verify", wa_expected_accounts=ACCOUNTS + 1)
    shop.sh(f"sed -i 's,^SESSIONS_PATH=.*,SESSIONS_PATH=/elsewhere,' {ENVIRONMENT}")
    elsewhere = shop.play("verify")
    shop.sh(
        f"sed -i 's,^SESSIONS_PATH=.*,SESSIONS_PATH={SESSIONS},' {ENVIRONMENT}; : >$(ls -d {SESSIONS}/*/creds.json | head -n 1)"
    )
    damaged = shop.play("verify", "-vvv")

    assert too_few.rc != 0
    assert f"{ACCOUNTS} accounts are linked" in too_few.output
    assert elsewhere.rc != 0
    assert f"{ENVIRONMENT} line 1 decides" in elsewhere.output
    assert damaged.rc != 0
    assert f"{ACCOUNTS - 1} accounts are linked" in damaged.output
    assert "1 are damaged" in damaged.output
    assert not any(name in damaged.output + too_few.output for name in shop.sh(f"ls {SESSIONS}").split())


def test_persist_fails_when_fewer_accounts_are_linked_than_expected(shop: Shop) -> None:
    played = shop.play("persist", wa_expected_accounts=ACCOUNTS + 1)

    assert played.rc != 0
    assert f"{ACCOUNTS} accounts are linked" in played.output
    assert shop.wait_until_connected()["accounts"]["needs_qr"] == 0
