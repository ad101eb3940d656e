# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that no content of a session was shown in outputs, left on hosts or written to journals."""

from __future__ import annotations

import subprocess
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared"


def test_nothing_from_inside_a_session_was_shown():
    search = subprocess.run([SHARED / "look_for_secrets"], capture_output=True, text=True)
    assert search.returncode == 0, search.stdout + search.stderr
