# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on the host after the accounts of every layout were migrated, and whether the real libraries open them there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

LAYOUTS = yaml.safe_load((Path(__file__).resolve().parents[1] / "layouts.yml").read_text())["layouts"]
BROWSERS = ("wwebjs", "session_manager", "wppconnect", "openwa", "venom")


def sessions(name: str) -> str:
    return f"/var/lib/{name}/sessions"


def found(host, where: str, *conditions: str) -> list[str]:
    return host.check_output("find %s " + " ".join(conditions), where).splitlines()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout["name"])
def test_the_backend_runs_on_the_sessions_path(host, layout):
    shown = host.check_output("systemctl show --property=MainPID,ActiveState,NRestarts %s", layout["unit"])
    state = dict(line.split("=", 1) for line in shown.splitlines())
    assert (state["ActiveState"], state["NRestarts"]) == ("active", "0")
    environment = host.check_output("tr '\\0' '\\n' </proc/%s/environ", state["MainPID"]).splitlines()
    assert f"SESSIONS_PATH={sessions(layout['name'])}" in environment


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout["name"])
def test_everything_belongs_to_the_service_and_to_nobody_else(host, layout):
    assert found(host, sessions(layout["name"]), r"\( -not -user whatsapp -o -not -group whatsapp \)") == []


@pytest.mark.parametrize("name", BROWSERS)
def test_neither_locks_nor_caches_were_copied(host, name):
    profiles = sessions(name)
    assert found(host, profiles, "-name 'Singleton*'", "-o -name DevToolsActivePort") == []
    # A manager's own backups are copied as they are: they are nobody's profile.
    caches = r"\( -name Cache -o -name 'Code Cache' -o -name ShaderCache \)"
    assert found(host, profiles, "-name .session-cache -prune -o -type d", caches, "-print") == []
    # At least one profile of each is there, or nothing would be found anywhere.
    assert len(found(host, profiles, "-type d", "-name 'https_web.whatsapp.com_0.indexeddb.leveldb'")) >= 4


def test_what_a_session_manager_keeps_beside_its_accounts_went_with_them(host):
    beside = {path.rpartition("/")[2] for path in found(host, sessions("session_manager"), "-mindepth 1 -maxdepth 1")}
    assert beside == {"sessions", "session-state.json", "session-index.json", ".session-cache"}


def test_tenants_of_both_places_are_there_with_backslashes_in_their_file_names(host):
    assert len(found(host, sessions("baileys_csharp"), "-mindepth 2", "-name '*_creds.json'")) == 3
    assert len(found(host, f"{sessions('baileys_csharp')}/older", "-name '*\\\\*'")) >= 3


def test_the_library_opens_the_store_at_its_new_place(host):
    """The same devices and the same rows, of a store of which everything, even the tables, was in the -wal file."""
    store = f"{sessions('whatsmeow')}/sound/whatsapp.db"
    now = json.loads(host.check_output("/srv/build/whatsmeow/run identity.py %s", store))
    before = json.loads(host.file("/root/lab/stores.json").content_string)
    assert now == before
    assert len(now["devices"]) == 2
    log = host.check_output("journalctl --output=cat --unit=whatsapp-gateway")
    assert f"Session restored from disk: 2 devices of {store}" in log


def test_the_legacy_store_would_have_been_empty_without_its_log(host):
    """What the test above is worth: the file that a plain copy takes for the store has no table."""
    assert host.file("/opt/gateway/storages/sound/whatsapp.db").size == 4096


def test_the_token_store_reads_its_tokens_at_their_new_place(host):
    program = "cd /opt/wppconnect && runuser -u whatsapp -- node identity.mjs %s"
    now = json.loads(host.check_output(program, sessions("wppconnect")))
    assert now == json.loads(host.file("/root/lab/tokens.json").content_string)
    assert sorted(now) == ["shop-1", "shop-2"]
    assert None not in now.values()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout["name"])
def test_damaged_accounts_have_stayed_where_they_were(host, layout):
    receipt = json.loads(host.file(f"/var/lib/{layout['name']}/.sessions.whatsapp-ops/receipt.json").content_string)
    assert receipt
    assert found(host, sessions(layout["name"]), "-iname '*corrupt*'", "-o -name torn") == []
