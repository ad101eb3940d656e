# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that neither the key of the web application nor content of a session is in outputs, on the host or in its journal."""

from __future__ import annotations

import subprocess
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared"
KNOWN = (
    "--accounts=opt/whatsapp-service/.wwebjs_auth",
    "--own-file=etc/webapp/env",
    "--own-file=etc/whatsapp-service/api",
    "--own-file=var/lib/webapp",
    "--own-unit=webapp.service",
)


def test_nothing_from_inside_a_session_was_shown():
    search = subprocess.run([SHARED / "look_for_secrets", *KNOWN], capture_output=True, text=True)
    assert search.returncode == 0, search.stdout + search.stderr
