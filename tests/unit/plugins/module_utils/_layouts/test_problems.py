# SPDX-License-Identifier: GPL-3.0-or-later
"""Every word that code can give as a problem of an account is in the vocabulary, and the vocabulary has no others."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts import info
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts import problems
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.problems import (
    DATABASES,
    OF_A_DATABASE,
    OF_ANY_PART,
    PARTS,
    PROBLEMS,
)

LAYOUTS = pathlib.Path(problems.__file__).parent
FILES = [path for path in sorted(LAYOUTS.glob("*.py")) if path.name not in ("problems.py", "__init__.py")]
WORD = re.compile(r"[a-z]+(_[a-z]+)+")
# Other identifiers in these files: names on disk, layouts, fields of documents and tables.
OTHERS = {
    "auth_info", "auth_info_baileys", "baileys_auth_info", "baileys_csharp", "session_manager", "creation_time", "whatsmeow_device",
    "node_modules", "second_database",
}  # fmt: skip


def texts(path: pathlib.Path) -> set[str]:
    """Return the words in a file's texts, also the constant parts of composed ones; not those of docstrings, which have blanks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text.strip("_") for text in found if WORD.fullmatch(text.strip("_"))}


def parts(kinds: str, path: pathlib.Path) -> set[str]:
    """Return the literal words that are passed to the function ``kinds``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == kinds)
    return {str(argument.value) for call in calls for argument in call.args[2:] if isinstance(argument, ast.Constant)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_word_in_the_code_is_a_problem_or_known_to_be_something_else(path: pathlib.Path) -> None:
    composed = {*OF_ANY_PART, *OF_A_DATABASE, *DATABASES}
    assert sorted(word for word in texts(path) if word not in PROBLEMS and word not in OTHERS | composed) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_part_that_is_judged_has_its_words(path: pathlib.Path) -> None:
    for function, kind in (("blocking_problems", "empty"), ("warning_problems", "foreign_owner")):
        assert parts(function, path) <= set(OF_ANY_PART[kind][0]) <= set(PARTS)
    assert parts("_torn", path) <= set(DATABASES)


def test_locks_and_unreadable_accounts_are_in_the_vocabulary() -> None:
    assert {*info._BLOCKING.values(), "account_unreadable"} <= set(PROBLEMS)


def test_the_words_of_any_part_are_those_of_the_code() -> None:
    source = (LAYOUTS / "layout.py").read_text(encoding="utf-8")
    assert set(re.findall(r'f"\{word\}_(\w+)"', source)) == set(OF_ANY_PART)


def test_a_sentence_says_what_is_meant() -> None:
    assert all(len(sentence.split()) > 3 and not sentence.endswith(".") for sentence in PROBLEMS.values())
    assert problems.sentence_of("credentials_empty").startswith("the file of credentials has no content")
    with pytest.raises(KeyError):
        problems.sentence_of("credentials_eaten")
