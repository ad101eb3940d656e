# SPDX-License-Identifier: GPL-3.0-or-later
"""What session_migrate brings that is no plain directory, and what it would leave behind: said, and reason enough not to switch."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest
from test_session_migrate import COPYING, GID, UID, Host, counts

from accounts import OLD, content, give, looks, put_account, put_file
from layouts import damage_store, put_account_of, put_store
from module_server import Server

OTHER = 12345  # another user


@pytest.fixture
def host(server: Server, place: pathlib.Path) -> Host:
    return Host(server, place)


@pytest.fixture
def variables(host: Host) -> pathlib.Path:
    """The environment file that points a backend to the legacy path."""
    return put_file(host.place / "env", f"SESSIONS_PATH={host.legacy}\n")


def switched(host: Host, variables: pathlib.Path, **options: t.Any) -> dict[str, t.Any]:
    """Migrate, and point the backend to the sessions path."""
    values = {"path": str(variables), "values": {"SESSIONS_PATH": str(host.path)}}
    return host.migrate(switch={"environment_file": values}, **options)


def is_switched(host: Host, variables: pathlib.Path) -> bool:
    return f"SESSIONS_PATH={host.path}" in variables.read_text()


def link(host: Host, name: str, target: pathlib.Path | str, owner: int = UID) -> None:
    (host.legacy / name).symlink_to(target)
    os.lchown(host.legacy / name, owner, owner)


def elsewhere(host: Host, name: str = "disk/shop", owner: int = UID, **options: t.Any) -> pathlib.Path:
    account = put_account(host.place / name, **options)
    give(host.place / name.partition("/")[0], owner, owner)
    return account


# --- names of folders of the library, and links ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["media", "statics", "_orphaned", "lost+found"])
def test_an_account_called_as_a_folder_of_the_library_is_one(host: Host, name: str) -> None:
    host.account(name)
    host.account("shop", number=2)
    assert counts(host.migrate()) == {"migrated": 2}
    assert sorted([name, "shop"]) == host.names()


def test_what_lies_in_such_a_folder_is_none_and_the_count_says_so(host: Host) -> None:
    host.account("shop")
    host.account("_orphaned/old", number=2)
    result = host.migrate()
    assert counts(result) == {"migrated": 1}
    assert host.names() == ["shop"]
    (warning,) = result["warnings"]
    assert "is 2, but 1 accounts are listed: 1 are counted in a directory where no account is expected" in warning


@pytest.mark.parametrize("engine", COPYING)
@pytest.mark.parametrize("owner", [UID, 0], ids=["of the backend", "of root"])
def test_a_linked_account_becomes_a_directory(host: Host, variables: pathlib.Path, engine: str, owner: int) -> None:
    host.account("plain")
    source = content(elsewhere(host, number=2))
    link(host, "shop", host.place / "disk/shop", owner)
    before = looks(host.place / "disk")
    result = switched(host, variables, engine=engine)
    assert counts(result) == {"migrated": 2}
    assert (result["left_behind"], is_switched(host, variables)) == ([], True)
    assert host.names() == ["plain", "shop"]
    assert not (host.path / "shop").is_symlink()
    assert content(host.path / "shop") == source
    assert [name for name, seen in looks(host.place / "disk").items() if seen != before[name]] == []
    assert not switched(host, variables, engine=engine)["changed"]


def test_a_relative_link_through_others_is_followed(host: Host) -> None:
    host.account("plain")
    elsewhere(host, number=2)
    (host.place / "data").symlink_to("disk")
    link(host, "shop", os.path.relpath(host.place / "data/shop", host.legacy))
    assert counts(host.migrate()) == {"migrated": 2}


def test_only_links_make_a_root_with_accounts(host: Host) -> None:
    account = put_account_of("wwebjs", host.place / "disk", "session-shop")
    give(host.place / "disk", UID, GID)
    link(host, "session-shop", account)
    result = host.migrate()
    assert (result["layout"], counts(result)) == ("wwebjs", {"migrated": 1})


def test_the_engine_that_moves_refuses_a_link(host: Host) -> None:
    link(host, "shop", elsewhere(host))
    before = looks(host.place)
    refused = host.migrate(engine="rename")
    assert "is a symbolic link, and the engine 'rename' would move only the link; nothing was changed" in refused["msg"]
    assert looks(host.place) == before


def dangling(host: Host) -> None:
    link(host, "shop", host.place / "disk/shop")


def of_another_user(host: Host) -> None:
    link(host, "shop", elsewhere(host, owner=OTHER))


def another_name_of_an_account(host: Host) -> None:
    link(host, "shop", host.legacy / "plain")


def the_same_twice(host: Host) -> None:
    link(host, "a shop", elsewhere(host, number=2))
    link(host, "shop", host.place / "disk/shop")


def a_folder_of_accounts(host: Host) -> None:
    elsewhere(host, number=2)
    link(host, "shop", host.place / "disk")


def displaced_by_us(host: Host) -> None:
    link(host, "shop", elsewhere(host, ".other.whatsapp-ops/displaced/shop"))


def damaged(host: Host) -> None:
    put_file(host.account("shop") / "creds.json", "")
    give(host.legacy, UID, GID)


def a_linked_file(host: Host) -> None:
    account = host.account("shop")
    (account / "creds.json").rename(host.place / "creds.json")
    (account / "creds.json").symlink_to(host.place / "creds.json")


def without_credentials(host: Host) -> None:
    (host.account("shop") / "creds.json").unlink()


UNDECIDABLE = (
    dangling,
    of_another_user,
    another_name_of_an_account,
    the_same_twice,
    a_folder_of_accounts,
    displaced_by_us,
    damaged,
    a_linked_file,
    without_credentials,
)


@pytest.mark.parametrize("make", UNDECIDABLE, ids=lambda make: make.__name__)
def test_what_would_be_left_behind_stops_the_switch(
    host: Host, variables: pathlib.Path, make: t.Callable[[Host], None]
) -> None:
    host.account("plain", number=9)
    make(host)
    before = looks(host.place)
    refused = switched(host, variables)
    assert refused["failed"]
    assert "1 account(s) would be left behind" in refused["msg"]
    assert f" in {host.legacy}, because " in refused["msg"]
    assert "nothing was changed" in refused["msg"]
    assert "'shop'" not in refused["msg"]  # names are masked
    assert looks(host.place) == before

    label = host.migrate(check=True)["left_behind"][0]["id"]  # where nothing is switched it is said, and that is all
    wrong = switched(host, variables, accept_left_behind=["p…n-123456"])
    assert wrong["failed"]
    done = switched(host, variables, accept_left_behind=[label])
    assert done["warnings"]
    assert is_switched(host, variables)
    assert "shop" not in host.names()
    assert "plain" in host.names()
    assert not switched(host, variables)["changed"]  # and it is said once


def test_the_name_itself_may_be_accepted_as_well(host: Host, variables: pathlib.Path) -> None:
    host.account("plain", number=9)
    dangling(host)
    switched(host, variables, accept_left_behind=["shop"])
    assert is_switched(host, variables)


def test_an_account_of_another_user_may_be_left_behind(host: Host, variables: pathlib.Path) -> None:
    host.account("plain")
    give(host.account("shop", number=2), OTHER, OTHER)
    assert "allow_foreign_owner" in switched(host, variables)["msg"]
    result = switched(host, variables, accept_left_behind=["shop"])
    assert counts(result) == {"migrated": 1, "skipped": 1}
    assert (host.names(), is_switched(host, variables)) == (["plain"], True)


@pytest.mark.parametrize("name", ["logs", "media", "readme"])
def test_a_link_to_what_is_no_account_stops_nothing(host: Host, variables: pathlib.Path, name: str) -> None:
    host.account("plain")
    target = host.place / "else"
    target.write_text("") if name == "readme" else target.mkdir()
    os.chown(target, UID, GID)
    link(host, name, target)
    result = switched(host, variables)
    assert (counts(result), is_switched(host, variables)) == ({"migrated": 1}, True)
    assert result["companions"] == 0
    assert [warning for warning in result["warnings"] if "links next to" in warning] or name == "media"


def test_a_link_to_the_account_at_the_sessions_path_is_no_account_of_its_own(
    host: Host, variables: pathlib.Path
) -> None:
    put_account(host.path / "shop")
    give(host.path, UID, GID)
    host.account("plain", number=2)
    link(host, "shop", host.path / "shop")
    assert counts(switched(host, variables)) == {"migrated": 1}
    assert is_switched(host, variables)


@pytest.mark.parametrize("make", [dangling, of_another_user])
def test_a_link_that_is_not_followed_counts_although_the_sessions_path_has_its_name(
    host: Host, variables: pathlib.Path, make: t.Callable[[Host], None]
) -> None:
    """What is there may be an older copy of it, or another account."""
    put_account(host.path / "shop")
    give(host.path, UID, GID)
    host.account("plain", number=2)
    make(host)
    assert "1 account(s) would be left behind" in switched(host, variables)["msg"]
    assert not is_switched(host, variables)
    switched(host, variables, accept_left_behind=["shop"])
    assert is_switched(host, variables)


def test_one_account_is_not_brought_under_two_names(host: Host, variables: pathlib.Path) -> None:
    """It is one device, and two programs that run it tear its keys."""
    put_account(host.path / "shop")
    give(host.path, UID, GID)
    host.account("plain", number=2)
    link(host, "alias", host.path / "shop")
    refused = switched(host, variables)
    assert "1 account(s) would be left behind" in refused["msg"]
    assert "it is a link into the sessions path, which has that account under another name" in refused["msg"]
    (host.legacy / "alias").unlink()

    link(host, "alias", elsewhere(host, number=3))
    other = host.place / "other"
    other.mkdir()
    (other / "shop2").symlink_to(host.place / "disk/shop")
    (other / "plain2").symlink_to(host.legacy / "plain")
    (other / "alias").symlink_to(host.place / "disk/shop")  # the same name is one account
    give(other, UID, GID)
    both = [str(host.legacy), str(other)]
    refused = switched(host, variables, src=both)
    assert "2 account(s) would be left behind" in refused["msg"]
    assert "another legacy path has the same directory under another name" in refused["msg"]
    assert (host.names(), is_switched(host, variables)) == (["shop"], False)
    switched(host, variables, src=both, accept_left_behind=["shop2", "plain2"])
    assert (host.names(), is_switched(host, variables)) == (["alias", "plain", "shop"], True)


def test_a_damaged_account_that_the_sessions_path_has_is_not_left_behind(host: Host, variables: pathlib.Path) -> None:
    put_account(host.path / "shop")
    give(host.path, UID, GID)
    damaged(host)
    switched(host, variables)
    assert is_switched(host, variables)


@pytest.mark.parametrize("engine", COPYING)
def test_a_damaged_database_stops_the_switch(host: Host, variables: pathlib.Path, engine: str) -> None:
    put_account_of("whatsmeow", host.legacy, "one")
    broken = put_account_of("whatsmeow", host.legacy, "two", number=2)
    # What only a check of the whole database finds, which the look at such an account leaves out.
    put_store(broken / "keys.db", range(300))
    damage_store(broken / "keys.db")
    give(host.legacy, UID, GID)
    described = {"layout": "custom", "custom": {"markers": ["whatsapp.db"], "databases": ["*.db"]}}
    for check in (True, False):
        refused = switched(host, variables, engine=engine, check=check, **described)
        assert "because SQLite finds its database damaged; nothing was changed" in refused["msg"]
    assert not host.path.exists()
    assert not is_switched(host, variables)
    done = switched(host, variables, engine=engine, accept_left_behind=["two"], **described)
    assert counts(done) == {"migrated": 1, "corrupt": 1}
    assert is_switched(host, variables)


@pytest.mark.parametrize("engine", COPYING)
def test_damaged_chats_do_not(host: Host, variables: pathlib.Path, engine: str) -> None:
    account = put_account_of("whatsmeow", host.legacy, "one")
    put_store(account / "chatstorage.db", range(300))
    damage_store(account / "chatstorage.db")
    give(host.legacy, UID, GID)
    assert counts(switched(host, variables, engine=engine, layout="whatsmeow")) == {"migrated": 1}
    assert (host.path / "one/chatstorage.db").read_bytes() == (account / "chatstorage.db").read_bytes()
    assert is_switched(host, variables)


# --- two devices under one name ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["baileys", "wwebjs", "whatsmeow", "baileys_csharp"])
def test_two_devices_of_one_name_are_refused(host: Host, layout: str) -> None:
    roots = [host.place / name for name in ("shop", "support")]
    name = "session" if layout == "wwebjs" else "main"
    for number, root in enumerate(roots):
        put_account_of(layout, root, name, number=number + 1)
        give(root, UID, GID)
    before = looks(host.place)
    refused = host.migrate(src=[*map(str, roots)], layout=layout)
    assert f"are two different linked devices, one in {roots[0]} and one in {roots[1]}" in refused["msg"]
    assert "nothing was changed: move one of them to a directory" in refused["msg"]
    assert looks(host.place) == before
    assert counts(host.migrate(src=[str(roots[0])], layout=layout)) == {"migrated": 1}


def test_two_devices_that_are_the_roots_themselves_are_refused(host: Host) -> None:
    roots = [put_account(host.place / name, number=number) for number, name in enumerate(("shop", "support"))]
    for root in roots:
        give(root, UID, GID)
    assert "are two different linked devices" in host.migrate(src=[*map(str, roots)])["msg"]


def test_a_store_that_another_one_was_copied_from_is_no_other_device(host: Host) -> None:
    roots = [host.place / name for name in ("new", "old")]
    for root, numbers in zip(roots, ((1, 2), (1,)), strict=True):
        (root / "main").mkdir(parents=True)
        put_store(root / "main/whatsapp.db", numbers)
        give(root, UID, GID)
    result = host.migrate(src=[*map(str, roots)], layout="whatsmeow")
    assert counts(result) == {"migrated": 1}


@pytest.mark.parametrize("age", [OLD - 3600, OLD + 3600])
def test_another_device_at_the_sessions_path_is_for_the_operator_to_decide(host: Host, age: float) -> None:
    host.account("main", at=age)
    put_account(host.path / "main", number=2)
    give(host.path, UID, GID)
    refused = host.migrate()
    assert "two different linked devices under one name" in refused["msg"]
    assert counts(host.migrate(on_conflict="replace")) == {"migrated": 1, "displaced": 1}


# --- credentials alone ---------------------------------------------------------------------------------------


def test_credentials_alone_are_an_account(host: Host, variables: pathlib.Path) -> None:
    host.account("shop", keys=())
    assert counts(switched(host, variables)) == {"migrated": 1}
    assert is_switched(host, variables)


def test_credentials_alone_never_win_over_an_account_with_keys(host: Host) -> None:
    host.account("shop", at=OLD + 3600, keys=())
    put_account(host.path / "shop")
    give(host.path, UID, GID)
    before = content(host.path)
    assert counts(host.migrate()) == {"kept": 1}
    assert content(host.path) == before
    assert json.loads((host.path / "shop/creds.json").read_text())


# --- links at the sessions path --------------------------------------------------------------------------------


def test_a_link_at_the_sessions_path_gives_way_as_a_link(host: Host) -> None:
    """What it leads to is not touched, and what is published lies at the sessions path."""
    source = content(host.account("shop", number=2, device=1, at=OLD + 3600))
    target = elsewhere(host)
    host.path.mkdir()
    (host.path / "shop").symlink_to(target)
    give(host.path, UID, GID)
    before = content(target)
    assert counts(host.migrate()) == {"migrated": 1, "displaced": 1}
    assert not (host.path / "shop").is_symlink()
    assert content(host.path / "shop") == source
    assert content(target) == before
    (displaced,) = [entry for entry in (host.area / "displaced").iterdir() if entry.is_symlink()]
    assert os.readlink(displaced) == str(target)


def test_a_linked_folder_at_the_sessions_path_is_never_published_through(host: Host) -> None:
    host.account("tenant/shop")
    outside = host.place / "outside"
    outside.mkdir()
    host.path.mkdir()
    (host.path / "tenant").symlink_to(outside)
    give(host.path, UID, GID)
    os.chown(outside, UID, GID)
    assert host.migrate()["failed"]
    assert list(outside.iterdir()) == []


# --- the same name in several places, and nothing tells whose ---------------------------------------------------


@pytest.mark.parametrize("kind", ["unknown", "damaged", "same", "fresh"])
def test_a_second_account_of_a_name_that_nobody_can_tell_apart_stops_the_switch(
    host: Host, variables: pathlib.Path, kind: str
) -> None:
    described = {} if kind != "unknown" else {"layout": "custom", "custom": {"markers": ["creds.json"]}}
    other = host.place / "other"
    host.account("shop")
    put_account(other / "shop", "fresh" if kind == "fresh" else "paired", number=1 if kind == "same" else 2)
    if kind == "damaged":
        put_file(other / "shop/creds.json", "")
    give(other, UID, GID)
    sources = [str(host.legacy), str(other)]
    first = switched(host, variables, src=sources, **described)
    assert bool(first.get("failed")) == (kind in ("unknown", "damaged"))
    if first.get("failed"):
        assert f" in {other}, because {host.legacy} has an account of that name, too, and " in first["msg"]
        assert not host.path.exists()
        switched(host, variables, src=sources, accept_left_behind=["shop"], **described)
    assert is_switched(host, variables)
    assert host.names() == ["shop"]
