# SPDX-License-Identifier: GPL-3.0-or-later
"""Receipts: what counts as use of an account, and that nothing can be read out of them."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import CANARY, OLD, put_account, put_file, use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import (
    Entry,
    FileMark,
    FolderMark,
    Mark,
    document_of,
    entries_in,
    mark_at,
    mark_of,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.masking import account_key
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.account import AccountRef
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from layouts import KINDS, put_account_of, put_lock, put_root_of

LOCAL_STORAGE = "Default/Local Storage/leveldb"
MARK = Mark(FolderMark(1, 2), {"creds.json": FileMark(3, 4, 5, 6, "digest")})


def look(account: pathlib.Path, layout: str = "baileys") -> Mark:
    descriptor = os.open(account, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return mark_of(descriptor, layout_named(layout))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (MARK, False),
        (Mark(FolderMark(9, 2), MARK.files), True),
        (Mark(FolderMark(1, 9), MARK.files), True),
        (Mark(FolderMark(1, 2), {}), True),
        (Mark(FolderMark(1, 2), {**MARK.files, "second": FileMark(1, 1, 1, 1, "")}), True),
        (Mark(FolderMark(1, 2), {"creds.json": FileMark(9, 4, 5, 6, "digest")}), True),
        (Mark(FolderMark(1, 2), {"creds.json": FileMark(3, 9, 5, 6, "digest")}), True),
        (Mark(FolderMark(1, 2), {"creds.json": FileMark(3, 4, 9, 6, "digest")}), True),
        (Mark(FolderMark(1, 2), {"creds.json": FileMark(3, 4, 5, 9, "digest")}), False),  # chown and chmod
        (Mark(FolderMark(1, 2), {"creds.json": FileMark(3, 4, 5, 9, "other")}), True),  # written, and the time set back
        (
            Mark(FolderMark(1, 2), {"creds.json": FileMark(3, 4, 5, 6, "other")}),
            False,
        ),  # cannot be: the key of the digest is the inode
        (Mark(FolderMark(1, 9), MARK.files, "names"), True),
    ],
)
def test_what_is_use(other: Mark, differs: bool) -> None:
    assert MARK.differs_from(other) is differs
    assert other.differs_from(MARK) is differs


def test_where_names_count_the_time_of_the_directory_does_not() -> None:
    mark = Mark(FolderMark(1, 2), MARK.files, "names")
    assert not mark.differs_from(Mark(FolderMark(1, 9), MARK.files, "names"))
    assert mark.differs_from(Mark(FolderMark(1, 2), MARK.files, "others"))
    assert mark.differs_from(Mark(FolderMark(9, 2), MARK.files, "names"))


@pytest.mark.parametrize(
    ("change", "is_use"),
    [
        (lambda account: None, False),
        (lambda account: (account / "creds.json").read_bytes(), False),
        (lambda account: (account / "creds.json").chmod(0o640), False),
        (lambda account: account.chmod(0o755), False),
        (lambda account: os.link(account / "creds.json", account.parent / "second"), False),
        (lambda account: use(account, OLD), True),
        (lambda account: use(account, OLD + 60), True),
        (lambda account: put_file(account / "creds.json", (account / "creds.json").read_bytes(), at=OLD + 1), True),
        (lambda account: put_file(account / "pre-key-9.json", "{}"), True),
        (lambda account: (account / "pre-key-1.json").unlink(), True),
        (lambda account: (account / "creds.json").unlink(), True),
    ],
)
def test_real_changes(tmp_path: pathlib.Path, change: t.Callable[[pathlib.Path], t.Any], is_use: bool) -> None:
    account = put_account(tmp_path / "wa1")
    before = look(account)
    change(account)
    assert look(account).differs_from(before) is is_use


@pytest.mark.parametrize(
    ("layout", "change", "is_use"),
    [
        ("wwebjs", lambda account: put_lock(account, "stale"), False),
        ("wwebjs", lambda account: (account / "GrShaderCache").mkdir(), False),
        ("wwebjs", lambda account: (account / "Default/Cache/x").mkdir(), False),
        ("wwebjs", lambda account: put_file(account / "First Run", ""), True),
        ("wwebjs", lambda account: put_file(account / f"{LOCAL_STORAGE}/000003.log", "more"), True),
        ("wwebjs", lambda account: put_file(account / f"{LOCAL_STORAGE}/000007.log", ""), True),
        ("whatsmeow", lambda account: put_file(account / "whatsapp.db-shm", "x"), False),
        ("whatsmeow", lambda account: put_file(account / "whatsapp.db-wal", ""), False),
        ("whatsmeow", lambda account: put_file(account / "whatsapp.db-wal", "x"), True),
        ("whatsmeow", lambda account: put_file(account / "second.db", ""), True),
    ],
)
def test_what_comes_and_goes_is_told_from_use(
    tmp_path: pathlib.Path, layout: str, change: t.Callable[[pathlib.Path], t.Any], is_use: bool
) -> None:
    account = put_account_of(layout, tmp_path, "session-one")
    before = look(account, layout)
    change(account)
    assert look(account, layout).differs_from(before) is is_use


@pytest.mark.parametrize("at", [0, 1 << 20, (2 << 20) - 1])
def test_of_a_large_file_both_ends_are_digested(tmp_path: pathlib.Path, at: int) -> None:
    """Its times and size stay as they are: only who forges those is looked for in the digest."""
    account = put_account(tmp_path / "wa1")
    held = bytearray(2 << 20)
    put_file(account / "creds.json", bytes(held))
    before = look(account)
    with (account / "creds.json").open("r+b") as file:
        file.seek(at)
        file.write(b"x")
    os.utime(account / "creds.json", (OLD, OLD))
    assert look(account).differs_from(before) is (at != 1 << 20)


def test_what_belongs_to_an_account_elsewhere_is_looked_at(tmp_path: pathlib.Path) -> None:
    put_account_of("wppconnect", tmp_path, "userDataDir/one")
    (tmp_path / "tokens").mkdir()
    marks = []
    for held in ("", "a", "b"):
        if held:
            put_file(tmp_path / "tokens/one.data.json", held)
        with opened_directory(str(tmp_path)) as root:
            marks.append(mark_at(AccountRef(root, "userDataDir/one", layout_named("wppconnect"))))
    assert marks[0].differs_from(marks[1])
    assert marks[1].differs_from(marks[2])


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/hostname")])
def test_what_stands_in_for_credentials_is_not_opened(
    tmp_path: pathlib.Path, make: t.Callable[[pathlib.Path], t.Any]
) -> None:
    account = put_account(tmp_path / "wa1")
    (account / "creds.json").unlink()
    make(account / "creds.json")
    assert look(account).files["creds.json"].digest == ""


def test_equal_credentials_in_two_places_do_not_show_as_equal(tmp_path: pathlib.Path) -> None:
    one, other = look(put_account(tmp_path / "wa1")), look(put_account(tmp_path / "wa2"))
    assert one.files["creds.json"].digest != other.files["creds.json"].digest


MARKS = st.builds(
    Mark,
    st.tuples(st.integers(0), st.integers()),
    st.dictionaries(
        st.text(max_size=3),
        st.tuples(st.integers(0), st.integers(0), st.integers(), st.integers(), st.text(max_size=3)),
        max_size=2,
    ),
    st.text(max_size=3),
)


@given(
    st.dictionaries(st.text(), st.builds(Entry, st.text(), MARKS, MARKS, st.floats(0, 1e10), st.booleans()), max_size=3)
)
def test_what_is_written_is_read_again(entries: dict[str, Entry]) -> None:
    assert entries_in(json.loads(json.dumps(document_of("/srv/sessions", entries)))) == entries


ENTRY = {"source": "/x", "legacy": dataclasses.asdict(MARK), "present": dataclasses.asdict(MARK), "time": 1.0}


@pytest.mark.parametrize(
    "accounts",
    [
        [],
        {"key": []},
        {"key": {**ENTRY, "time": None}},
        {"key": {**ENTRY, "time": "now"}},
        {"key": {**ENTRY, "legacy": {}}},
        {"key": {**ENTRY, "legacy": {"folder": [1], "files": {}}}},
        {"key": {**ENTRY, "legacy": {"folder": [1, 2], "files": {"creds.json": [1, 2]}}}},
        {"key": {name: value for name, value in ENTRY.items() if name != "present"}},
    ],
)
def test_what_is_no_receipt_is_said(accounts: t.Any) -> None:
    with pytest.raises(SessionsError, match=r"receipt\.json .* damaged; move it away and run again"):
        entries_in({"accounts": accounts})


def test_no_receipt_has_no_entries() -> None:
    assert entries_in({}) == {}


@given(st.text(min_size=1))
def test_keys_do_not_say_whose_they_are(name: str) -> None:
    try:
        key = account_key(name)
    except UnicodeEncodeError:  # half of a surrogate pair, which no file name gives
        return
    assert len(key) == 40
    assert key.isalnum()
    assert len(name) < 5 or name not in key


def test_names_that_are_no_utf_8_have_keys_too() -> None:
    assert account_key(os.fsdecode(b"\xff")) != account_key(os.fsdecode(b"\xfe"))


@pytest.mark.parametrize("layout", KINDS)
def test_no_receipt_names_an_account_or_a_file_that_is_called_after_it(tmp_path: pathlib.Path, layout: str) -> None:
    for made in put_root_of(layout, tmp_path):
        mark = look(tmp_path / made.name, layout)
        assert mark.files or made.state == "unknown", made.state  # whose credentials are in SQL
        written = json.dumps(document_of("/srv/sessions", {account_key(made.name): Entry("/opt/x", mark, mark, 1.0)}))
        assert CANARY not in written
        assert not any(part in written for part in made.name.split("/") if CANARY in part)


def test_nothing_of_an_account_is_in_its_receipt(tmp_path: pathlib.Path) -> None:
    account = put_account(tmp_path / "491511234567")
    entry = Entry(str(tmp_path), look(account), look(account), 1.0)
    written = json.dumps(document_of("/srv/sessions", {account_key(account.name): entry}))
    assert CANARY not in written
    assert account.name not in written
