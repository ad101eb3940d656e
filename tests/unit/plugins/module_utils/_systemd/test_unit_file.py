# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit file syntax: what is refused, what is written, and that what was recorded from real systemds is read as they read it."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import unit_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit_file import Setting

RECORDED = json.loads((Path(__file__).parents[3] / "recorded" / "environment_options.json").read_text(encoding="ascii"))


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: repr(case["text"][40:]))
@pytest.mark.parametrize("systemd", ["systemd 252", "systemd 257"])
def test_environment_is_read_as_systemd_reads_it(case: dict[str, t.Any], systemd: str) -> None:
    variables: dict[str, str] = {}
    for setting in unit_file.parse(case["text"]):
        if setting.option == "Environment":
            variables = variables if setting.value else {}
            variables.update(unit_file.environment_items(setting.value))
    assert variables == case[systemd]


@pytest.mark.parametrize(
    ("given_value", "lines"),
    [
        ("SIGINT", ["SIGINT"]),
        (30, ["30"]),
        (1.5, ["1.5"]),
        (True, ["yes"]),
        (False, ["no"]),
        (None, [""]),
        ("", [""]),
        ("  padded\t", ["padded"]),
        ([None, "a", 2], ["", "a", "2"]),
        ("two \\\\", ["two \\\\"]),
        ("a\tb", ["a\tb"]),
    ],
)
def test_values(given_value: t.Any, lines: list[str]) -> None:
    assert [setting.value for setting in unit_file.read_sections({"Service": {"X": given_value}})] == lines


@pytest.mark.parametrize(
    ("given_value", "lines"),
    [
        ({"A": "/x", "B": "%H"}, ['"A=/x"', '"B=%H"']),
        ({"A": 'a b"c\\d'}, ['"A=a b\\"c\\\\d"']),
        ({"PORT": 3000}, ['"PORT=3000"']),
        ({"A": ""}, ['"A="']),
        ("A=1 'B=x y'", ["A=1 'B=x y'"]),
        (["A=1", '"B=x y"'], ["A=1", '"B=x y"']),
        ([None, {"A": "1"}], ["", '"A=1"']),
    ],
)
def test_values_of_environment(given_value: t.Any, lines: list[str]) -> None:
    assert [setting.value for setting in unit_file.read_sections({"Service": {"Environment": given_value}})] == lines


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"": {"A": 1}}, "section name"),
        ({"[Service]": {"A": 1}}, "without brackets"),
        ({"Ser vice": {"A": 1}}, "section name"),
        ({"Service": {}}, "has no options"),
        ({"Service": None}, "has no options"),
        ({"Service": "KillSignal=SIGINT"}, "give a dictionary"),
        ({"Service": {"Kill Signal": 1}}, "option name"),
        ({"Service": {"#Kill": 1}}, "option name"),
        ({"Service": {"A=": 1}}, "option name"),
        ({"Service": {"A": []}}, "empty list"),
        ({"Service": {"A": {"b": 1}}}, "nested value"),
        ({"Service": {"A": [["b"]]}}, "nested value"),
        ({"Service": {"A": "x\nExecStart=/bin/evil"}}, "newline"),
        ({"Service": {"A": "x\r"}}, "newline"),
        ({"Service": {"A": ["ok", "x\n"]}}, "newline"),
        ({"Service": {"A": "x\0"}}, "control character"),
        ({"Service": {"A": "\udcff"}}, "UTF-8"),
        ({"Service": {"A": "x\\"}}, "backslash"),
        ({"Service": {"UMask": 63}}, "quote it"),
        ({"Service": {"StateDirectoryMode": 448}}, "quote it"),
        ({"Service": {"Environment": {}}}, "empty dictionary"),
        ({"Service": {"Environment": {"A-B": 1}}}, "variable name"),
        ({"Service": {"Environment": {"1A": 1}}}, "variable name"),
        ({"Service": {"Environment": {"A": True}}}, "quote its value"),
        ({"Service": {"Environment": {"A": None}}}, "quote its value"),
        ({"Service": {"Environment": {"A": "x\ny"}}}, "newline"),
        ({"Service": {"Environment": "A=hello world"}}, "not NAME=value"),
        ({"Service": {"Environment": 'A="unclosed'}}, "unclosed quote"),
        ({"Service": {"Environment": "A=\\q"}}, "unknown escape"),
    ],
)
def test_refused(sections: dict[str, t.Any], words: str) -> None:
    with pytest.raises(SessionsError, match=words) as refused:
        unit_file.read_sections(sections)
    assert "\n" not in str(refused.value)


def test_no_value_in_a_message() -> None:
    for value in ("CANARY\n", "CANARY\\", "CANARY\0"):
        for sections in (
            {"Service": {"X": value}},
            {"Service": {"Environment": {"A": value}}},
            {"Service": {"Environment": f"A={value} x"}},
        ):
            try:
                unit_file.read_sections(sections)
            except SessionsError as refused:
                assert "CANARY" not in str(refused)


def test_rendered_text() -> None:
    settings = unit_file.read_sections(
        {"Unit": {"After": ["a.target", "b.target"]}, "Service": {"UMask": "0077", "ExecStart": [None, "/bin/x"]}}
    )
    assert unit_file.render(settings) == (
        f"{unit_file.HEADER}\n[Unit]\nAfter=a.target\nAfter=b.target\n\n[Service]\nUMask=0077\nExecStart=\nExecStart=/bin/x\n"
    )


def test_lines_are_counted_as_people_count_them() -> None:
    text = "# one\n\n[Service]\nA=1 \\\n  2\nB=3\n"
    assert [(setting.option, setting.value, setting.line) for setting in unit_file.parse(text)] == [
        ("A", "1    2", 4),
        ("B", "3", 6),
    ]


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t"), max_size=20)
VALUES = TEXTS.map(lambda text: text.strip(" \t")).filter(lambda text: not text.endswith("\\"))


@given(
    st.dictionaries(
        NAMES,
        st.dictionaries(
            NAMES.filter(lambda name: name != "Environment"), st.lists(VALUES, min_size=1, max_size=3), min_size=1
        ),
        min_size=1,
    )
)
def test_what_is_written_is_read_again(sections: dict[str, dict[str, list[str]]]) -> None:
    settings = unit_file.read_sections(sections)
    assert unit_file.parse(unit_file.render(settings)) == settings


@given(st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), TEXTS, min_size=1))
def test_variables_keep_every_character(variables: dict[str, str]) -> None:
    settings = unit_file.parse(unit_file.render(unit_file.read_sections({"Service": {"Environment": variables}})))
    assert dict(item for setting in settings for item in unit_file.environment_items(setting.value)) == variables


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    for setting in unit_file.parse(f"[Service]\n{text}"):
        assert isinstance(setting, Setting)
        unit_file.environment_items(setting.value)
