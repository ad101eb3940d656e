# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the host after the accounts of every layout were migrated, and whether the real libraries open them."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

LAYOUTS = yaml.safe_load((Path(__file__).resolve().parents[1] / "vars" / "layouts.yml").read_text())["layouts"]
SESSIONS = {layout["name"]: f"/var/lib/{layout['name']}/sessions" for layout in LAYOUTS}
BROWSERS = {name: SESSIONS[name] for name in ("wwebjs", "session_manager", "wppconnect", "openwa", "venom")}


def found(host, places, conditions: str) -> list[str]:
    return host.check_output(f"find {' '.join(places)} {conditions}").splitlines()


def test_every_backend_runs_on_its_sessions_path(host):
    properties = "--property=MainPID,ActiveState,NRestarts"
    shown = host.check_output(f"systemctl show {properties} {' '.join(layout['unit'] for layout in LAYOUTS)}")
    units = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.split("\n\n")]
    assert [(unit["ActiveState"], unit["NRestarts"]) for unit in units] == [("active", "0")] * len(LAYOUTS)
    environments = " ".join(f"/proc/{unit['MainPID']}/environ" for unit in units)
    lines = host.check_output(f"grep --null-data --no-filename ^SESSIONS_PATH= {environments} | tr '\\0' '\\n'")
    assert lines.splitlines() == [f"SESSIONS_PATH={path}" for path in SESSIONS.values()]


def test_everything_belongs_to_the_service_and_to_nobody_else(host):
    assert found(host, SESSIONS.values(), r"\( -not -user whatsapp -o -not -group whatsapp \)") == []


def test_neither_locks_nor_caches_were_copied(host):
    assert found(host, BROWSERS.values(), "-name 'Singleton*' -o -name DevToolsActivePort") == []
    # Backups of a session manager are copied as they are, because they are not profiles.
    caches = r"-type d \( -name Cache -o -name 'Code Cache' -o -name ShaderCache \) -print"
    assert found(host, BROWSERS.values(), f"-name .session-cache -prune -o {caches}") == []
    # There are profiles of each; otherwise nothing could be found.
    profiles = found(host, BROWSERS.values(), "-name https_web.whatsapp.com_0.indexeddb.leveldb")
    assert all(sum(each.startswith(path) for each in profiles) >= 4 for path in BROWSERS.values())


def test_what_a_session_manager_keeps_beside_its_accounts_went_with_them(host):
    beside = host.check_output("ls -A %s", SESSIONS["session_manager"]).split()
    assert set(beside) == {"sessions", "session-state.json", "session-index.json", ".session-cache"}


def test_tenants_of_both_places_are_there_with_backslashes_in_their_file_names(host):
    tenants = SESSIONS["baileys_csharp"]
    assert len(found(host, [tenants], "-name '*_creds.json'")) == 3
    assert len(found(host, [f"{tenants}/older"], "-name '*\\\\*'")) >= 3


def test_the_library_opens_the_store_at_its_new_place(host):
    """The devices and rows of a store are unchanged, although all its data, including the tables, was in the -wal file."""
    store = f"{SESSIONS['whatsmeow']}/sound/whatsapp.db"
    now = json.loads(host.check_output("/srv/build/whatsmeow/run identity.py %s", store))
    assert now == json.loads(host.file("/root/lab/stores.json").content_string)
    assert len(now["devices"]) == 2
    log = host.check_output("journalctl --output=cat --boot --unit=whatsapp-gateway").splitlines()
    assert f"Session restored from disk: 2 devices of {store}" in log


def test_the_legacy_store_would_have_been_empty_without_its_log(host):
    """The previous test can fail: the database file alone has no table."""
    assert host.file("/opt/gateway/storages/sound/whatsapp.db").size == 4096


def test_the_token_store_reads_its_tokens_at_their_new_place(host):
    program = "cd /opt/wppconnect && runuser -u whatsapp -- node identity.mjs %s"
    now = json.loads(host.check_output(program, SESSIONS["wppconnect"]))
    assert now == json.loads(host.file("/root/lab/tokens.json").content_string)
    assert sorted(now) == ["shop-1", "shop-2"]
    assert None not in now.values()


def test_damaged_accounts_have_stayed_where_they_were(host):
    damaged = r"-iname '*corrupt*' -o -name torn"
    assert found(host, SESSIONS.values(), damaged) == []
    legacy = (layout["legacy"] for layout in LAYOUTS)
    assert len(found(host, legacy, rf"-type d \( {damaged} \)")) >= len(LAYOUTS)


def test_every_migration_has_left_its_receipt(host):
    assert len(found(host, ["/var/lib"], "-name receipt.json -size +0")) == len(LAYOUTS)
