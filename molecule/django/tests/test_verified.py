# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the host and the messages of verify, after the web application and the disk were compared."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

SESSIONS = "/var/lib/whatsapp-backend/sessions"
LAB = Path(os.environ.get("LAB_DIR") or Path(__file__).resolve().parents[3] / ".work" / "lab")


@pytest.fixture(scope="module")
def outputs() -> list[str]:
    """Return the outputs of verify at -vvv, in the order of its runs."""
    kept = (LAB / "output").glob("whatsapp_ops.sessions.verify.*")
    return [path.read_text() for path in sorted(kept, key=lambda path: path.stat().st_mtime_ns)]


def test_every_session_is_at_the_sessions_path(host):
    names = host.check_output("ls %s", SESSIONS).split()
    assert names == [f"session-user_{name}" for name in ("1_instance_main", "2_instance_personal", "3_instance_old")]


def test_the_backend_restores_from_there_what_the_web_application_tells(host):
    program = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8080/health').read().decode())"
    health = json.loads(host.check_output("python3 -c %s", program))
    assert health["accounts"] == {"total": 2, "connected": 2, "needs_qr": 0}
    invocation = host.check_output("systemctl show --property=InvocationID --value whatsapp-backend")
    lines = host.check_output("journalctl --output=cat _SYSTEMD_INVOCATION_ID=%s", invocation).splitlines()
    assert "Session restoration complete: 2 restored, 0 failed" in lines


def test_what_is_on_disk_and_not_known_was_a_warning(outputs):
    told_missing, refused, well = outputs
    for output in (told_missing, well):
        assert "1 accounts on disk are not expected (s…d-" in output
    assert "are not expected" not in refused


def test_the_key_was_sent_and_shown_nowhere(host, outputs):
    key = host.file("/etc/webapp/env").content_string.strip().partition("=")[2]
    assert key.startswith("CANARY_")
    assert not any(key in output for output in outputs)
    assert all("VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in output for output in outputs)


def test_the_host_s_log_does_not_even_have_the_options(host):
    lines = host.check_output("journalctl --output=cat --identifier=ansible-whatsapp_ops.sessions.session_plan")
    assert lines.count("Invoked with sensitive options") == 3
