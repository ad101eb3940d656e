# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives: what leaves one, what refuses one, and that packing is repeatable. Where the accounts in an unpacked one are."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pathlib
import tarfile
import typing as t

import pytest

from accounts import content, put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.free_space import SpaceReserve
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restore import archive as of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restore.unpacked import Known, accounts_in
from layouts import put_profile


def packed(*entries: tuple[str, bytes | None], mode: str = "w:gz") -> io.BytesIO:
    """An archive of files and (without content) directories."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:
        for name, held in entries:
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if held is None else tarfile.REGTYPE
            member.size = len(held or b"")
            member.mtime = 1_700_000_000
            tar.addfile(member, io.BytesIO(held or b""))
    made.seek(0)
    return made


@contextlib.contextmanager
def opened(path: pathlib.Path) -> t.Iterator[int]:
    path.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def unpacked(archive: t.BinaryIO, place: pathlib.Path, kept: tuple[int, int] = (0, 0)) -> int:
    with opened(place) as target:
        return of.unpack(archive, target, SpaceReserve(kept))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_files_and_directories_leave_an_archive(tmp_path: pathlib.Path, mode: str) -> None:
    archive = packed(("./", None), ("./a", None), ("./a/one", b"1"), ("b//two", b"22"), ("a/one", b"later"), mode=mode)
    assert unpacked(archive, tmp_path / "to") == 3
    assert content(tmp_path / "to") == {b"a": None, b"b": None, b"a/one": b"later", b"b/two": b"22"}
    status = (tmp_path / "to/a/one").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o600, 1_700_000_000)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a/" + "n" * 1100, "/".join("d" * 65), "..", "."])
def test_a_file_elsewhere_refuses_the_archive(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(of.Unfit, match="no regular file or directory below its top"):
        unpacked(packed((name, b"1")), tmp_path / "to")
    assert not (tmp_path / "x").exists()


def test_a_file_in_the_place_of_a_directory_is_an_error(tmp_path: pathlib.Path) -> None:
    for entries in ([("a", b"1"), ("a/b", b"1")], [("a/b", b"1"), ("a", b"1")]):
        with pytest.raises(OSError):
            unpacked(
                packed(*t.cast("list[tuple[str, bytes | None]]", entries)), tmp_path / entries[0][0].replace("/", "-")
            )


def test_limits(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of, "ARCHIVE_ENTRIES", 2)
    with pytest.raises(of.Unfit, match="more than 2 entries"):
        unpacked(packed(*((str(number), b"") for number in range(3))), tmp_path / "entries")
    monkeypatch.setattr(of, "ARCHIVE_BYTES", 100)
    with pytest.raises(of.Unfit, match="nothing was imported"):
        unpacked(packed(("a", b"x" * 101)), tmp_path / "bytes")
    with pytest.raises(of.Unfit, match="almost full"):
        unpacked(packed(("a", b"x")), tmp_path / "full", kept=(1 << 60, 0))


def test_a_size_that_is_a_lie_is_damage(tmp_path: pathlib.Path) -> None:
    held = packed(("a", b"x" * 5000), mode="w").getvalue()
    for cut in (100, 700, 3000):
        with pytest.raises(of.Unfit, match="damaged"):
            unpacked(io.BytesIO(gzip.compress(held[:cut])), tmp_path / str(cut))


def test_packing_is_repeatable_and_can_be_unpacked(tmp_path: pathlib.Path) -> None:
    put_account(tmp_path / "root/wa1")
    archives = []
    for _number in range(2):
        parts: list[bytes] = []
        with opened(tmp_path / "root") as root:
            of.pack(root, parts.append)
        archives.append(b"".join(parts))
    assert archives[0] == archives[1]
    unpacked(io.BytesIO(archives[0]), tmp_path / "to")
    assert content(tmp_path / "to") == content(tmp_path / "root")


# --- where the accounts are -----------------------------------------------------------------------------


BAILEYS, MANAGER = layout_named("baileys"), layout_named("session_manager")
NOTHING = Known(None)


def named(place: pathlib.Path, known: Known = NOTHING, account: str | None = None) -> dict[str, str]:
    """Return the names of the accounts that are found, each with its root, after checking that it is there."""
    with opened(place) as work:
        found = accounts_in(work, known, account)
    assert all(one.layout.name for one in found)
    for one in found:
        assert (place / one.root / one.name).is_dir()
    return {one.name: one.root for one in found}


@pytest.mark.parametrize("top", ["", "auth", "srv/whatsapp/auth"])
def test_an_archive_may_begin_anywhere_above_the_accounts(tmp_path: pathlib.Path, top: str) -> None:
    for number in (1, 2):
        put_account(tmp_path / top / f"wa{number}", number=number)
    assert named(tmp_path) == {"wa1": top, "wa2": top}


def test_an_account_alone_is_named_by_the_operator(tmp_path: pathlib.Path) -> None:
    put_account(tmp_path)
    with pytest.raises(SessionsError, match="name it in 'accounts'"):
        named(tmp_path)
    assert named(tmp_path, account="group/mine") == {"group/mine": "import-0"}


def test_one_name_for_two_accounts_is_refused(tmp_path: pathlib.Path) -> None:
    put_account(tmp_path / "wa1")
    put_account(tmp_path / "wa2")
    with pytest.raises(SessionsError, match="has 2"):
        named(tmp_path, account="mine")


def test_nothing_is_an_error(tmp_path: pathlib.Path) -> None:
    put_file(tmp_path / "words", "nothing")
    with pytest.raises(SessionsError, match="no account was found"):
        named(tmp_path)


def test_copies_of_a_session_manager_get_the_names_of_its_library(tmp_path: pathlib.Path) -> None:
    put_profile(tmp_path / "backup-1-1707340001234", "paired")
    put_profile(tmp_path / "backup-session-2-1707340001", "paired", 2)
    (tmp_path / "backup-3-1707340001234").mkdir()
    assert sorted(named(tmp_path, Known(MANAGER))) == ["sessions/session-1", "sessions/session-2"]


def test_names_follow_the_sessions_path(tmp_path: pathlib.Path) -> None:
    put_account(tmp_path / "wa1")
    assert list(named(tmp_path, Known(BAILEYS, ("group/wa1", "wa2")))) == ["group/wa1"]


def test_two_copies_of_one_account_are_two(tmp_path: pathlib.Path) -> None:
    for moment in (1707340001234, 1707426401234):
        put_account(tmp_path / f"backup-wa1-{moment}")
    with opened(tmp_path) as work:
        found = accounts_in(work, NOTHING, None)
    assert [(one.name, one.taken // 10**6) for one in sorted(found, key=lambda one: one.taken)] == [
        ("wa1", 1707340001234),
        ("wa1", 1707426401234),
    ]
