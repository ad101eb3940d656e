# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that the search for secrets finds them in all formats in which a program could print them."""

from __future__ import annotations

import base64
import importlib.machinery
import importlib.util
import sqlite3
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "molecule/shared/look_for_secrets"
KEY = bytes(range(32))
PRINTED = base64.b64encode(KEY).decode()
KEY_IN_BROWSER = bytes(range(100, 148))
KEY_IN_STORE = bytes(range(200, 232))


@pytest.fixture(scope="module")
def program():
    loader = importlib.machinery.SourceFileLoader("look_for_secrets", str(PROGRAM))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


@pytest.fixture
def secrets(program, tmp_path):
    account = tmp_path / "var/lib/whatsapp-backend/sessions/15550100001"
    account.mkdir(parents=True)
    (account / "session-15550200001_1.0.json").write_text(f'{{"private": {{"type": "Buffer", "data": "{PRINTED}"}}}}')
    profile = tmp_path / "opt/whatsapp/releases/1/.wwebjs_auth/session-user_3_instance_main"
    database = profile / "Default/Local Storage/leveldb/000003.log"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"\x0bWANoiseInfo\x41\x01" + base64.b64encode(KEY_IN_BROWSER) + b"\x00\x01")
    store = sqlite3.connect(tmp_path / "var/lib/whatsapp-backend/sessions/whatsapp.db")
    store.execute("CREATE TABLE whatsmeow_device (jid TEXT, noise_key BLOB)")
    store.execute("INSERT INTO whatsmeow_device VALUES ('15550300009:3@s.whatsapp.net', ?)", [KEY_IN_STORE])
    store.commit()
    (tmp_path / "var/lib/whatsapp-backend/sessions/broken.db").write_bytes(b"no store")
    (account / "creds.json").write_bytes(b"")
    return program.collect([tmp_path])


@pytest.mark.parametrize(
    "text",
    [
        "a file named session-CANARYNAMEabc.json",
        "account 15550100001 is fine",
        "cannot read session-15550200001_1.0.json",
        f"private: {PRINTED}",
        f"cut in the middle {PRINTED[5:30]}",
        f"in hexadecimal {KEY.hex()}",
        "no browser for user_3_instance_main",
        f"from a browser {base64.b64encode(KEY_IN_BROWSER).decode()}",
        f"from a browser in hexadecimal {KEY_IN_BROWSER.hex()}",
        "device 15550300009:3 was not found",
        f"from a store {KEY_IN_STORE.hex()}",
        f"from a store in base64 {base64.b64encode(KEY_IN_STORE).decode()}",
        "<Buffer " + " ".join(f"{byte:02x}" for byte in KEY) + ">",
    ],
)
def test_a_secret_is_found(secrets, text):
    assert secrets.kinds_in(text.encode())


@pytest.mark.parametrize(
    "text", ["", "3 accounts migrated", "sha256 " + "9f" * 32, "/var/lib/whatsapp-backend/sessions"]
)
def test_what_is_no_secret_is_not(secrets, text):
    assert not secrets.kinds_in(text.encode())


def test_a_finding_does_not_show_the_secret(program):
    assert "15550200001" not in program.mask("tmp/session-15550200001.json")
