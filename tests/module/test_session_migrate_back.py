# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back from a sessions path, and forth again: newer keys travel, whichever direction they were written in last."""

from __future__ import annotations

import os
import pathlib
import re
import time
import typing as t

import pytest
from test_session_migrate import GID, UID, Host, Result, give

from accounts import content, looks, put_account, use
from module_server import Server


@pytest.fixture
def host(server: Server, place: pathlib.Path) -> Host:
    """Two accounts that were migrated, and one of them used since."""
    host = Host(server, place)
    host.account("49001")
    host.account("49002", number=2)
    assert host.migrate()["counts"]["migrated"] == 2
    use_now(host.path / "49001")
    return host


def use_now(account: pathlib.Path) -> None:
    use(account, time.time())


def roll_back(host: Host, **options: t.Any) -> Result:
    return host.migrate(**{"src": [], "state": "rolled_back", **options})


def actions(result: Result) -> list[str]:
    return sorted(account["action"] for account in result["accounts"])


def test_newer_keys_travel_back_and_older_ones_are_put_aside(host: Host) -> None:
    newer, kept = content(host.path / "49001"), content(host.path)
    older = content(host.legacy / "49001")

    result = roll_back(host)

    assert result["changed"]
    assert (result["path"], result["src"]) == (str(host.legacy), [str(host.path)])
    assert actions(result) == ["migrated", "unchanged"]
    assert content(host.legacy / "49001") == newer
    assert content(host.path) == kept
    displaced = host.legacy.parent / f".{host.legacy.name}.whatsapp-ops/displaced"
    assert [content(entry) for entry in displaced.iterdir() if entry.is_dir()] == [older]
    (listed,) = host.server.run("session_info", {"path": str(host.legacy)}, 0)["displaced"]
    assert content(pathlib.Path(listed["path"])) == older
    assert listed["id"] == next(account["id"] for account in result["accounts"] if account["action"] == "migrated")
    assert host.server.run("session_info", {"path": str(host.path)}, UID)["displaced"] == []
    assert not roll_back(host)["changed"]


def test_forth_again_what_was_used_meanwhile_wins(host: Host) -> None:
    roll_back(host)
    use_now(host.legacy / "49002")
    newest = content(host.legacy / "49002")

    result = host.migrate()

    assert actions(result) == ["migrated", "unchanged"]
    assert content(host.path / "49002") == newest
    assert not host.migrate()["changed"]
    use_now(host.path / "49002")
    assert actions(roll_back(host)) == ["migrated", "unchanged"]


def test_used_at_both_since_it_went_back_is_for_the_operator_to_decide(host: Host) -> None:
    roll_back(host)
    use_now(host.legacy / "49001")
    use_now(host.path / "49001")

    for result in (host.migrate(), roll_back(host)):
        assert result["failed"]
        assert "differ between the legacy path" in result["msg"]
    assert host.migrate(on_conflict="replace")["changed"]


def test_a_new_account_goes_back_and_a_removed_one_stays_as_it_was(host: Host) -> None:
    put_account(host.path / "49003", number=3)
    give(host.path / "49003", UID, GID)
    left = looks(host.legacy / "49002")
    for file in (host.path / "49002").iterdir():
        file.unlink()
    (host.path / "49002").rmdir()

    result = roll_back(host)

    assert actions(result) == ["migrated", "migrated"]
    assert content(host.legacy / "49003") == content(host.path / "49003")
    assert looks(host.legacy / "49002") == left


def test_check_mode_predicts_and_touches_nothing(host: Host) -> None:
    before = looks(host.place)
    predicted = roll_back(host, check=True)
    assert looks(host.place) == before
    assert predicted["changed"]
    assert predicted["accounts"] == roll_back(host)["accounts"]


def test_a_retired_path_is_opened_again(host: Host) -> None:
    host.migrate(state="retired")
    assert host.legacy.is_file()
    assert roll_back(host, check=True)["changed"]
    assert host.legacy.is_file()

    result = roll_back(host)

    assert actions(result) == ["migrated", "migrated"]
    assert content(host.legacy) == content(host.path)


def test_a_retired_path_stays_closed_when_it_fails(host: Host) -> None:
    host.migrate(state="retired")
    told = host.legacy.read_text()
    foreign = host.path / "49001/pre-key-9.json"
    foreign.write_text("of root")
    foreign.chmod(0o600)

    result = roll_back(host)

    assert result["failed"], result
    assert host.legacy.read_text() == told


def test_the_engine_rename_moves_there_and_back(server: Server, place: pathlib.Path) -> None:
    host = Host(server, place)
    host.account("49001")
    before = content(host.legacy)
    host.migrate(engine="rename")

    assert roll_back(host, engine="rename")["changed"]

    assert content(host.legacy) == before
    assert host.names() == []


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ("rm -r {control}", {}, "no receipt says where the accounts at .* came from"),
        ("chown nobody {control}", {}, "is not private to root, so its content cannot be trusted"),
        ("mv {path} {path}.gone", {}, "does not exist, so nothing can be rolled back from it"),
        ("true", {"src": ["/a", "/b"]}, "accounts can be rolled back to one only"),
    ],
)
def test_what_cannot_be_known_is_refused(host: Host, change: str, options: dict[str, t.Any], words: str) -> None:
    assert os.system(change.format(control=host.control, path=host.path)) == 0
    before = looks(host.place)
    result = roll_back(host, **options)
    assert result["failed"]
    assert re.search(words, result["msg"]), result["msg"]
    assert looks(host.place) == before


def test_two_legacy_paths_have_no_way_back_unless_one_is_named(host: Host) -> None:
    other = host.place / "opt/old"
    put_account(other / "49004", number=4)
    give(other, UID, GID)
    host.migrate(src=[str(host.legacy), str(other)])

    refused = roll_back(host)
    result = roll_back(host, src=[str(other)])

    assert "came from 2 legacy paths; name in 'src' the one" in refused["msg"]
    assert sorted(os.listdir(other)) == ["49001", "49002", "49004"]
    assert not result.get("failed"), result
