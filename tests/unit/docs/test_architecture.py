# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the architecture is about this tree: files, packages and tests that it names exist, and its links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/architecture.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
# Folders of the repository; other paths on the page are those of a host.
FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
# What stands for any role, playbook or layout in a recipe.
PLACEHOLDER = re.compile(r"\b(?:NAME|ROLE)\b")
# Is there between releases only.
COMES_AND_GOES = "changelogs/fragments"
UTILS = ROOT / "plugins/module_utils"


def quoted(page: Path) -> list[str]:
    """Return what the page sets as code within lines."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


def named_paths(page: Path) -> list[str]:
    """Return the paths of the repository that the page names; those that begin with an underscore are below module_utils."""
    begin = tuple(f"{folder}/" for folder in FOLDERS)
    words = {f"plugins/module_utils/{word}" if re.match(r"_\w+/", word) else word for word in quoted(page)}
    return sorted(word for word in words if word.startswith(begin) and not PLACEHOLDER.search(word) and " " not in word)


def named_tests(page: Path) -> list[tuple[str, str]]:
    """Return file and name of the tests that the page names."""
    return sorted(set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", page.read_text("utf-8"))))


@pytest.mark.parametrize("page", [PAGE, CONTRIBUTING], ids=lambda page: page.name)
def test_every_path_that_is_named_exists(page: Path) -> None:
    named = named_paths(page)
    assert named
    assert [name for name in named if not (ROOT / name).exists() and name != COMES_AND_GOES] == []


def test_every_test_that_is_named_exists() -> None:
    named = named_tests(PAGE)
    assert len(named) > 20
    assert [f"{file}::{test}" for file, test in named if test not in defined_in(file)] == []


def defined_in(file: str) -> set[str]:
    """Return the tests of all files of that name."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob(file)]
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_table_of_packages_has_every_package() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("\n## Packages\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)
    packages = {".".join(path.parent.relative_to(UTILS).parts) for path in UTILS.rglob("*.py")} - {""}
    assert set(named) == packages
    assert len(named) == len(set(named))


def test_every_package_is_in_the_picture_of_layers() -> None:
    picture = PAGE.read_text(encoding="utf-8").partition("\n## Layers\n")[2].partition("\n## ")[0]
    packages = {".".join(path.parent.relative_to(UTILS).parts) for path in UTILS.rglob("*.py")} - {""}
    assert packages <= set(re.findall(r"(?<![\w/])_[a-z]+(?:\.apply)?", picture))


@pytest.mark.parametrize("page", [PAGE, CONTRIBUTING], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert links
    broken = []
    for link in links:
        path, _hash, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(target))):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the names that forges give to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_what_is_gone_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`docs/gone.md`, `_core/gone.py`, `/etc/host`, `roles/ROLE/x.yml`\n```text\n`tests/no.py`\n```\n`test_a.py::test_b`\n"
    )
    assert named_paths(page) == ["docs/gone.md", "plugins/module_utils/_core/gone.py"]
    assert named_tests(page) == [("test_a.py", "test_b")]
    assert defined_in("test_a.py") == set()
