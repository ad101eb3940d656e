# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of words finds banned phrases where people read them, and nothing in code."""

from __future__ import annotations

from pathlib import Path

import pytest

import check_words

FAILING = {
    "docs/page.md": "# Page\n\nThe host is told\nby `telling`.\n",
    "plugins/module_utils/_x.py": '"""Fix it."""\n\nX = 1  # no more\nraise ValueError(f"{X} is not well; mend it")\n',
    "roles/x/tasks/main.yml": "---\n- name: Wait until it is well\n  debug:\n    msg: \"{{ 'the old path beats ' ~ 'yours' }}\"\n",
    "roles/x/templates/x.j2": "{% set told = x %}\n{{ told }} is\nleft in silence.\n",
    "changelogs/fragments/x.yml": "minor_changes:\n  - whoever asks gets ``told``.\n",
    "Makefile": "told:\n\techo told  # makes it anew\n",
}
FOUND = {
    "docs/page.md": ["3: 'told'"],
    "plugins/module_utils/_x.py": ["3: 'no more'", "4: 'is not well'", "4: 'mend'"],
    "roles/x/tasks/main.yml": ["2: 'is well'", "4: 'beats'"],
    "roles/x/templates/x.j2": ["3: 'in silence'"],
    "changelogs/fragments/x.yml": ["2: 'whoever'"],
    "Makefile": ["2: 'told'", "2: 'anew'"],
}


@pytest.mark.parametrize("name", FAILING)
def test_a_banned_phrase_is_reported_with_its_line(name: str) -> None:
    found = list(check_words.complaints(Path(name), FAILING[name]))
    assert sorted(line.partition(": write ")[0] for line in found) == sorted(f"{name}:{hit}" for hit in FOUND[name])
    assert all(line.partition(": write ")[2] for line in found)


@pytest.mark.parametrize(
    "text",
    [
        "It works as well as before, and no more than 3 times.",
        "`told` and ``in_force`` and O(custom.beside) are names.",
        "any more accounts, a well-known path, a recommended setting",
        "```\ntold\n```\nfixed",
        "| instead of | write |\n| --- | --- |\n| told | reports |\n\nfixed",
    ],
)
def test_names_code_and_ordinary_words_are_accepted(text: str) -> None:
    assert list(check_words.complaints(Path("docs/page.md"), text)) == []


def test_phrases_are_found_across_lines_of_a_paragraph_only() -> None:
    text = "# It is in\n# force.\nx = 1\n\n# the end of all\ny = 2\n# the same\n"
    found = list(check_words.complaints(Path("plugins/x.py"), text))
    assert found == ["plugins/x.py:1: 'in force': write in effect, into effect"]


def test_expressions_of_templates_keep_the_numbers_of_lines() -> None:
    text = "{{ told\n   ~ told }}\nbeside\n"
    found = list(check_words.complaints(Path("roles/x/templates/x.j2"), text))
    assert [line.split(":")[1] for line in found] == ["3"]


def test_covered_files_include_prose_and_exclude_what_is_not_clean_yet() -> None:
    covered = {str(path) for path in check_words.covered()}
    assert {
        "README.md",
        "docs/security.md",
        "plugins/modules/session_dir.py",
        "plugins/module_utils/_core/errors.py",
        "playbooks/argument_specs/restart.yml",
        "roles/move/templates/failure.j2",
    } <= covered
    assert not any(path.startswith(check_words.NOT_YET) for path in covered)
