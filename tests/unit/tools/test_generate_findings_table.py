# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of findings and problems on the pages are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

import generate_findings_table
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.findings import FINDINGS
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.problems import PROBLEMS


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    for name, marker in (("findings.md", "findings"), ("layouts.md", "problems")):
        (tmp_path / name).write_text(f"before\n<!-- {marker}: begin -->\nold\n<!-- {marker}: end -->\nafter\n")
    return tmp_path


def test_outdated_pages_are_reported_and_written(pages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate_findings_table.main(["--check"], pages) == 2
    assert "findings.md:1: does not match the table of findings" in capsys.readouterr().out
    assert generate_findings_table.main([], pages) == 0
    assert generate_findings_table.main(["--check"], pages) == 0
    for page in pages.iterdir():
        held = page.read_text()
        assert held.startswith("before\n")
        assert held.endswith("after\n")
        assert "old" not in held.splitlines()


def test_every_finding_and_every_problem_is_on_a_page(pages: Path) -> None:
    generate_findings_table.main([], pages)
    findings, layouts = ((pages / name).read_text() for name in ("findings.md", "layouts.md"))
    assert all(f"### {finding.id}\n" in findings and finding.remedy in findings for finding in FINDINGS)
    assert all(f"`{word}`" in layouts for word in PROBLEMS)


def test_a_page_without_a_place_for_the_table(pages: Path) -> None:
    (pages / "findings.md").write_text("nothing\n")
    with pytest.raises(SystemExit, match="no markers for the table"):
        generate_findings_table.main([], pages)
