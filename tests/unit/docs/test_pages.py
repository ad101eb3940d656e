# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages for users: every link leads somewhere, and every command of the first pages is one that ansible-playbook accepts."""

from __future__ import annotations

import configparser
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

import generate_docs_index as index

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
FIRST = [ROOT / "README.md", ROOT / "docs" / "first-steps.md"]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def anchors(page: pathlib.Path) -> set[str]:
    """Return the anchors of headings, as forges and the site make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.replace(" ", "-") for text in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: pathlib.Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in (link for link in LINK.findall(text) if "://" not in link):
        name, _hash, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def commands(page: pathlib.Path) -> set[str]:
    """Return the commands of a page, without comments."""
    blocks = [text for language, text in FENCE.findall(page.read_text(encoding="utf-8")) if language == "shell"]
    return {" ".join(shlex.split(line, comments=True)) for block in blocks for line in block.splitlines()} - {""}


ALL = sorted({command for page in FIRST for command in commands(page)})


def test_every_command_is_known() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    version = re.search(r"^version: (\S+)$", (ROOT / "galaxy.yml").read_text(), re.MULTILINE)
    assert version
    for command in ALL:
        program, *arguments = command.split()
        if program == "make":
            assert arguments[0] in targets
        elif program == "ansible-galaxy":
            assert arguments == ["collection", "install", f"whatsapp_ops-sessions-{version[1]}.tar.gz"]
        else:
            assert program == "ansible-playbook"


def test_every_playbook_command_is_accepted(tmp_path: pathlib.Path) -> None:
    # As a user of the built collection: without this checkout's ansible.cfg, next to an inventory.
    (tmp_path / "inventory").write_text("[whatsapp]\nwa1\nwa2\n")
    (tmp_path / "playbooks").symlink_to(ROOT / "playbooks")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "playbooks" / "collections"),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("ANSIBLE_CONFIG", None)
    # One run for each playbook with all options that the pages show for it, because each start costs a second.
    options: dict[str, list[str]] = {}
    for command in (command for command in ALL if command.startswith("ansible-playbook")):
        _program, _inventory, inventory, playbook, *more = command.split()
        assert inventory == "inventory"
        options.setdefault(playbook, []).extend(more)
    assert len(options) >= 5
    for playbook, more in options.items():
        done = subprocess.run(
            ["ansible-playbook", "-i", "inventory", playbook, "--list-tasks", *more],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Check the settings" in done.stdout


def test_the_lines_of_ansible_cfg_are_those_of_the_checkout() -> None:
    page = (ROOT / "docs" / "first-steps.md").read_text(encoding="utf-8")
    shown = [text for language, text in FENCE.findall(page) if language == "ini" and "[defaults]" in text]
    assert len(shown) == 1
    ours, example, told = (configparser.ConfigParser() for dummy in range(3))
    ours.read(ROOT / "ansible.cfg")
    example.read(ROOT / "docs" / "examples" / "ansible.cfg")
    told.read_string(shown[0])
    for section in told.sections():
        for name, value in told.items(section):
            assert ours[section][name] == value == example[section][name]


def test_a_page_that_is_added_is_missed_in_the_index(tmp_path: pathlib.Path) -> None:
    (tmp_path / "README.md").write_text(f"Pages\n\n{index.BEGIN}{index.END}")
    (tmp_path / "backup.md").write_text("<!-- licence -->\n\n# Backup: keep copies\n")
    assert index.main(["--check"], tmp_path) == 1
    assert index.main([], tmp_path) == index.main(["--check"], tmp_path) == 0
    assert "- [Backup: keep copies](backup.md)\n" in (tmp_path / "README.md").read_text()
