# SPDX-License-Identifier: GPL-3.0-or-later
"""Off-host copies: when one is made, what is refused, what a drill notices, and that restic's own words are never shown."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import typing as t

import pytest

from accounts import put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import FolderMark, Mark
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import store as of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.job import Outcome, execute
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.command import Completed
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restic import drill, job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restic import repository as restic

MARK = Mark(FolderMark(1, 2), {})
CANARY = "CANARY-of-an-address"


class Restic:
    """Stands for the program: a repository is a directory with one directory for each copy."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place
        self.calls: list[str] = []
        self.fails: dict[str, list[tuple[int, str]]] = {}
        self.environment: t.Mapping[str, str] = {}
        self.made: dict[str, tuple[str, str]] = {}  # the host and the directory of each copy

    def __call__(self, argv: t.Sequence[str], *, timeout: float, environment: t.Mapping[str, str]) -> Completed:
        verb, *words = argv[1:]
        self.calls.append(verb)
        self.environment = environment
        if self.fails.get(verb):
            code, said = self.fails[verb].pop(0)
            return Completed(tuple(argv), code, "", f"Fatal: {said} {CANARY}")
        answer = getattr(self, f"_{verb}")(words)
        return Completed(tuple(argv), *(answer if isinstance(answer, tuple) else (0, answer or "", "")))

    def _cat(self, words: list[str]) -> str | tuple[int, str, str]:
        missing = "unable to open config file\nIs there a repository at the following location?"
        return "{}" if self.place.is_dir() else (1, "", missing)

    def _init(self, words: list[str]) -> None:
        self.place.mkdir()

    def _snapshots(self, words: list[str]) -> str:
        wanted = {word.partition("=")[0]: word.partition("=")[2] for word in words}
        copies = [
            {"id": name, "time": f"2026-01-02T03:04:0{name}.123456789Z", "paths": [store]}
            for name, (host, store) in self.made.items()
            if host == wanted["--host"] and store == wanted.get("--path", store)
        ]
        return json.dumps(copies)

    def _ls(self, words: list[str]) -> str:
        copy, store = words[-2:]
        names = os.listdir(f"{self.place}/{copy}{store}")
        nodes = [{"name": name, "path": f"{store}/{name}"} for name in names]
        return "\n".join(json.dumps(node) for node in ({"struct_type": "snapshot"}, *nodes))

    def _backup(self, words: list[str]) -> None:
        name = str(len(self.made))
        self.made[name] = (os.uname().nodename, words[-1])
        shutil.copytree(words[-1], f"{self.place}/{name}{words[-1]}")

    def _forget(self, words: list[str]) -> None:
        pass

    def _check(self, words: list[str]) -> None:
        pass

    def _restore(self, words: list[str]) -> None:
        target = next(word.partition("=")[2] for word in words if word.startswith("--target="))
        shutil.copytree(f"{self.place}/{words[-1]}", target, symlinks=True, dirs_exist_ok=True)


@pytest.fixture
def program(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Restic:
    fake = Restic(tmp_path / "repository")
    monkeypatch.setattr(restic, "run", fake)
    monkeypatch.setattr(restic, "RESTIC_LOCK_SECONDS", 0.0)
    monkeypatch.setattr(restic, "_LOCK_PAUSE", 0.0)
    monkeypatch.setattr(restic, "untrusted_writer", lambda way, trusted: None)
    for name, text in (("password", "x"), ("environment", "AWS_ACCESS_KEY_ID='a key'\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    return fake


@pytest.fixture
def run(tmp_path: pathlib.Path, program: Restic) -> t.Callable[..., Outcome]:
    def call(check_mode: bool = False, **options: t.Any) -> Outcome:
        given = {"path": f"{tmp_path}/sessions", "repository": CANARY, "password_file": f"{tmp_path}/password"}
        return execute(job, {**given, **options}, check_mode=check_mode)

    return call


@pytest.fixture
def save(tmp_path: pathlib.Path) -> t.Callable[..., pathlib.Path]:
    """Put a snapshot of an account into the store."""

    def put(account: str, number: int = 1, **fields: t.Any) -> pathlib.Path:
        moment = f"2026010203040{number}.000000Z".replace("20260102", "20260102T")
        name = of.name_of(account, moment)
        with of.opened_store(f"{tmp_path}/sessions") as store:
            os.mkdir(name, 0o700, dir_fd=store)
            place = pathlib.Path(of.store_path(f"{tmp_path}/sessions"), name)
            put_account(place / "root" / account, keys=("pre-key-1",))
            found = of.Snapshot(name, account, "baileys", number, number, 9, "paired", 2, 99, MARK, "/srv/wa", number)
            with of.opened_snapshot(store, name) as directory:
                of.write_manifest(directory, found._replace(**fields))
        return place

    return put


Run = t.Callable[..., Outcome]
Save = t.Callable[..., pathlib.Path]


def test_the_first_copy_creates_the_repository(run: Run, save: Save, program: Restic) -> None:
    save("a")
    done = run()
    assert done.changed
    changing = [call for call in program.calls if call in ("init", "backup", "forget", "check")]
    assert changing == ["init", "backup", "forget", "check"]
    assert done.report.values["copies"] == 1
    assert done.report.values["copied"] == done.report.values["snapshots"] == 1
    assert done.report.values["newest_age_seconds"] > 0


def test_a_second_copy_is_made_only_for_a_new_snapshot(run: Run, save: Save, program: Restic) -> None:
    save("a")
    run()
    program.calls.clear()
    assert not run().changed
    assert "backup" not in program.calls
    save("a", 2)
    assert run().report.values["copies"] == 2


def test_a_copy_that_has_everything_is_confirmed(run: Run, save: Save, program: Restic, tmp_path: pathlib.Path) -> None:
    save("a")
    run()
    record = pathlib.Path(of.store_path(f"{tmp_path}/sessions"), job.LAST_COPY)
    os.utime(record, (1, 1))
    assert not run().changed
    assert record.stat().st_mtime > 1


def test_check_mode_predicts_and_changes_nothing(run: Run, save: Save, program: Restic) -> None:
    save("a")
    assert run(check_mode=True).changed
    assert program.calls == ["cat"]
    assert not program.place.exists()


def test_without_snapshots_there_is_nothing_to_copy(run: Run, program: Restic) -> None:
    assert not run().changed
    assert not program.place.exists()


def test_the_password_and_credentials_are_passed_by_files_and_environment(
    run: Run, save: Save, program: Restic, tmp_path: pathlib.Path
) -> None:
    save("a")
    run(environment_file=f"{tmp_path}/environment")
    assert program.environment["AWS_ACCESS_KEY_ID"] == "a key"
    assert program.environment["RESTIC_PASSWORD_FILE"] == f"{tmp_path}/password"
    assert program.environment["RESTIC_REPOSITORY"] == CANARY


def test_a_snapshot_that_expires_meanwhile_is_no_failure(run: Run, save: Save, program: Restic) -> None:
    save("a")
    program.fails["backup"] = [(3, "at least one source file could not be read")]
    assert run().changed
    assert program.calls.count("backup") == 2


def test_a_locked_repository_is_waited_for(
    run: Run, save: Save, program: Restic, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("a")
    monkeypatch.setattr(restic, "RESTIC_LOCK_SECONDS", 60.0)
    program.fails["backup"] = [(1, "repository is already locked by PID 1")] * 3
    assert run().changed
    assert program.calls.count("backup") == 4


@pytest.mark.parametrize(
    ("verb", "code", "said", "words"),
    [
        ("cat", 1, "wrong password or no key found", "cannot open .*the password is wrong; correct the password file"),
        ("cat", 12, "", "the password is wrong"),
        ("cat", 1, "dial tcp: connection refused", "exit code 1: run the same command of restic as root"),
        ("backup", 1, "unable to create lock: repository is already locked", "another program has locked it"),
        ("backup", 1, "no space left", "cannot copy to the repository"),
        ("check", 1, "pack is damaged", "cannot verify the repository"),
    ],
)
def test_a_failure_is_one_sentence_without_the_words_of_restic(
    run: Run, save: Save, program: Restic, verb: str, code: int, said: str, words: str
) -> None:
    save("a")
    program.fails[verb] = [(code, said)] * 50
    with pytest.raises(SessionsError, match=words) as raised:
        run()
    assert CANARY not in str(raised.value)


def test_a_copy_that_lacks_a_snapshot_is_noticed(run: Run, save: Save, program: Restic, tmp_path: pathlib.Path) -> None:
    place = save("a")
    program.made["0"] = (os.uname().nodename, of.store_path(f"{tmp_path}/sessions"))
    program._backup = lambda words: [  # type: ignore[method-assign, assignment, func-returns-value]
        os.makedirs(f"{program.place}/0{words[-1]}")
    ]
    with pytest.raises(SessionsError, match=r"1 snapshots of .* are not in the newest off-host copy"):
        run()
    assert place.exists()


def test_what_was_saved_while_the_copy_was_checked_is_copied_as_well(run: Run, save: Save, program: Restic) -> None:
    """The backup that saved it could not start this job, because it was running."""
    save("a")
    program._check = lambda words: save("b")  # type: ignore[method-assign, assignment, return-value]
    outcome = run()
    assert (outcome.report.values["snapshots"], outcome.report.values["copied"], program.calls.count("backup")) == (
        2,
        2,
        2,
    )


def test_what_is_saved_after_that_is_copied_by_the_next_run(run: Run, save: Save, program: Restic) -> None:
    save("a")
    copy = program._backup

    def copy_and_save(words: list[str]) -> None:
        copy(words)
        save(f"b{len(program.made)}")

    program._backup = copy_and_save  # type: ignore[method-assign]
    outcome = run()
    assert (outcome.report.values["snapshots"], outcome.report.values["copied"], program.calls.count("backup")) == (
        3,
        2,
        2,
    )


@pytest.mark.parametrize("name", ["password", "environment"])
def test_files_that_others_can_read_are_refused(
    run: Run, save: Save, program: Restic, tmp_path: pathlib.Path, name: str
) -> None:
    save("a")
    (tmp_path / name).chmod(0o640)
    with pytest.raises(SessionsError, match=f"restic_{name}_file is .* not private to root"):
        run(environment_file=f"{tmp_path}/environment")
    (tmp_path / name).unlink()
    with pytest.raises(SessionsError, match="does not exist"):
        run(environment_file=f"{tmp_path}/environment")


def test_a_repository_inside_what_it_copies_is_refused(run: Run, tmp_path: pathlib.Path) -> None:
    with pytest.raises(SessionsError, match="is in the directory that it should be a copy of"):
        run(repository=f"{tmp_path}/sessions/repository")


def test_a_drill_judges_each_account_and_leaves_nothing(run: Run, save: Save, control_home: pathlib.Path) -> None:
    save("a")
    save("b", 2)
    run()
    done = run(state="drilled")
    assert not done.changed
    drill = done.report.values["drill"]
    assert (drill["accounts"], drill["sound"], drill["files"]) == (2, 2, 4)
    assert not list(control_home.glob("drill-*"))


def test_a_drill_of_a_killed_run_is_removed(run: Run, save: Save, control_home: pathlib.Path) -> None:
    save("a")
    run()
    (control_home / "drill-old" / "deep").mkdir(parents=True)
    run(state="drilled")
    assert not list(control_home.glob("drill-*"))


@pytest.mark.parametrize("lost", ["creds.json", "pre-key-1.json"])
def test_a_drill_notices_what_is_missing(
    run: Run, save: Save, program: Restic, lost: str, tmp_path: pathlib.Path
) -> None:
    save("a")
    save("b", 2)
    run()
    next(path for path in program.place.rglob(lost) if "/b/" in str(path)).unlink()
    with pytest.raises(SessionsError, match="restored 2 accounts and only 1 are sound") as raised:
        run(state="drilled")
    assert raised.value.facts["sound"] == 1


def test_a_drill_leaves_the_directory_of_another_one(run: Run, save: Save, control_home: pathlib.Path) -> None:
    """Another drill of this host restores at the same time, of any sessions path."""
    save("a")
    run()
    with drill._private_directory() as other:
        pathlib.Path(other, "restored").touch()
        run(state="drilled")
        assert [path.name for path in control_home.glob("drill-*/*")] == ["restored"]
    assert not list(control_home.glob("drill-*"))


def test_a_drill_needs_a_copy(run: Run, save: Save) -> None:
    save("a")
    with pytest.raises(SessionsError, match="there is no off-host copy"):
        run(state="drilled")


def test_a_copy_without_a_sound_snapshot_cannot_be_restored(run: Run, save: Save) -> None:
    save("a", state="pending")
    run()
    with pytest.raises(SessionsError, match="contains no sound snapshot"):
        run(state="drilled")


# --- fetching ---------------------------------------------------------------------------------------------


@pytest.fixture
def fetch(run: Run, save: Save, program: Restic, tmp_path: pathlib.Path) -> Run:
    """Fetch the copy that a lost host made of two accounts; this host has no snapshots."""
    save("a")
    save("b", 2)
    store = pathlib.Path(of.store_path(f"{tmp_path}/sessions"))
    (store / of.GONE).write_text('{"accounts":["b"]}')
    (store / of.GONE).chmod(0o600)
    run()
    shutil.rmtree(store)
    program.made["0"] = ("lost", program.made["0"][1])
    program.calls.clear()
    return lambda **options: run(**{"state": "fetched", "from_host": "lost", **options})


def found_in(tmp_path: pathlib.Path, backup_path: str | None = None) -> list[str]:
    with of.existing_store(f"{tmp_path}/sessions", backup_path) as store:
        return [] if store is None else sorted(one.account for one in of.snapshots(store))


def test_the_copy_of_a_lost_host_is_fetched_once(fetch: Run, save: Save, tmp_path: pathlib.Path) -> None:
    foreseen = fetch(check_mode=True)
    assert (foreseen.changed, foreseen.report.values["fetched"], found_in(tmp_path)) == (True, 2, [])
    done = fetch()
    assert (done.changed, found_in(tmp_path)) == (True, ["a", "b"])
    with of.opened_store(f"{tmp_path}/sessions") as store:
        assert of.gone_accounts(store) == {"b"}
        assert not [name for name in os.listdir(store) if name.startswith(of.PARTIAL)]
    save("a", 3)  # as a backup of this host does; another one expires
    shutil.rmtree(next(pathlib.Path(of.store_path(f"{tmp_path}/sessions")).glob("backup-b-*")))
    assert not fetch().changed


def test_a_fetch_that_was_killed_is_completed(fetch: Run, tmp_path: pathlib.Path) -> None:
    fetch()
    store = pathlib.Path(of.store_path(f"{tmp_path}/sessions"))
    shutil.rmtree(next(store.glob("backup-b-*")))
    (store / "last_fetch.json").unlink()
    (store / f"{of.PARTIAL}fetch").mkdir()
    assert fetch().report.values["snapshots"] == 2


def test_snapshots_of_two_hosts_are_not_mixed(fetch: Run, save: Save, tmp_path: pathlib.Path) -> None:
    save("a", 3)
    with pytest.raises(SessionsError, match=r"1 snapshots that are not in the copy of lost.*nothing was changed"):
        fetch()
    assert found_in(tmp_path) == ["a"]
    elsewhere = f"{tmp_path}/elsewhere"
    assert fetch(backup_path=elsewhere).changed
    assert found_in(tmp_path, elsewhere) == ["a", "b"]


def test_a_directory_has_to_be_chosen_if_there_are_several(fetch: Run, program: Restic, tmp_path: pathlib.Path) -> None:
    program.made["1"] = ("lost", "/srv/other")
    assert fetch(backup_path=f"{tmp_path}/elsewhere").changed  # the one that has the same name on this host
    with pytest.raises(SessionsError, match=r"several directories of lost: /srv/other, .* 'from_store'"):
        fetch(path=f"{tmp_path}/new")
    assert fetch(path=f"{tmp_path}/new", from_store=program.made["0"][1]).changed


def test_the_only_directory_needs_no_name(fetch: Run, tmp_path: pathlib.Path) -> None:
    assert fetch(path=f"{tmp_path}/new").changed


@pytest.mark.parametrize("options", [{"from_host": "unknown"}, {"from_store": "/srv/unknown"}])
def test_what_is_not_in_the_repository_cannot_be_fetched(fetch: Run, options: dict[str, str]) -> None:
    with pytest.raises(SessionsError, match=r"has no off-host copy of .*unknown; nothing was changed"):
        fetch(**options)


def test_a_fetch_has_to_say_of_which_host(fetch: Run, program: Restic) -> None:
    with pytest.raises(SessionsError, match="'from_host' does not say"):
        fetch(from_host=None)
    shutil.rmtree(program.place)
    with pytest.raises(SessionsError, match="the repository of off-host copies does not exist"):
        fetch()


def test_a_fetch_that_fails_leaves_nothing(fetch: Run, program: Restic, tmp_path: pathlib.Path) -> None:
    program.fails["restore"] = [(1, "no space left")]
    with pytest.raises(SessionsError, match="cannot restore from the repository"):
        fetch()
    assert os.listdir(of.store_path(f"{tmp_path}/sessions")) == [of.LOCK]


def test_links_in_a_copy_are_neither_followed_nor_fetched(fetch: Run, program: Restic, tmp_path: pathlib.Path) -> None:
    copied = pathlib.Path(f"{program.place}/0{program.made['0'][1]}")
    (copied / "backup-c-20260102T030409.000000Z").symlink_to("/etc")
    (copied / of.CONFIRMED).unlink(missing_ok=True)
    (copied / of.CONFIRMED).symlink_to("/etc/passwd")
    fetch()
    store = pathlib.Path(of.store_path(f"{tmp_path}/sessions"))
    assert not [entry for entry in store.iterdir() if entry.is_symlink()]
