# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing from inside a session was shown: not in outputs, not in what was left on hosts, not in our journal lines."""

from __future__ import annotations

import subprocess
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared"


def test_nothing_from_inside_a_session_was_shown():
    search = subprocess.run([SHARED / "look_for_secrets"], capture_output=True, text=True)
    assert search.returncode == 0, search.stdout + search.stderr
