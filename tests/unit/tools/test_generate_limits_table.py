# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of limits in docs/security.md: what is promised there is what the code has."""

from __future__ import annotations

import pathlib

import pytest

import generate_limits_table as tool
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import limits


def test_every_limit_has_a_row() -> None:
    rows = list(tool.lines(tool.LIMITS.read_text()))[2:]
    named = {row.split("`")[1] for row in rows}
    assert named == {name for name in vars(limits) if name.isupper()} - {"KIB", "MIB", "GIB"}


def test_rows_are_readable() -> None:
    source = "# Bytes, because.\nA = 2 * MIB\n\n# Seconds\n# of that.\nB_SECONDS = 6 * 3600.0\nC = 1_000_000\n"
    assert list(tool.lines(source))[2:] == [
        "| `A` | 2 MiB | Bytes, because. |",
        "| `B_SECONDS` | 21,600 s | Seconds of that. |",
        "| `C` | 1,000,000 | Seconds of that. |",
    ]


def test_a_page_that_is_behind_is_said_and_written(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "security.md"
    page.write_text(f"before\n{tool.BEGIN}old\n{tool.END}after\n")
    assert tool.main(["--check"], page) == 1
    assert "run `make readmes`" in capsys.readouterr().out
    assert tool.main([], page) == tool.main(["--check"], page) == 0
    held = page.read_text()
    assert held.startswith(f"before\n{tool.BEGIN}")
    assert held.endswith(f"{tool.END}after\n")
    assert "`FILE_BYTES`" in held
