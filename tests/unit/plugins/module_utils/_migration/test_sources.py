# SPDX-License-Identifier: GPL-3.0-or-later
"""Where accounts were before: paths that were named, and paths found from a unit and its real process."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from accounts import CANARY, give, put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.tombstone import TOMBSTONE
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.users import Identity
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import LAYOUTS, layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.owners import Owners, owners_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.sources import (
    Source,
    directories_of,
    found_sources,
    is_in_use,
    layout_of,
    named_sources,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import load_path
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit
from layouts import KINDS, STATES, put_account_of, put_root_of, put_store

NOBODY = 65534


def whose(uid: int, **fields: t.Any) -> Owners:
    """Let accounts be taken that belong to one user, who is given them."""
    return Owners(frozenset((uid,)), Identity(uid, uid, str(uid), str(uid)), **fields)


OURS = whose(os.geteuid())
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A release with two accounts at the relative default path."""
    put_account(tmp_path / "opt/.baileys_auth/wa1")
    put_account(tmp_path / "opt/.baileys_auth/wa2", number=2)
    (tmp_path / "opt/node_modules/x").mkdir(parents=True)
    (tmp_path / "units").mkdir()
    put_file(tmp_path / "units/wa.service", "[Service]\nExecStart=/bin/true\n")
    monkeypatch.setattr(load_path, "SEARCH_PATH", (f"{tmp_path}/units",))
    return tmp_path


# --- named ------------------------------------------------------------------------------------------------


def named(*paths: object, target: object = "/srv/sessions") -> list[str]:
    return [source.path for source in named_sources([str(path) for path in paths], str(target), OURS)]


def test_named_paths_keep_their_order_and_come_once(place: pathlib.Path) -> None:
    other = place / "other"
    other.mkdir()
    (place / "link").symlink_to(other)
    legacy = place / "opt/.baileys_auth"
    assert named(other, legacy, f"{legacy}/", place / "link", place / "nothing") == [str(other), str(legacy)]
    assert named_sources([str(place / "link")], "/srv/x", OURS) == (
        Source(str(place / "link"), str(other), OURS.users, os.geteuid()),
    )


@root
def test_an_empty_directory_of_root_is_nothing_to_take(place: pathlib.Path) -> None:
    """systemd makes it where the sessions path is mounted in a later release."""
    give(place / "opt", NOBODY, NOBODY)
    (place / "opt/auth").mkdir()
    assert named_sources([str(place / "opt/auth")], "/srv/x", whose(NOBODY)) == ()
    (place / "opt/auth/wa1").mkdir()
    with pytest.raises(SessionsError, match="belongs to root"):
        named_sources([str(place / "opt/auth")], "/srv/x", whose(NOBODY))


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("opt", "opt", "is the sessions path itself"),
        ("opt", "link", "is the sessions path itself"),
        ("link", "opt", "is the sessions path itself"),
        ("opt/.baileys_auth", "opt", "lies inside the sessions path"),
        ("opt/.baileys_auth", "link", "lies inside the sessions path"),
        ("opt", "opt/new", "lies inside the source"),
        ("opt", "link/new/deep", "lies inside the source"),
        ("file", "x", "is not a directory"),
        ("file/x", "x", "is not a directory"),
    ],
)
def test_paths_that_get_in_each_other_s_way(place: pathlib.Path, source: str, target: str, words: str) -> None:
    (place / "link").symlink_to("opt")
    put_file(place / "file", "")
    with pytest.raises(SessionsError, match=words):
        named(place / source, target=place / target)


def test_names_that_only_begin_alike_are_apart(place: pathlib.Path) -> None:
    assert named(place / "opt", target=place / "opt-sessions")
    assert named(place / "opt/.baileys_auth", target=place / "opt/.baileys")


def test_a_source_inside_a_source_is_named_twice(place: pathlib.Path) -> None:
    for pair in ((place / "opt", place / "opt/.baileys_auth"), (place / "opt/.baileys_auth", place / "opt")):
        with pytest.raises(SessionsError, match="lies inside the source"):
            named(*pair)


@pytest.mark.parametrize("by", ["itself", "a link"])
def test_a_tombstone_is_no_source_and_no_error(place: pathlib.Path, by: str) -> None:
    put_file(place / "tombstone", f"{TOMBSTONE}The accounts are in /srv.\n")
    (place / "link").symlink_to("tombstone")
    assert named(place / ("tombstone" if by == "itself" else "link")) == []


@root
def test_a_link_of_a_user_leads_to_what_is_his_or_the_backend_s(place: pathlib.Path) -> None:
    link = place / "link"
    link.symlink_to("opt")
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(SessionsError, match="of an unprivileged user"):
        named_sources([str(link)], "/srv/x", whose(1))
    os.chown(place / "opt", 1, 1)
    assert named_sources([str(link)], "/srv/x", whose(1))


# --- found ------------------------------------------------------------------------------------------------


def unit(pid: int = 0, **properties: str) -> Unit:
    return Unit("wa.service", {**dict.fromkeys(PROPERTIES, ""), "MainPID": str(pid), **properties})


@contextlib.contextmanager
def backend(cwd: pathlib.Path, code: str = "", **environment: str) -> t.Iterator[Unit]:
    """Run a process in a unit's place: with its working directory, its environment and open files."""
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}\nimport sys; print('ready', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment,
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            yield unit(running.pid, WorkingDirectory=str(cwd))
        finally:
            running.kill()


def found(of: Unit, target: object = "/srv/sessions") -> list[str]:
    return [source.path for source in found_sources(of, str(target), None, OURS)]


def test_the_relative_default_of_the_library(place: pathlib.Path) -> None:
    legacy = str(place / "opt/.baileys_auth")
    assert found(unit(WorkingDirectory=str(place / "opt"))) == [legacy]
    assert found(unit(WorkingDirectory=f"!{place}/opt")) == [legacy]
    with backend(place / "opt") as running:
        assert found(running) == [legacy]
    (place / "current").symlink_to("opt")
    assert found(unit(WorkingDirectory=str(place / "current"))) == [legacy]
    assert found(unit(WorkingDirectory=str(place))) == []
    assert found(unit()) == []


@pytest.mark.parametrize("layout", [name for name, layout in LAYOUTS.items() if layout.legacy_names])
def test_where_every_library_keeps_accounts_by_default(place: pathlib.Path, layout: str) -> None:
    name, folders = KINDS[layout].name("shop"), LAYOUTS[layout].folders
    for number, default in enumerate(LAYOUTS[layout].legacy_names):
        program = place / f"program{number}"
        root = program / default.replace("*", "shop")
        put_account_of(layout, root, name.rpartition("/")[2] if folders else name)
        # Where other folders may belong to the accounts, the program's directory is the root.
        assert found(unit(WorkingDirectory=str(program))) == [str(program if default in folders else root)]


def test_where_the_process_really_stands_counts_more_than_the_unit_file(place: pathlib.Path) -> None:
    put_account(place / "new/.baileys_auth/wa9", number=9)
    with backend(place / "opt") as running:
        later = Unit("wa.service", {**running.properties, "WorkingDirectory": str(place / "new")})
        assert found(later) == [str(place / "opt/.baileys_auth"), str(place / "new/.baileys_auth")]


@pytest.mark.parametrize(
    "value", ["data/auth", "./data/auth", "data/auth/", "{place}/opt/data/auth", "../opt/data/auth"]
)
@pytest.mark.parametrize("runs", [True, False])
def test_what_the_environment_says_relative_or_not(place: pathlib.Path, value: str, runs: bool) -> None:
    put_account(place / "opt/data/auth/wa1")
    legacy, value = [str(place / "opt/data/auth"), str(place / "opt/.baileys_auth")], value.format(place=place)
    if runs:
        with backend(place / "opt", AUTH_DIR=value, NODE_ENV="production") as running:
            assert found(running) == legacy
        return
    put_file(place / "env", f"AUTH_DIR={value}\n")
    for line in (f"Environment=AUTH_DIR={value}", f"EnvironmentFile={place}/env"):
        put_file(place / "units/wa.service", f"[Service]\n{line}\n")
        assert found(unit(WorkingDirectory=str(place / "opt"))) == legacy


def test_homes_and_releases_are_no_sources_however_many_accounts_lie_in_them(place: pathlib.Path) -> None:
    legacy = [str(place / "opt/.baileys_auth")]
    for environment in (
        {"HOME": str(place / "opt"), "PWD": str(place / "opt"), "PATH": str(place / "opt")},
        {"APP_HOME": str(place / "opt"), "DEPLOY_ROOT": str(place), "HERE": ".", "UP": "..", "ROOT": "/"},
    ):
        with backend(place / "opt", **environment) as running:
            assert found(running) == legacy


@pytest.mark.parametrize("layout", ["session_manager", "wppconnect", "openwa", "venom"])
@pytest.mark.parametrize("named", [True, False])
def test_a_library_that_keeps_accounts_among_the_files_of_its_program(
    place: pathlib.Path, layout: str, named: bool
) -> None:
    program = place / "program"
    put_root_of(layout, program)
    put_file(program / "server.js", "")
    sources = found_sources(
        unit(WorkingDirectory=str(program)), "/srv/sessions", layout_named(layout) if named else None, OURS
    )
    assert [source.path for source in sources] == [str(program)]
    assert layout_of(sources, "/srv/sessions", None).name == layout


@pytest.mark.parametrize(
    "name", ["file:store/wa.db?_foreign_keys=on", "sqlite3://store/wa.db", "sqlite:{place}/opt/store/wa.db"]
)
def test_the_name_of_a_data_source_leads_to_the_directory_of_its_database(place: pathlib.Path, name: str) -> None:
    put_store(place / "opt/store/whatsapp.db")
    with backend(place / "opt", DB_URI=name.format(place=place)) as running:
        named = found_sources(running, "/srv/sessions", layout_named("whatsmeow"), OURS)
        assert named[0].path == str(place / "opt/store")


def test_a_backend_uses_a_path_when_it_names_it_or_something_below(place: pathlib.Path) -> None:
    values = {"/srv/wa/userDataDir", "/srv/other-wa", "/opt"}
    assert is_in_use("/srv/wa", values)
    assert is_in_use("/srv/wa/userDataDir", values)
    assert not is_in_use("/srv/wa/userDataDir/one", values)
    assert not is_in_use("/srv/other", values)


@pytest.mark.parametrize(
    ("layout", "directories"),
    [
        ("wwebjs", ["."]),
        ("session_manager", ["sessions"]),
        ("wppconnect", ["userDataDir", "tokens"]),
        ("openwa", sorted(f"_IGNORE_{state}{CANARY}" for state in (*STATES, "stale", "foreign", "damaged"))),
    ],
)
def test_who_works_in_an_application_need_not_work_on_its_accounts(
    place: pathlib.Path, layout: str, directories: list[str]
) -> None:
    put_root_of(layout, place / "app")
    of = directories_of([Source("x", str(place / "app"))], layout_named(layout))
    assert of == [os.path.normpath(place / "app" / name) for name in directories]


@pytest.mark.parametrize("name", ["wa1/creds.json", "wa1/pre-key-1.json"])
def test_an_open_file_leads_to_the_root_and_not_to_the_account(place: pathlib.Path, name: str) -> None:
    put_account(place / "elsewhere/wa1")
    with backend(place / "opt", f"f = open({str(place / 'elsewhere' / name)!r})") as running:
        assert found(running) == [str(place / "opt/.baileys_auth"), str(place / "elsewhere")]


@pytest.mark.parametrize("name", ["program/server.js", "server.js"])
def test_an_open_file_beside_accounts_says_nothing_about_them(place: pathlib.Path, name: str) -> None:
    """A backend that is just starting reads its program, and copies of accounts may lie anywhere."""
    put_account(place / "elsewhere/copies/wa1")
    (place / "elsewhere/program").mkdir()
    put_file(place / "elsewhere" / name, "")
    with backend(place / "opt", f"f = open({str(place / 'elsewhere' / name)!r})") as running:
        assert found(running) == [str(place / "opt/.baileys_auth")]


def test_a_home_as_working_directory(place: pathlib.Path) -> None:
    assert found(unit(WorkingDirectory="~", User="no-such-user")) == []
    assert found(unit(WorkingDirectory="!~")) == []


@pytest.mark.parametrize("target", ["opt/.baileys_auth", "link/.baileys_auth", "opt/.baileys_auth/new", "opt"])
def test_the_sessions_path_is_not_found_as_its_own_source(place: pathlib.Path, target: str) -> None:
    (place / "link").symlink_to("opt")
    assert found(unit(WorkingDirectory=str(place / "opt")), place / target) == []


def test_odd_values_are_no_error(place: pathlib.Path) -> None:
    odd = {"A": "x" * 5000, "B": "a\nb", "C": "https://example.org/x", "D": "", "E": "/proc/self/mem", "F": "/dev/null"}
    with backend(place / "opt", **odd, G=os.fsdecode(b"\xff")) as running:
        assert found(running) == [str(place / "opt/.baileys_auth")]


# --- whose they are ---------------------------------------------------------------------------------------

BOB = 4321


@root
@pytest.mark.parametrize(
    ("folder", "account", "modes", "outcome"),
    [
        (NOBODY, NOBODY, 0o700, "found"),
        (BOB, BOB, 0o700, "nothing"),  # another tenant's: the backend cannot use them
        (0, 0, 0o755, "nothing"),  # a backup of root
        (0, NOBODY, 0o755, "belongs to root"),  # the backend's, kept where only somebody else can move them
        (0, BOB, 0o1777, "belongs to root"),
        (BOB, NOBODY, 0o755, f"belongs to {BOB}"),
        (BOB, BOB, 0o777, f"belongs to {BOB}"),
    ],
)
def test_a_path_that_was_found_is_the_backend_s_own(
    place: pathlib.Path, folder: int, account: int, modes: int, outcome: str
) -> None:
    legacy = place / "opt/.baileys_auth"
    for name in ("wa1", "wa2"):
        give(legacy / name, account, account)
        (legacy / name).chmod(modes & 0o777)
    os.chown(legacy, folder, folder)
    legacy.chmod(modes)
    of = unit(WorkingDirectory=str(place / "opt"))
    if outcome in ("found", "nothing"):
        sources = found_sources(of, "/srv/sessions", None, whose(NOBODY))
        assert [source.path for source in sources] == ([str(legacy)] if outcome == "found" else [])
        return
    with pytest.raises(
        SessionsError, match=f"wa.service keeps accounts in {legacy}, which {outcome}; nothing was changed"
    ):
        found_sources(of, "/srv/sessions", None, whose(NOBODY))


@root
@pytest.mark.parametrize(("allowed", "owners"), [(False, {NOBODY, 0}), (True, None)])
def test_a_path_that_was_named_may_be_root_s_where_only_root_could_put_it(
    tmp_path: pathlib.Path, allowed: bool, owners: set[int] | None
) -> None:
    """As a backup is, and what came from another host."""
    source = tmp_path / "backup"
    put_account(source / "wa1")
    assert named_sources([str(source)], "/srv/x", whose(NOBODY, foreign=allowed))[0].owners == owners


@root
@pytest.mark.parametrize(
    ("owner", "above", "mode", "words"),
    [
        (BOB, 0, 0o755, f"belongs to {BOB}, and its accounts would be given to {NOBODY}; nothing was changed"),
        (0, NOBODY, 0o755, "belongs to root but .*/above belongs to nobody, and its accounts"),
        (0, 0, 0o777, "belongs to root but all users can write to .*/above"),
        (0, 0, 0o1777, "belongs to root but all users can write to .*/above"),
    ],
)
def test_what_somebody_could_have_put_there_has_to_be_allowed(
    tmp_path: pathlib.Path, owner: int, above: int, mode: int, words: str
) -> None:
    source = tmp_path / "above/sessions"
    put_account(source / "wa1")
    os.chown(source, owner, owner)
    os.chown(source.parent, above, above)
    source.parent.chmod(mode)
    with pytest.raises(SessionsError, match=f"{words}.*'src'.*allow_foreign_owner=true"):
        named_sources([str(source)], "/srv/x", whose(NOBODY))
    assert named_sources([str(source)], "/srv/x", whose(NOBODY, foreign=True))[0].owners is None
    assert named_sources([str(source)], "/srv/x", whose(owner))[0].owners == {owner}


@root
def test_who_the_backend_is(place: pathlib.Path) -> None:
    wanted = Identity(NOBODY, NOBODY, "nobody", "nogroup")
    rooted = Identity(0, 0, "root", "root")
    as_nobody = f"import os; os.setgid({NOBODY}); os.setuid({NOBODY})"
    with backend(place / "opt") as running, backend(place / "opt", as_nobody) as dropped:
        pids = str(running.main_pid), str(dropped.main_pid)
        assert owners_of(unit(User="nobody"), wanted, foreign=False).users == {NOBODY}
        # A process of the service's user may be root for a moment (sudo): that makes nothing of root his.
        assert owners_of(unit(User="nobody", MainPID=pids[0]), wanted, foreign=False).users == {NOBODY}
        assert owners_of(unit(MainPID=pids[0]), rooted, foreign=False).users is None
        assert owners_of(unit(), rooted, foreign=False).users is None
        assert owners_of(unit(MainPID=pids[1]), rooted, foreign=False).users == {NOBODY, 0}
        assert owners_of(unit(MainPID=pids[0]), wanted, foreign=False).users == {NOBODY, 0}
    assert owners_of(None, wanted, foreign=False).users == {NOBODY}
    assert owners_of(None, rooted, foreign=False).users is None


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", "a\x9bb", "a\u202eb", os.fsdecode(b"a\xffb")])
def test_a_path_that_could_not_be_given_is_not_found_either(place: pathlib.Path, name: str) -> None:
    """What is found is given back to a module to bring the accounts back, and shown."""
    put_account(place / "opt" / name / "wa1")
    (place / "opt/plain").symlink_to(name)
    with backend(place / "opt", AUTH_DIR=name, OTHER=str(place / "opt/plain")) as running:
        assert found(running) == [str(place / "opt/.baileys_auth")]
    with pytest.raises(SessionsError, match=r"the real path of the source .*/plain contains a control character"):
        named(place / "opt/plain")


def test_two_slashes_in_front_are_one(place: pathlib.Path) -> None:
    put_account(place / "elsewhere/wa1")
    with backend(place / "opt", AUTH_DIR=f"/{place}/elsewhere") as running:
        assert found_sources(running, "/srv/x", None, OURS)[0].given == str(place / "elsewhere")


# --- the rest ---------------------------------------------------------------------------------------------


def test_the_layout_is_that_of_the_accounts(place: pathlib.Path) -> None:
    source = Source("x", str(place / "opt/.baileys_auth"))
    assert layout_of([source], "/nothing", None).name == "baileys"
    assert layout_of([], str(place), None).name == "baileys"
    assert layout_of([], "/nothing", layout_named("baileys")).name == "baileys"
