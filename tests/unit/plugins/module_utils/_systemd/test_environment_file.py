# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment files: read as real systemds were recorded reading them, changed without touching anything else."""

from __future__ import annotations

import contextlib
import json
import time
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.environment_file import (
    FileAssignment,
    parse,
    with_values,
)

RECORDED = json.loads((Path(__file__).parents[3] / "recorded" / "environment_files.json").read_text(encoding="ascii"))


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: repr(case["text"]))
@pytest.mark.parametrize("version", [252, 257])
def test_read_as_systemd_reads_it(case: dict[str, t.Any], version: int) -> None:
    assert values(case["text"], version) == case[f"systemd {version}"]


def test_lines() -> None:
    text = '# first\nA=1\n\nB="two\nlines"\n  C=3\nA=4\n'
    assert parse(text) == (
        FileAssignment("A", "1", 2),
        FileAssignment("B", "two\nlines", 4),
        FileAssignment("C", "3", 6),
        FileAssignment("A", "4", 7),
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "A=/new\n", id="new file"),
        pytest.param("A=/new\n", "A=/new\n", id="nothing to do"),
        pytest.param(' A = "/new"  \n', ' A = "/new"  \n', id="said in other words"),
        pytest.param("A=/old\nB=2\n", "A=/new\nB=2\n", id="replaced where it stands"),
        pytest.param("A=/old\nB=2\nA=/new\n", "B=2\nA=/new\n", id="contradicting duplicate removed"),
        pytest.param("A=/new\nB=2\nA=/old\n", "A=/new\nB=2\nA=/new\n", id="the last one counts"),
        pytest.param("# A=/old\n;A=/old\nB=2", "# A=/old\n;A=/old\nB=2\nA=/new\n", id="comments stay, newline added"),
        pytest.param("A=/old\r\nB=2\r\n", "A=/new\r\nB=2\r\n", id="CRLF"),
        pytest.param('A="/old\nmore"\nB=2\n', "A=/new\nB=2\n", id="value of two lines"),
        pytest.param("A=/o\\\nld\nB=2\n", "A=/new\nB=2\n", id="continued value"),
        pytest.param("export A=/old\n", "export A=/old\nA=/new\n", id="systemd does not read export"),
        pytest.param("AA=/old\nXA=1\n", "AA=/old\nXA=1\nA=/new\n", id="other names"),
        pytest.param("# c \\\nA=/old\n", "# c \\\n\nA=/new\n", id="a comment that older systemds continue"),
        pytest.param("\tA=/old\n", "\tA=/new\n", id="indented"),
        pytest.param("A=/old", "A=/new", id="no newline at the end"),
    ],
)
def test_set(before: str, after: str) -> None:
    assert with_values(before, {"A": "/new"}) == after
    assert with_values(after, {"A": "/new"}) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("B=2\n", "B=2\n"),
        ("A=/old\n", ""),
        ("A=/old\nB=2\n A=/older", "B=2\n"),
        ("# mine\nA='/o\nld'\nB=2\n", "# mine\nB=2\n"),
        pytest.param("# c \\\nA=/old\nB=2\n", "# c \\\n\nB=2\n", id="a comment that older systemds continue"),
    ],
)
def test_remove(before: str, after: str) -> None:
    assert with_values(before, {"A": None}) == after


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("", "A=\n"),
        ("/var/lib/wa", "A=/var/lib/wa\n"),
        ("%H", "A=%H\n"),
        ("a b", 'A="a b"\n'),
        (" a", 'A=" a"\n'),
        ('"', 'A="\\""\n'),
        ("it's", 'A="it\'s"\n'),
        ("$HOME`x`\\", 'A="\\$HOME\\`x\\`\\\\"\n'),
        ("#x", 'A="#x"\n'),
        ("é", 'A="é"\n'),
    ],
)
def test_quoting(value: str, written: str) -> None:
    assert with_values("", {"A": value}) == written


@pytest.mark.parametrize(
    ("text", "name", "value", "words"),
    [
        ("", "A-B", "1", "not a valid name of a variable"),
        ("", "", "1", "not a valid name of a variable"),
        ("", "export A", "1", "not a valid name of a variable"),
        ("", "A", "CANARY\nB=1", "newline"),
        ("", "A", "CANARY\0", "control character"),
        ("", "A", "\udcff", "UTF-8"),
        ('B=1\nC="CANARY\nD=1\n', "A", "1", "begins on line 2 has an unclosed quote"),
        ('A="CANARY\nD=1\n', "A", "1", "begins on line 1 has an unclosed quote"),
        ("B=CANARY\\", "A", "1", "line 1 .* backslash"),
        ("B=1\0", "A", "1", "NUL byte"),
    ],
)
def test_refused(text: str, name: str, value: str, words: str) -> None:
    with pytest.raises(SessionsError, match=words) as refused:
        with_values(text, {name: value})
    assert "CANARY" not in str(refused.value)
    assert "\n" not in str(refused.value)


FILES = st.lists(
    st.sampled_from(["A", "B", "=", "=", '"', "'", "\\", "\n", "\n", " ", "#", ";", "$", "x", "\r", "export ", "é"])
).map("".join)
VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t"), max_size=12)


@given(FILES, VALUES)
def test_every_systemd_reads_the_value_and_all_others_as_before(text: str, value: str) -> None:
    try:
        changed = with_values(text, {"A": value})
    except SessionsError:
        return
    for version in (252, 257):
        assert values(changed, version) == {**values(text, version), "A": value}
    assert with_values(changed, {"A": value}) == changed


@given(
    st.lists(st.sampled_from(["# note", "", "B=1", "C='x y'", "; A=9", "export D=2", "A=old", '  A="o l d"'])), VALUES
)
def test_all_other_lines_stay(lines: list[str], value: str) -> None:
    changed = with_values("".join(f"{line}\n" for line in lines), {"A": value}).split("\n")
    others = [line for line in lines if not line.strip().startswith("A=")]
    assert [line for line in changed if not line.strip().startswith("A=")] == [*others, ""]


def values(text: str, version: int) -> dict[str, str]:
    return {assignment.name: assignment.value for assignment in parse(text, version=version)}


# --- whatever somebody writes into it ---------------------------------------------------------------------

MIB = 1 << 20
HOSTILE = {
    "backslashes": "A=" + "\\" * MIB,
    "escaped blanks": "A=" + "\\ " * (MIB // 2),
    "double quotes": "A=" + '"' * MIB,
    "single quotes": "A=" + "'" * MIB,
    "escapes in quotes": 'A="' + "\\a" * (MIB // 2),
    "one name": "A" * MIB,
    "one value": "A=" + "a" * MIB,
    "blanks": "A=1" + " " * MIB,
    "empty lines": " \n" * (MIB // 2),
    "a comment that goes on": "#" + "\\\n" * (MIB // 2),
    "comments": "#\n" * (MIB // 2),
    "the same again": "A=7\n" * 4000 + "#" * MIB,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_reading_takes_no_longer_than_the_file_is_large(name: str) -> None:
    """What grew with the square took minutes for one of these; the limit leaves room for a busy machine."""
    begun = time.process_time()
    assert len(parse(HOSTILE[name])) <= 4000
    with contextlib.suppress(SessionsError):
        with_values(HOSTILE[name], {"A": "b"})
    assert time.process_time() - begun < 30


@pytest.mark.parametrize("text", ["A=\n" * 5000, "=" * MIB + "\n==" * 5000])
def test_more_assignments_than_any_backend_needs_are_refused(text: str) -> None:
    with pytest.raises(SessionsError, match="more than 4096 assignments"):
        parse(text)
    with pytest.raises(SessionsError, match="more than 4096 assignments"):
        with_values(text, {"B": "b"})


def test_lines_are_counted_from_the_beginning() -> None:
    assert [(found.name, found.line) for found in parse("\nA=1\n# x\nB='a\nb'\nC=3")] == [("A", 2), ("B", 4), ("C", 6)]
