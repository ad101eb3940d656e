# SPDX-License-Identifier: GPL-3.0-or-later
"""session_migrate with some accounts only, and what it leaves in the place of those that go to another host.

Every call asks for the difference at the highest verbosity, and neither a canary nor a name of an account may be in what it prints.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import stat
import typing as t

import pytest

from accounts import CANARY, content, give, looks, put_account, put_file
from areas import control_of
from conftest import Mount
from module_server import Server, served

UID, GID = 65534, 65534
PHONES = ("49151000001", "49151000002", "49151000003")
ONE, TWO, THREE = PHONES
WORDS = "It is on another host."

Result = dict[str, t.Any]


class Host:
    """A sessions path with accounts, the outbox beside it, and a legacy path that they once came from."""

    def __init__(self, server: Server, place: pathlib.Path) -> None:
        self.server, self.place = server, place
        self.path = place / "var/sessions"
        self.legacy = place / "opt/current/.baileys_auth"
        self.path.parent.mkdir()
        self.legacy.mkdir(parents=True)

    @property
    def control(self) -> pathlib.Path:
        return control_of(self.path)

    @property
    def area(self) -> pathlib.Path:
        inside = self.path / ".whatsapp-ops"
        return inside if os.path.ismount(self.path) else self.path.parent / ".sessions.whatsapp-ops"

    @property
    def outbox(self) -> pathlib.Path:
        return self.control / "outbox/other/sessions"

    def put(self, root: pathlib.Path, *names: str) -> None:
        self.make_area()
        for number, name in enumerate(names):
            put_account(root / name, number=number)
            give(root / name, UID, GID)
        os.chown(root, UID, GID)

    def make_area(self) -> None:
        """As the role does, before anything is put there."""
        self.outbox.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in list(self.outbox.parents)[:4]:
            folder.chmod(0o700)

    def migrate(self, src: pathlib.Path, path: pathlib.Path, *, check: bool = False, **options: t.Any) -> Result:
        told = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_verbosity": 4}
        given = {"src": [str(src)], "path": str(path), "owner": "nobody", **options}
        result = self.server.run("session_migrate", {**told, **given})
        assert not [word for word in (CANARY, *PHONES) if word in json.dumps(result)]
        return result

    def take(self, *names: str, **options: t.Any) -> Result:
        words = {"engine": self.engine, "owner": "root", "tombstone": WORDS}
        return self.migrate(self.path, self.outbox, accounts=list(names), **{**words, **options})

    def put_back(self, **options: t.Any) -> Result:
        """Do as the role does, which leaves no copy behind for the next run to take for accounts on their way."""
        back = self.migrate(self.outbox, self.path, engine=self.engine, **options)
        if self.engine == "native":
            shutil.rmtree(self.outbox.parent)
            self.make_area()
        return back

    @property
    def engine(self) -> str:
        """What the role takes: accounts are copied where they cannot be renamed."""
        return (
            "rename" if self.server.run("session_info", {"path": str(self.path)})["control"]["same_mount"] else "native"
        )


@pytest.fixture(scope="module")
def server(_own_mounts: None) -> t.Iterator[Server]:
    with served() as running:
        yield running


@pytest.fixture
def host(server: Server, place: pathlib.Path) -> Host:
    return Host(server, place)


def counts(result: Result) -> dict[str, int]:
    return {action: number for action, number in result["counts"].items() if number}


def folders(root: pathlib.Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name in PHONES)


@pytest.mark.parametrize("engine", ["native", "rsync", "rename"])
def test_only_the_accounts_that_are_named_are_moved_and_told(host: Host, engine: str) -> None:
    host.put(host.legacy, *PHONES)
    put_file(host.legacy / "index.json", "{}")
    options: dict[str, t.Any] = {"engine": engine, "accounts": [ONE, THREE]}
    source, before = content(host.legacy / ONE), looks(host.place)
    foreseen = host.migrate(host.legacy, host.path, check=True, **options)
    assert looks(host.place) == before
    made = host.migrate(host.legacy, host.path, **options)
    again = host.migrate(host.legacy, host.path, **options)
    assert foreseen["accounts"] == made["accounts"]
    assert (counts(made), made["companions"]) == ({"migrated": 2}, 0)
    assert sorted(os.listdir(host.path)) == [ONE, THREE]
    assert content(host.path / ONE) == source
    assert made["invocation"]["module_args"]["accounts"] == "(2 names)"
    assert not again["changed"]


def test_an_account_that_is_nowhere_is_said_in_masked_form(host: Host) -> None:
    host.put(host.path, ONE)
    before = looks(host.place)
    for check in (True, False):
        refused = host.take(ONE, TWO, check=check)
        assert refused["failed"]
        assert "these named accounts do not exist: 4…2-" in refused["msg"]
    assert looks(host.place) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state": "retired", "engine": "native", "tombstone": None}, "leave out one of the two"),
        ({"tombstone": "two\nlines"}, "contains a control character"),
    ],
)
def test_what_does_not_go_together_is_refused(host: Host, options: dict[str, t.Any], words: str) -> None:
    host.put(host.path, ONE)
    before = looks(host.place)
    refused = host.take(ONE, **options)
    assert refused["failed"]
    assert words in refused["msg"]
    assert looks(host.place) == before


@pytest.fixture(params=["beside", "inside"])
def either(request: pytest.FixtureRequest, host: Host, mount: Mount) -> Host:
    """Where the area lies: beside the sessions path, or inside one that is a mount."""
    if request.param == "inside":
        mount("tmpfs", host.path)
        os.chown(host.path, UID, GID)
    return host


def test_a_tombstone_takes_the_place_of_an_account_until_it_is_put_back(either: Host) -> None:
    host = either
    host.put(host.path, *PHONES)
    source = content(host.path / ONE)

    taken = host.take(ONE)
    again = host.take(ONE)

    assert (counts(taken), again["changed"]) == ({"migrated": 1}, False)
    place = (host.path / ONE).lstat()
    assert (place.st_uid, stat.S_ISREG(place.st_mode), stat.S_IMODE(place.st_mode)) == (0, True, 0o444)
    assert (host.path / ONE).read_text().endswith(f"\n{WORDS}\n")
    assert content(host.outbox / ONE) == source
    assert {entry.lstat().st_uid for entry in (host.outbox / ONE).iterdir()} == {0}
    seen = host.server.run("session_info", {"path": str(host.path)})
    assert (seen["total"], seen["states"]["paired"], seen["states"]["corrupt"]) == (2, 2, 0)

    back = host.put_back()

    assert counts(back) == {"migrated": 1}
    assert content(host.path / ONE) == source
    assert (host.path / ONE / "creds.json").stat().st_uid == UID
    assert not host.outbox.exists() or folders(host.outbox) == []
    assert not host.put_back()["changed"]


def test_no_tombstone_travels_with_the_others(host: Host) -> None:
    host.put(host.path, *PHONES)
    host.take(ONE)
    rest = host.take()
    assert (counts(rest), rest["companions"]) == ({"migrated": 2}, 0)
    assert folders(host.path) == []
    assert folders(host.outbox) == sorted(PHONES)
    assert all((host.path / phone).is_file() for phone in PHONES)
    assert not host.take()["changed"]


def test_what_is_left_at_the_legacy_path_does_not_come_back_by_itself(host: Host) -> None:
    host.put(host.legacy, ONE, TWO)
    host.migrate(host.legacy, host.path)
    host.take(ONE)
    assert counts(host.migrate(host.legacy, host.path)) == {"skipped": 1, "unchanged": 1}
    put_account(host.legacy / ONE, number=7)  # somebody starts an old release
    give(host.legacy, UID, GID)
    used = host.migrate(host.legacy, host.path)
    assert (counts(used), used["changed"]) == ({"skipped": 1, "unchanged": 1}, False)
    assert "moved to another host" in json.dumps(used["accounts"], ensure_ascii=False)


def test_an_account_that_was_here_before_and_was_not_used_elsewhere_is_taken_in_again(host: Host) -> None:
    """It comes with the very marks that the receipt has; a copy that somebody hands over is no leftover."""
    host.put(host.path, ONE)
    for _round in range(2):
        assert counts(host.take()) == {"migrated": 1}
        assert counts(host.put_back()) == {"migrated": 1}
    assert folders(host.path) == [ONE]


def test_what_somebody_puts_in_the_place_of_a_tombstone_is_put_aside(host: Host) -> None:
    host.put(host.path, ONE)
    source = content(host.path / ONE)
    host.take(ONE)
    (host.path / ONE).unlink()
    put_account(host.path / ONE, "fresh")
    give(host.path, UID, GID)
    back = host.put_back()
    assert counts(back) == {"migrated": 1, "displaced": 1}
    assert content(host.path / ONE) == source


def test_nobody_goes_back_to_where_old_copies_of_moved_accounts_are(host: Host) -> None:
    host.put(host.legacy, ONE, TWO)
    host.migrate(host.legacy, host.path)
    host.take(ONE)
    before = looks(host.place)
    refused = host.migrate(host.legacy, host.path, state="rolled_back")
    assert refused["failed"]
    assert f"another host have old copies at {host.legacy} (4…1-" in refused["msg"]
    assert looks(host.place) == before
    os.rename(host.legacy / ONE, host.place / "aside")
    assert not host.migrate(host.legacy, host.path, state="rolled_back").get("failed")
    assert sorted(os.listdir(host.legacy)) == [TWO]
