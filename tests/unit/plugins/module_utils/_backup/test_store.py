# SPDX-License-Identifier: GPL-3.0-or-later
"""The store of snapshots: what counts as one, and that a crafted or damaged one is not listed."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import control_path
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import FileMark, FolderMark, Mark
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import store as of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.store import Snapshot
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError

MARK = Mark(FolderMark(1, 2), {"creds.json": FileMark(3, 4, 5, 6, "digest")})
MOMENT = "20260102T030405.000006Z"


def one(account: str = "4915", moment: str = MOMENT, **fields: t.Any) -> Snapshot:
    made = Snapshot(of.name_of(account, moment), account, "baileys", 10, 10, 9, "paired", 2, 99, MARK, "/srv/wa")
    return made._replace(**fields)


def put(store: int, snapshot: Snapshot) -> pathlib.Path:
    os.mkdir(snapshot.name, 0o700, dir_fd=store)
    with of.opened_snapshot(store, snapshot.name) as directory:
        of.write_manifest(directory, snapshot)
    return pathlib.Path(os.readlink(f"/proc/self/fd/{store}"), snapshot.name)


@pytest.fixture(name="store")
def opened(tmp_path: pathlib.Path, control_home: pathlib.Path) -> t.Iterator[int]:
    with of.opened_store(str(tmp_path / "sessions")) as store:
        yield store


def test_what_is_written_is_read_back(store: int) -> None:
    made = [one("4915", taken=11, confirmed=11), one("noweb/a-b", taken=12, confirmed=12), one(".")]
    for snapshot in made:
        put(store, snapshot)
    assert of.snapshots(store) == (made[1], made[0], made[2])
    assert of.snapshots(store)[2].is_sound


def test_names_show_readable_accounts_only() -> None:
    assert of.name_of("a.b_c-1", MOMENT) == f"backup-a.b_c-1-{MOMENT}"
    assert len(of.name_of("noweb/a", MOMENT)) == len(of.name_of("x" * 81, MOMENT)) == 7 + 40 + 1 + len(MOMENT)
    assert one("a-b").moment == MOMENT


def test_it_belongs_to_root_alone_and_looking_makes_nothing(tmp_path: pathlib.Path, control_home: pathlib.Path) -> None:
    path = str(tmp_path / "sessions")
    with of.existing_store(path) as store:
        assert store is None
    with of.opened_store(path):
        pass
    place = pathlib.Path(of.store_path(path))
    assert str(place) == f"{control_path(path)}/backups"
    assert place.stat().st_mode & 0o777 == 0o700
    with of.existing_store(path) as store:
        assert store is not None


def test_a_store_that_others_could_replace_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for opening in (of.opened_store, of.existing_store):
        with (
            pytest.raises(SessionsError, match="users other than root can write"),
            opening("/srv/wa", f"{tmp_path}/open/backups"),
        ):
            pass


@pytest.mark.parametrize("place", ["/srv/wa", "/srv/wa/backups", "/srv", "/", "backups", "/srv/../srv/wa"])
def test_a_place_that_backends_could_read_is_refused(place: str) -> None:
    with pytest.raises(SessionsError, match="backup_path"):
        of.store_path("/srv/wa", place)
    assert of.store_path("/srv/wa", "/srv/wa-backups") == "/srv/wa-backups"


def test_a_link_to_the_sessions_path_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "wa").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "wa")
    with pytest.raises(SessionsError, match="at, in or above"):
        of.store_path(str(tmp_path / "wa"), f"{tmp_path}/link/backups")


BAD_FIELDS = [
    ("account", "../etc"),
    ("account", "a//b"),
    ("account", "/etc"),
    ("account", ""),
    ("account", "a\0b"),
    ("account", 7),
    ("account", "other"),
    ("layout", "../../x"),
    ("state", ["paired"]),
    ("path", "srv/wa"),
    ("path", "/srv/../wa"),
    ("taken", -1),
    ("taken", 1 << 63),
    ("taken", True),
    ("taken", 1.5),
    ("sequence", None),
    ("files", "2"),
    ("mark", {}),
    ("mark", {"folder": [1], "files": {}}),
    ("version", 2),
]


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS)
def test_a_malformed_manifest_is_no_snapshot(store: int, field: str, value: t.Any) -> None:
    manifest = put(store, one()) / of.MANIFEST
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**document, field: value}))
    assert of.snapshots(store) == ()
    manifest.write_text(json.dumps(document))
    assert of.snapshots(store) == (one(),)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "[" * 100_000, "\udcff"])
def test_damaged_text_is_no_snapshot(store: int, content: str) -> None:
    (put(store, one()) / of.MANIFEST).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert of.snapshots(store) == ()


def test_a_manifest_too_large_is_not_read(store: int) -> None:
    os.truncate(put(store, one()) / of.MANIFEST, 1 << 40)
    assert of.snapshots(store) == ()


def test_only_roots_own_directories_and_files_count(store: int) -> None:
    place = put(store, one())
    place.chmod(0o755)
    assert of.snapshots(store) == ()
    place.chmod(0o700)
    (place / of.MANIFEST).chmod(0o666)
    assert of.snapshots(store) == ()
    (place / of.MANIFEST).chmod(0o600)
    assert len(of.snapshots(store)) == 1
    place.rename(place.parent / "elsewhere")
    place.symlink_to("elsewhere")
    assert of.snapshots(store) == ()


def test_what_is_being_written_or_has_another_name_is_not_listed(store: int) -> None:
    place = put(store, one())
    (place / of.MANIFEST).rename(place / "kept")
    assert of.snapshots(store) == ()
    (place / "kept").rename(place / of.MANIFEST)
    place.rename(place.parent / f".partial-{place.name}")
    assert of.snapshots(store) == ()
    (place.parent / f".partial-{place.name}").rename(place.parent / f"backup-4916-{MOMENT}")
    assert of.snapshots(store) == ()


def test_confirmations_are_kept_beside_the_snapshots(store: int) -> None:
    place = put(store, one())
    of.write_confirmed(store, {place.name: 50})
    assert of.snapshots(store) == (one(confirmed=50),)
    of.write_confirmed(store, {place.name: 3})  # the clock was set back
    assert of.snapshots(store) == (one(),)
    (place.parent / of.CONFIRMED).write_text(json.dumps({place.name: "soon"}))
    assert of.snapshots(store) == (one(),)


def test_what_was_read_before_is_not_read_again(store: int) -> None:
    place = put(store, one())
    before = of.snapshots(store)
    (place / of.MANIFEST).unlink()
    of.write_confirmed(store, {place.name: 50})
    put(store, one("b"))
    assert of.snapshots(store, before) == (one("b"), one(confirmed=50))
    place.rename(place.parent / f".partial-{place.name}")
    assert of.snapshots(store, before) == (one("b"),)


def test_the_newest_sound_one_of_each_account() -> None:
    found = [one(taken=3, state="corrupt"), one(taken=2), one(taken=1), one("b", taken=9, state="pending")]
    assert of.newest_sound(found) == {"4915": found[1]}


def test_a_clock_that_was_wrong_does_not_make_a_snapshot_the_newest(store: int) -> None:
    early = one(moment="20300102T030405.000006Z", taken=999, confirmed=999, sequence=1)
    late = one(taken=5, confirmed=5, sequence=2)
    for snapshot in (early, late):
        put(store, snapshot)
    assert of.snapshots(store) == (late, early)
    assert of.newest_sound((early, late)) == of.newest_sound((late, early)) == {"4915": late}


def test_accounts_that_are_gone_are_recorded(store: int) -> None:
    assert of.gone_accounts(store) == frozenset()
    of.write_gone(store, {"b", "a"})
    assert of.gone_accounts(store) == {"a", "b"}
    of.write_document(store, of.GONE, {"accounts": "a"})
    assert of.gone_accounts(store) == frozenset()


def test_the_last_run_is_recorded(store: int) -> None:
    assert of.last_run(store) is None
    of.write_last_run(store, of.LastRun(5, 1, 2, 3, 4))
    assert of.last_run(store) == of.LastRun(5, 1, 2, 3, 4)
    of.write_document(store, of.LAST_RUN, {"time": "x"})
    assert of.last_run(store) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), st.lists))
def test_no_value_of_any_field_breaks_the_list(store: int, value: t.Any) -> None:
    name = one().name
    if name not in os.listdir(store):
        put(store, one())
    with of.opened_snapshot(store, name) as directory:
        document = {"version": 1, **one()._asdict(), "mark": {"folder": [1, 2], "files": {}}}
        for field in document:
            of.write_document(directory, of.MANIFEST, {**document, field: value})
            assert len(of.snapshots(store)) <= 1
