# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that no content of a session was shown in outputs, left on the host or written to its journal."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

SCENARIO = Path(__file__).resolve().parents[1]
LAYOUTS = yaml.safe_load((SCENARIO / "vars" / "layouts.yml").read_text())["layouts"]
PLACES = [place for layout in LAYOUTS for place in (layout["legacy"], *layout.get("src", ()))]


def test_nothing_from_inside_a_session_was_shown():
    known = [
        f"--accounts={place.lstrip('/')}"
        for place in [*PLACES, *(f"/var/lib/{each['name']}/sessions" for each in LAYOUTS)]
    ]
    units = [f"--own-unit={unit}.service" for unit in ("whatsapp-gateway", "wppconnect-server")]
    search = subprocess.run(
        [SCENARIO.parent / "shared/look_for_secrets", *known, *units], capture_output=True, text=True
    )
    assert search.returncode == 0, search.stdout + search.stderr
