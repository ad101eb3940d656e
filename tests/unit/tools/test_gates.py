# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates of this repository find what they are there for."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest

import check_licences
import check_module_size
import check_playbook_specs
import check_role_specs
import generate_layout_table
import generate_role_readme
from roles import Role
from tree import ROOT, files


def role(defaults: dict[str, t.Any], options: dict[str, t.Any]) -> Role:
    return Role("greet", defaults, {"main": {"short_description": "Greets", "options": options}})


@pytest.mark.parametrize(
    ("default", "option", "problem"),
    [
        (3, {"default": 3}, None),
        (3, {"default": 4}, "is 4 in argument_specs but 3 in defaults"),
        (True, {"default": 1}, "is 1 in argument_specs but True in defaults"),
        (3, {}, "is absent in argument_specs but 3 in defaults"),
        (3, {"required": True}, "is required, so defaults must not set it"),
        ("{{ wa_greeting | default('hello') }}", {"default": "hello"}, None),
        ("{{ wa_greeting | default('hello', true) }}", {"default": "hello"}, None),
        ("{{ wa_greeting | default('hello') }}", {"default": "bye"}, "but 'hello' in defaults"),
        ("{{ wa_greeting | default(false) }}", {"default": False}, None),
        ("{{ wa_greeting | default(omit) }}", {}, None),
        ("{{ wa_x | default(none) | whatsapp_ops.sessions.setting('bool', true) }}", {"default": True}, None),
        ("{{ wa_x | default(none) | whatsapp_ops.sessions.setting('bool', true) }}", {"default": False}, "but True in"),
        ("{{ wa_greeting | default([]) }}", {"default": []}, None),
        ("{{ wa_greeting | default(wa_name ~ '!') }}", {}, None),
        ("{{ wa_greeting | default(wa_name ~ '!') }}", {"default": "x"}, "is computed in defaults"),
    ],
)
def test_drift_of_a_default(default: t.Any, option: dict[str, t.Any], problem: str | None) -> None:
    found = list(check_role_specs.drift(role({"greet_x": default}, {"greet_x": option})))
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]


def test_drift_of_names() -> None:
    found = list(check_role_specs.drift(role({"greet_new": 1}, {"greet_old": {"default": 1}})))
    assert found == [
        "greet_new is in defaults but not in argument_specs",
        "greet_old is 1 in argument_specs but absent in defaults",
    ]


def test_readme_shows_every_variable_as_a_user_writes_it() -> None:
    options = {
        "greet_often": {"type": "bool", "default": False, "description": "Whether O(greet_whom) hears V(hello) | bye."},
        "greet_whom": {"type": "list", "elements": "str", "required": True, "description": ["One.", "Two."]},
        "greet_how": {"type": "dict", "options": {"mood": {"choices": ["glad", "sad"]}}},
    }
    text = generate_role_readme.rendered(role({"greet_often": False}, options))
    assert "| `greet_often` | bool | `false` | Whether `greet_whom` hears `hello` \\| bye. |" in text
    assert "| `greet_whom` | list of str | **required** | One. Two. |" in text
    assert "| `greet_how.mood` | str |  | One of `glad`, `sad`. |" in text
    assert "        greet_whom: ...\n" in text


def test_only_code_counts_for_the_size_of_a_module() -> None:
    source = '# comment\n\nDOCUMENTATION = """\na\nb\n"""\n\nimport os  # needed\n\nNAMES = (\n    "a",\n)\n'
    assert check_module_size.code_lines(source) == 4


def test_first_task_is_found_inside_a_block() -> None:
    check = {"whatsapp_ops.sessions.check_settings": {"playbook": "greet"}}
    block = {"block": [check], "run_once": True}
    task = check_playbook_specs.first_task([{"hosts": "all", "tasks": [block]}])
    assert check_playbook_specs.CHECK in task
    assert task["run_once"]


@pytest.mark.parametrize(
    ("path", "is_source"),
    [
        ("plugins/modules/session_dir.py", True),
        ("Makefile", True),
        ("tests/sanity/run", True),
        ("LICENSE", False),
        ("changelogs/changelog.yaml", False),
        ("tests/unit/recorded/systemctl-252.txt", False),
    ],
)
def test_what_must_state_its_licence(path: str, is_source: bool) -> None:
    assert check_licences.is_source(Path(path)) is is_source


def test_the_page_of_layouts_says_what_the_table_says(tmp_path: Path) -> None:
    page = tmp_path / "layouts.md"
    page.write_text(f"# Layouts\n\n{generate_layout_table.BEGIN}a stale row\n{generate_layout_table.END}\nMore.\n")
    assert generate_layout_table.main(["--check"], page) == 1
    assert "a stale row" in page.read_text()
    assert generate_layout_table.main([], page) == 0
    assert generate_layout_table.main(["--check"], page) == 0
    text = page.read_text()
    assert text.startswith("# Layouts\n")
    assert text.endswith("More.\n")
    assert "a stale row" not in text
    for layout in generate_layout_table.LAYOUTS.values():
        assert text.count(f"| `{layout.name}` |") == 2
        assert layout.title in text
    page.write_text("nothing")
    with pytest.raises(SystemExit, match="has no markers for the tables"):
        generate_layout_table.main([], page)


# What the newest ansible-core has pylint refuse in modules and in what they import; the pinned one looks for less.
UNWANTED = r"\b(?:subprocess\.(?:Popen|call|run|check_\w+|get\w*output)|os\.(?:popen|system|posix_spawnp?|spawn\w+)|sys\.exit|print)\("


@pytest.mark.parametrize("folder", ["modules", "module_utils"])
def test_calls_that_the_newest_sanity_tests_refuse_say_why_they_are_there(folder: str) -> None:
    found = [
        f"{file.name}:{number}"
        for file in sorted((Path(__file__).parents[3] / "plugins" / folder).glob("*.py"))
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if re.search(UNWANTED, line.partition("#")[0]) and "# pylint: disable=ansible-bad-function" not in line
    ]
    assert found == []


# What AWX takes for a playbook when it lists those of a project: any YAML file with such a line.
PLAYBOOK = r"^\s*-?\s*?(?:hosts|(?:ansible\.builtin\.)?import_playbook):\s*?.*?$"


def test_only_playbooks_are_taken_for_playbooks() -> None:
    playbooks = sorted((ROOT / "playbooks").glob("*.yml"))
    below = [ROOT / path for path in files("playbooks/*.yml")]
    assert [path for path in below if re.search(PLAYBOOK, path.read_text(), re.MULTILINE)] == playbooks
    # galaxy-importer lists each file of the folder itself, whatever is in it.
    assert {path.name for path in playbooks} == {
        path.name for path in (ROOT / "playbooks" / "argument_specs").iterdir()
    }
