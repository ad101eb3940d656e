# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of layouts: what is an account, what is sound, how many there are; and that one entry is all a new library needs."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import errno
import itertools
import json
import os
import pathlib
import subprocess
import threading
import time
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import CANARY, KEY_FILES, content, credentials, opened, put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts import info as accounts_info
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.names import AREA_INSIDE
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import bounded
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts import search
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.account import open_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import (
    Judgement,
    Layout,
    StopSettings,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import (
    LAYOUTS,
    layout_named,
    recognised,
    recognition,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.search import (
    account_names,
    companions,
    plain_count,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job
from layouts import KINDS, put_account_of

BAILEYS = layout_named("baileys")
STATES = ("paired", "pending", "fresh", "corrupt")


def judged(path: pathlib.Path) -> Judgement:
    with opened(path) as directory:
        return BAILEYS.judge(directory)


# --- judging ----------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
HELD = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from([*credentials("paired")]), JSON).map(
        lambda changes: json.dumps({**credentials("paired"), **changes}).encode()
    ),
    st.integers(0, 500).map(lambda size: json.dumps(credentials("paired")).encode()[:size]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(held=HELD)
def test_whatever_credentials_hold_they_are_judged(tmp_path: pathlib.Path, held: bytes) -> None:
    account = put_account(tmp_path / "wa1")
    put_file(account / "creds.json", held)
    judgement = judged(account)
    assert judgement.state in STATES
    assert (judgement.state == "corrupt") <= bool(judgement.problems)
    assert bool(judgement.fingerprints) is (judgement.state == "paired")
    assert CANARY not in f"{judgement.state} {judgement.problems} {judgement.fingerprints} {judgement!r}"


@pytest.mark.parametrize("state", ["paired", "pending", "fresh"])
def test_states(tmp_path: pathlib.Path, state: str) -> None:
    judgement = judged(put_account(tmp_path / "wa1", state))
    assert (judgement.state, judgement.problems) == (state, ())


@pytest.mark.parametrize(("state", "registered"), [("pending", True), ("fresh", True), ("paired", False)])
def test_what_registered_says_counts_for_nothing(tmp_path: pathlib.Path, state: str, registered: bool) -> None:
    """It is set while a pairing code is asked for, and stays false after a QR code was scanned."""
    account = put_account(tmp_path / "wa1", state)
    put_file(account / "creds.json", json.dumps({**credentials(state), "registered": registered}))
    assert judged(account).state == state


@pytest.mark.parametrize("part", ["noiseKey", "signedIdentityKey", "signedPreKey", "registrationId", "advSecretKey"])
@pytest.mark.parametrize("value", [None, "", {}])
def test_linked_credentials_without_a_part_that_every_start_needs(
    tmp_path: pathlib.Path, part: str, value: t.Any
) -> None:
    account = put_account(tmp_path / "wa1")
    put_file(account / "creds.json", json.dumps({**credentials("paired"), part: value}))
    assert judged(account) == Judgement("corrupt", ("credentials_incomplete",))


@pytest.mark.parametrize("goes_on", [True, False])
def test_credentials_that_are_being_written_are_looked_at_again(tmp_path: pathlib.Path, goes_on: bool) -> None:
    account = put_account(tmp_path / "wa")
    whole = (account / "creds.json").read_bytes()
    (account / "creds.json").write_bytes(b"")
    ends = threading.Timer(0.05, (account / "creds.json").write_bytes, [whole])
    if goes_on:
        ends.start()
    assert judged(account).state == ("paired" if goes_on else "corrupt")
    ends.cancel()


def test_a_fingerprint_tells_devices_apart_and_is_not_shown(tmp_path: pathlib.Path) -> None:
    one, copy, other = (
        judged(put_account(tmp_path / name, number=number)) for name, number in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one.fingerprints == copy.fingerprints != other.fingerprints
    assert one.fingerprints[0] not in repr(one)


@pytest.mark.parametrize("name", [*KEY_FILES, "app-state-sync-key-AAA", "tctoken-1", "device-list-1", "identity-key-1"])
def test_keys_of_every_category_are_keys(tmp_path: pathlib.Path, name: str) -> None:
    assert judged(put_account(tmp_path / "wa1", keys=(name,))).state == "paired"


@pytest.mark.parametrize("name", ["notes", "pre-key", "xpre-key-1", "pre-key-"])
def test_what_is_no_key_is_none(tmp_path: pathlib.Path, name: str) -> None:
    assert judged(put_account(tmp_path / "wa1", keys=(name,))).problems == ("keys_missing",)


RECORDED = pathlib.Path(__file__).parents[3] / "recorded/baileys-reads.json"
READ: list[dict[str, t.Any]] = json.loads(RECORDED.read_text(encoding="ascii"))["read"]


@pytest.mark.parametrize("read", READ, ids=[read["name"] for read in READ])
def test_credentials_are_judged_as_the_library_reads_them(tmp_path: pathlib.Path, read: dict[str, t.Any]) -> None:
    """Recorded with Baileys 6.5.0, 6.7.18, 6.17.16 and 7.0.0-rc14: whether it finds ``me`` and ``account``."""
    account = put_account(tmp_path / "wa1")
    put_file(account / "creds.json", base64.b64decode(read["bytes"]))
    state = judged(account).state
    if read["me"] and read["account"]:
        assert state == "paired" or read["name"] == "me is an empty object"  # the library ends on that
    else:
        assert state == ("pending" if read["me"] else state)
        assert state != "paired"


HOLLOW: dict[str, t.Callable[[pathlib.Path], t.Any]] = {
    "keys_empty": lambda key: key.write_bytes(b""),
    "keys_empty ": lambda key: key.write_bytes(bytes(160)),
    "keys_not_a_file": lambda key: (key.unlink(), key.mkdir()),
}


@pytest.mark.parametrize("layout", ["baileys", "evolution", "baileys_csharp"])
@pytest.mark.parametrize("hollow", HOLLOW)
@pytest.mark.parametrize("alone", [True, False])
def test_one_useless_key_is_a_problem_and_nothing_but_useless_keys_is_damage(
    tmp_path: pathlib.Path, layout: str, hollow: str, alone: bool
) -> None:
    account = put_account_of(layout, tmp_path, "wa1")
    keys = [path for path in sorted(account.rglob("*.json")) if not path.name.endswith("creds.json")]
    for key in keys:
        if alone or "pre-key" in str(key.relative_to(account)):
            HOLLOW[hollow](key)
    with opened(account) as directory:
        judgement = layout_named(layout).judge(directory)
    assert judgement.problems == (hollow.strip(),)
    assert judgement.state == ("corrupt" if alone else "paired")


def test_credentials_alone_are_an_account(tmp_path: pathlib.Path) -> None:
    assert judged(put_account(tmp_path / "wa1", keys=())) == Judgement(
        "paired", ("keys_missing",), judged(put_account(tmp_path / "wa1")).fingerprints, 1
    )


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"registered": True, "registration": {"phoneNumberNationalNumber": "99990000"}}, "paired"),
        ({"registered": False, "registration": {"phoneNumberNationalNumber": "99990000"}}, "pending"),
        ({"registered": True, "registration": {}}, "pending"),  # a pairing code was typed in, and no device came of it
        ({"registered": True}, "pending"),
    ],
)
def test_an_account_that_is_the_phone_itself(tmp_path: pathlib.Path, changes: dict[str, t.Any], state: str) -> None:
    account = put_account(tmp_path / "wa1")
    held = credentials("pending")
    put_file(account / "creds.json", json.dumps({**held, **changes}))
    assert judged(account).state == state


# --- finding ------------------------------------------------------------------------------------------------


def names(path: pathlib.Path, layout: Layout = BAILEYS) -> list[str]:
    with opened(path) as root:
        return list(account_names(root, layout))


def test_accounts_are_found_down_to_the_depth_of_the_layout(tmp_path: pathlib.Path) -> None:
    for name in (
        "b",
        "a",
        "t/a",
        "x/y/too-deep",
        "_orphaned/c",
        "lost+found/d",
        ".whatsapp-ops/displaced/e",
        "a/inside",
    ):
        put_account(tmp_path / name)
    (tmp_path / "link").symlink_to("a")
    put_file(tmp_path / "creds.txt", "")
    assert names(tmp_path) == ["a", "b", "t/a"]
    put_account(tmp_path)
    assert names(tmp_path) == [".", "a", "b", "t/a"]


def test_what_lies_beside_accounts_travels_with_them(tmp_path: pathlib.Path) -> None:
    put_account(tmp_path / "wa1")
    put_account(tmp_path / "t/wa2")
    for name in ("index.json", "x.tmp", ".write-test", "wa.lock"):
        put_file(tmp_path / name, "")
    for name in ("stats", "media", "lost+found", "_orphaned", ".whatsapp-ops"):
        (tmp_path / name).mkdir()
    with opened(tmp_path) as root:
        assert list(companions(root, BAILEYS)) == ["index.json", "stats"]
    put_account(tmp_path)
    with opened(tmp_path) as root:
        assert list(companions(root, BAILEYS)) == []  # all of it is the account


def test_no_component_of_an_account_is_a_link(tmp_path: pathlib.Path) -> None:
    put_account(tmp_path / "real/wa1")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real/link").symlink_to("wa1")
    with opened(tmp_path) as root:
        for name in ("link/wa1", "real/link"):
            with pytest.raises(OSError):
                open_account(root, name)
        with pytest.raises(FileNotFoundError):
            open_account(root, "gone")
        os.close(open_account(root, "real/wa1"))
        os.close(open_account(root, "."))


def test_looking_leaves_no_descriptor_open(tmp_path: pathlib.Path) -> None:
    put_account(tmp_path / "wa1")
    before = os.listdir("/proc/self/fd")
    for _name in range(3):
        assert names(tmp_path) == ["wa1"]
        with opened(tmp_path) as root:
            plain_count(root, BAILEYS)
            next(account_names(root, BAILEYS))
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("name", "volatile"),
    [("a.tmp", True), (".write-test", True), ("creds.json", False), ("tmp", False), ("x.lock", True)],
)
def test_volatile_names(name: str, volatile: bool) -> None:
    assert BAILEYS.is_volatile(name) is volatile


FOLDERS = st.lists(st.sampled_from(["a", "b", "creds.json", "\n", "-name", "x y"]), max_size=4).map("/".join)
ENTRIES = st.lists(st.tuples(FOLDERS, st.sampled_from(["file", "folder", "link", "fifo", "other"])), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(entries=ENTRIES)
def test_the_plain_count_is_that_of_find(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, str]]
) -> None:
    place = tmp_path_factory.mktemp("root")
    for folder, kind in entries:
        with contextlib.suppress(OSError):  # something of that name is there already
            (place / folder).mkdir(parents=True, exist_ok=True)
            path = place / folder / ("creds.json" if kind != "other" else "creds.json.bak")
            {
                "file": pathlib.Path.touch,
                "folder": pathlib.Path.mkdir,
                "fifo": os.mkfifo,
                "other": pathlib.Path.touch,
            }.get(kind, lambda where: where.symlink_to(place))(path)
    found = subprocess.run(
        ["find", str(place), "-maxdepth", "3", "-name", "creds.json", "-printf", "x"], capture_output=True, check=True
    )
    with opened(place) as root:
        assert plain_count(root, BAILEYS) == len(found.stdout)


def test_the_plain_count_where_every_directory_has_two_links(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on CIFS, where that number means nothing."""
    for name in ("wa1", "t/wa2"):
        put_account(tmp_path / name)
    fstat = os.fstat

    def two_links(descriptor: int) -> os.stat_result:
        fields = list(fstat(descriptor))
        fields[3] = 2
        return os.stat_result(fields)

    with opened(tmp_path) as root:
        monkeypatch.setattr(os, "fstat", two_links)
        assert plain_count(root, BAILEYS) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_name_may_be_as_long_as_names_can_be(tmp_path: pathlib.Path, layout: str) -> None:
    name = KINDS[layout].name("x")
    short = put_account_of(layout, tmp_path, name)
    with opened(tmp_path) as root:
        expected = recognition(root, None).layout
    long = name + "x" * (255 - len(short.name))
    short.rename(tmp_path / long)
    (tmp_path / ("y" * 255)).mkdir()
    with opened(tmp_path) as root:
        assert long in names(tmp_path, layout_named(layout))
        assert list(companions(root, expected)) is not None
        found = recognition(root, None).layout
        # The C# library calls the credentials after the account, so that no name is as long.
        assert found is expected or layout == "baileys_csharp"


def test_what_belongs_to_a_program_never_travels(tmp_path: pathlib.Path) -> None:
    put_account(tmp_path / "wa1")
    for name in (".env", ".env.local", "index.json", "environment"):
        put_file(tmp_path / name, CANARY)
    for name in ("node_modules", ".git"):
        (tmp_path / name).mkdir()
    with opened(tmp_path) as root:
        assert list(companions(root, BAILEYS)) == ["environment", "index.json"]


@pytest.mark.parametrize("layout", ["baileys", "whatsmeow"])
def test_nor_does_it_in_an_account_that_is_the_directory_of_a_program(tmp_path: pathlib.Path, layout: str) -> None:
    put_account_of(layout, tmp_path, "old")
    (tmp_path / "old/node_modules/x").mkdir(parents=True)
    for name in (".env", "node_modules/x/index.js", "settings.json"):
        put_file(tmp_path / "old" / name, CANARY)
    owner = {"owner": str(os.geteuid()), "group": str(os.getegid())}
    options = {"src": [str(tmp_path / "old")], "path": str(tmp_path / "new"), "layout": layout, **owner}
    assert core_job.execute(migration_job, options, check_mode=False).report.values["counts"]["migrated"] == 1
    held = set(content(tmp_path / "old")) - {b".env", b"node_modules", b"node_modules/x", b"node_modules/x/index.js"}
    assert set(content(tmp_path / "new")) == held
    assert not core_job.execute(migration_job, options, check_mode=False).changed


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize(("layout", "name"), [("baileys", "x/y/wa1"), ("wwebjs", "x/session-1")])
def test_accounts_too_far_down_are_told(tmp_path: pathlib.Path, layout: str, name: str, others: bool) -> None:
    put_account_of(layout, tmp_path, f"old/{name}")
    if others:
        put_account_of(layout, tmp_path, f"old/{KINDS[layout].name('one')}")
    told = f"1 account(s) of the layout {layout} seem to lie more than {layout_named(layout).depth} level(s) below"
    assert told in str(
        core_job.execute(accounts_info, {"path": str(tmp_path / "old")}, check_mode=False).report.warnings
    )
    owner = {"owner": str(os.geteuid()), "group": str(os.getegid())}
    options = {"src": [str(tmp_path / "old")], "path": str(tmp_path / "new"), **owner}
    for check_mode in (True, False):
        assert told in str(core_job.execute(migration_job, options, check_mode=check_mode).report.warnings)


def test_an_account_that_cannot_be_read_hides_no_other(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged_or_not(directory: int) -> Judgement:
        if os.path.basename(os.readlink(f"/proc/self/fd/{directory}")) == "bad":
            raise OSError(errno.EIO, "Input/output error")
        return BAILEYS.judge(directory)

    broken = dataclasses.replace(BAILEYS, judge=judged_or_not)
    monkeypatch.setitem(t.cast("dict[str, Layout]", LAYOUTS), "baileys", broken)
    for number, name in enumerate(("bad", "good")):
        put_account(tmp_path / "old" / name, number=number)
    values = core_job.execute(
        accounts_info, {"path": str(tmp_path / "old"), "show_accounts": True}, check_mode=False
    ).report.values
    assert {one["id"]: (one["state"], one["problems"]) for one in values["accounts"]} == {
        "bad": ("corrupt", ["account_unreadable"]),
        "good": ("paired", []),
    }
    owner = {"owner": str(os.geteuid()), "group": str(os.getegid())}
    options = {"src": [str(tmp_path / "old")], "path": str(tmp_path / "new"), **owner}
    counts = core_job.execute(migration_job, options, check_mode=False).report.values["counts"]
    assert (counts["migrated"], counts["corrupt"]) == (1, 1)


# --- one entry is all -----------------------------------------------------------------------------------------


def put_toy(path: pathlib.Path, linked: bool = True) -> pathlib.Path:
    """The fixture of the toy library: a directory with a file ``token``, which says ``linked`` or not."""
    path.mkdir(parents=True)
    put_file(path / "token", f"linked {CANARY}" if linked else "new")
    put_file(path / "cache.junk", "x")
    return path


def judge_toy(directory: int) -> Judgement:
    with open(os.open("token", os.O_RDONLY, dir_fd=directory), encoding="ascii") as file:
        return Judgement("paired", (), ("device",), 1) if file.read().startswith("linked") else Judgement("fresh")


TOY = Layout(
    name="toy",
    title="A library that keeps tokens",
    is_account=lambda directory: "token" in os.listdir(directory),
    judge=judge_toy,
    detect=lambda directory, path: "there is a token" if "token" in os.listdir(directory) else "",
    watched=("token",),
    counted=("token",),
    legacy_names=(".toy",),
    volatile=("*.junk",),
    stop=StopSettings(signal="SIGTERM", timeout=30),
)


def test_a_new_library_is_one_entry(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(t.cast("dict[str, Layout]", LAYOUTS), "toy", TOY)
    for name, linked in (("one", True), ("two", True), ("three", False)):
        put_toy(tmp_path / "old" / name, linked)
    with opened(tmp_path / "old") as root:
        assert recognised(root, None) is TOY
        assert plain_count(root, TOY) == 3
    options = {"src": [str(tmp_path / "old")], "path": str(tmp_path / "new"), "state": "migrated"}
    owner = {"owner": str(os.geteuid()), "group": str(os.getegid())}
    outcome = core_job.execute(migration_job, {**options, **owner}, check_mode=False)
    assert (outcome.report.values["layout"], outcome.report.values["counts"]["migrated"]) == ("toy", 3)
    assert {name for name in content(tmp_path / "new") if b"/" in name} == {b"one/token", b"two/token", b"three/token"}
    assert not core_job.execute(migration_job, {**options, **owner}, check_mode=False).changed
    told = core_job.execute(accounts_info, {"path": str(tmp_path / "new")}, check_mode=False).report.values
    assert (told["layout"], told["total"], told["linked_accounts"], told["count"]) == ("toy", 3, 2, 3)
    assert [len(group) for group in told["duplicates"]] == [2]
    assert CANARY not in json.dumps(told)


def test_a_root_that_fits_two_layouts_is_not_guessed_about(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(t.cast("dict[str, Layout]", LAYOUTS), "toy", TOY)
    put_toy(tmp_path / "one")
    put_account(tmp_path / "two")
    told = r"more than one layout \(baileys, because a directory holds creds.json; toy, because there is a token\); set 'layout'"
    with opened(tmp_path) as root:
        with pytest.raises(SessionsError, match=told):
            recognised(root, None)
        assert recognised(root, layout_named("toy")) is TOY


def test_an_empty_root_fits_the_first_entry(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path) as root:
        assert recognised(root, None) is next(iter(LAYOUTS.values()))
    with pytest.raises(SessionsError, match="'x' is unknown; choose one of baileys"):
        layout_named("x")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_entry_is_complete(layout: Layout) -> None:
    assert LAYOUTS[layout.name] is layout
    assert layout.title
    assert layout.watched
    assert layout.counted
    assert layout.depth >= 1
    assert layout.stop.timeout > 30
    assert not any(name.startswith("/") or ".." in name for name in layout.legacy_names)
    assert not any(layout.is_volatile(name) for name in (*layout.watched, *layout.counted))
    assert AREA_INSIDE not in layout.legacy_names


# --- what has no end --------------------------------------------------------------------------------------


def test_more_directories_than_any_host_has_are_not_looked_at(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        (tmp_path / str(number)).mkdir()
    with opened(tmp_path) as root:
        assert list(account_names(root, LAYOUTS["baileys"])) == []
        monkeypatch.setattr(search, "FOLDERS", 29)
        with pytest.raises(SessionsError, match="more than 29 directories to search for accounts"):
            list(account_names(root, LAYOUTS["baileys"]))
        with pytest.raises(SessionsError, match="more than 29 directories to search for accounts"):
            recognition(root, None)


def test_names_that_are_made_faster_than_they_are_read_have_an_end() -> None:
    with pytest.raises(SessionsError, match="has more than 1000 names"):
        list(bounded(itertools.count(), 1000))


@pytest.mark.parametrize(
    ("held", "state"),
    [
        (b'{"me": "' + b"x" * (1 << 20) + b'"}', "corrupt"),
        (b"[" * 1_000_000, "corrupt"),
        (b'{"nextPreKeyId": ' + b"9" * 1_000_000 + b"}", "fresh"),  # to the library that is infinite
    ],
)
def test_credentials_that_nobody_needs_so_large_take_no_time(tmp_path: pathlib.Path, held: bytes, state: str) -> None:
    (tmp_path / "creds.json").write_bytes(held)
    begun = time.process_time()
    with opened(tmp_path) as account:
        assert LAYOUTS["baileys"].judge(account).state == state
    assert time.process_time() - begun < 5
