# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files AWX offers as playbooks when this checkout is one of its projects: those of the collection, and no others.

AWX judges names and lines. It offers each YAML file with a line that begins with one of these keys, or that is encrypted,
unless a directory on the path to it has one of these names or begins with a dot. It follows no links.
"""

from __future__ import annotations

import pathlib
import re
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
# As in awx/main/utils/ansible.py.
BEGINS_A_PLAY = re.compile(r"\s*-?\s*(?:hosts|include|(?:ansible\.builtin\.)?import_playbook):")
LEFT_OUT = {"roles", "tasks", "group_vars", "host_vars"}


def is_offered(path: pathlib.PurePath, text: str) -> bool:
    """Whether AWX offers a file, by its path in the project and its text."""
    if path.suffix not in (".yml", ".yaml"):
        return False
    if any(part in LEFT_OUT or part.startswith(".") for part in path.parent.parts):
        return False
    return text.startswith("$ANSIBLE_VAULT;") or any(map(BEGINS_A_PLAY.match, text.splitlines()))


def test_only_playbooks_of_the_collection_are_offered() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.yml", "*.yaml"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    files = [pathlib.PurePath(name) for name in listed.split("\0") if name and (REPOSITORY / name).is_file()]
    offered = {path for path in files if is_offered(path, (REPOSITORY / path).read_text(encoding="utf-8"))}
    own = {path for path in files if path.parent == pathlib.PurePath("playbooks")}
    assert own
    assert offered == own


@pytest.mark.parametrize(
    ("path", "text", "offered"),
    [
        ("benchmarks/ping.yml", "- name: Ping\n  hosts: all\n", True),
        ("benchmarks/ping.yml", '- name: Ping\n  "hosts": all\n', False),
        ("molecule/default/create.yml", "- ansible.builtin.import_playbook: ../shared/create.yml\n", True),
        ("docs/inventory.yml", "whatsapp:\n  hosts:\n    wa1:\n", True),
        ("docs/secret.yaml", "$ANSIBLE_VAULT;1.1;AES256\n", True),
        ("docs/group_vars/all.yml", "$ANSIBLE_VAULT;1.1;AES256\n", False),
        (".github/test.yml", "- hosts: all\n", False),
        ("roles/persist/meta/main.yml", "hosts:\n", False),
        ("docs/inventory", "hosts:\n", False),
    ],
)
def test_the_rule_is_that_of_awx(path: str, text: str, offered: bool) -> None:
    assert is_offered(pathlib.PurePath(path), text) is offered
