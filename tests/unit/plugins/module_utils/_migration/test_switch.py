# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration that points a backend to its new path: what is refused, what is written, and whether it will be in force."""

from __future__ import annotations

import os
import stat
import typing as t
from pathlib import Path

import pytest

from accounts import put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError, WroteAlready
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import rollback
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import switch as migration_switch
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.install_switch import (
    clear_the_way,
    early_installed,
    install,
    install_early,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.switch import (
    Switch,
    files_of,
    observe_switch,
    read_switch,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import drop_in as systemd_drop_in
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import effective, file_steps, load_path
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit

NEW = "/var/lib/wa/sessions"
SECRET = "s3cret"


class Host:
    """Unit files in a private tree. systemd is not there: nothing is asked of it, and drop-ins are not checked by it."""

    def __init__(self, root: Path) -> None:
        self.root, self.env = root, root / "default/env"
        self.put("lib/wa.service", f"[Service]\nExecStart=/bin/true\nEnvironmentFile=-{self.env}\n")

    def put(self, name: str, text: str) -> Path:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        return put_file(self.root / name, text)

    @property
    def unit(self) -> Unit:
        return Unit("wa.service", dict.fromkeys(PROPERTIES, ""))

    def switch(self, value: str = NEW, name: str = "20-sessions", file: bool = True) -> Switch:
        drop_in = {
            "name": name,
            "daemon_reload": False,
            "validate": False,
            "sections": {"Service": {"Environment": {"SESSIONS_PATH": value}, "UMask": "0077"}},
        }
        values = {"path": str(self.env), "values": {"SESSIONS_PATH": value}}
        return read_switch({"overrides": [drop_in], "environment_file": values if file else None}, "wa.service")

    @property
    def drop_in(self) -> Path:
        return self.root / "etc/wa.service.d/20-sessions.conf"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(load_path, "SEARCH_PATH", (f"{tmp_path}/etc", f"{tmp_path}/run", f"{tmp_path}/lib"))
    monkeypatch.setitem(systemd_drop_in.DIRECTORIES, "persistent", f"{tmp_path}/etc")
    for module in (effective, systemd_drop_in, rollback):
        monkeypatch.setattr(module, "systemd_runs", lambda: False)
    return Host(tmp_path)


# --- what is refused -------------------------------------------------------------------------------------


def drop_in(name: str = "a", value: str = "/a", **more: t.Any) -> dict[str, t.Any]:
    return {"name": name, "daemon_reload": False, "sections": {"Service": {"Environment": {"S": value}}}, **more}


@pytest.mark.parametrize(
    ("options", "unit", "words"),
    [
        ({"overrides": [drop_in()]}, None, "has no unit; name it in 'unit'"),
        ({"overrides": [drop_in(unit="other")]}, "wa.service", "is for other, but the sessions belong to wa.service"),
        (
            {"overrides": [drop_in("a"), drop_in("b", "/b")]},
            "wa.service",
            "sets S to different values in two files",
        ),
        (
            {"overrides": [drop_in()], "environment_file": {"path": "/e", "values": {"S": "/b"}}},
            "wa.service",
            "sets S to different values in two files",
        ),
        ({"environment_file": {"path": "e", "values": {}}}, None, "a relative path"),
        ({"environment_file": {"path": "/e", "values": {"A": "a\nb"}}}, None, "A"),
        ({"environment_file": {"path": "/e", "values": {"A-B": "a"}}}, None, "'A-B' is not a valid name"),
        ({"overrides": [drop_in(value="a\nb")]}, "wa.service", "S"),
    ],
)
def test_what_no_host_could_accept(options: dict[str, t.Any], unit: str | None, words: str) -> None:
    with pytest.raises(SessionsError, match=words) as refused:
        read_switch(options, unit)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("unit", ["wa", "wa.service", None])
def test_what_is_accepted(unit: str | None) -> None:
    options = {
        "overrides": [drop_in("a", unit=unit), drop_in("b", unit=unit)],
        "environment_file": {"path": "/e", "values": {"S": "/a", "N": 1}},
    }
    switch = read_switch(options, "wa.service")
    assert {wanted.unit for wanted in switch.overrides} == {"wa.service"}
    assert switch.variables == {"S", "N"}
    assert switch.environment_file is not None
    assert switch.environment_file.values == {"S": "/a", "N": "1"}


def test_nothing_is_a_switch_too() -> None:
    for nothing in (None, {}, {"overrides": [], "environment_file": None}):
        switch = read_switch(nothing, None)
        assert (switch, switch.variables) == (Switch((), None), frozenset())
        state = observe_switch(switch, None)
        assert (state.differs, state.stale, state.outdated_options, files_of(switch, state)) == (False, False, (), [])


# --- what is written ---------------------------------------------------------------------------------------


def test_both_files_are_written_then_nothing_differs(host: Host) -> None:
    host.put("default/env", f"# mine\nTOKEN={SECRET}\nSESSIONS_PATH=.baileys_auth\n").chmod(0o640)
    switch = host.switch()
    state = observe_switch(switch, host.unit)
    assert state.differs
    assert files_of(switch, state) == [str(host.drop_in), str(host.env)]
    assert SECRET not in str(state.diffs)
    assert not host.drop_in.exists()
    install(switch, state)
    assert host.env.read_text() == f"# mine\nTOKEN={SECRET}\nSESSIONS_PATH={NEW}\n"
    assert stat.S_IMODE(host.env.stat().st_mode) == 0o640
    assert "UMask=0077" in host.drop_in.read_text()
    after = observe_switch(switch, host.unit)
    assert (after.differs, files_of(switch, after), after.diffs) == (False, [], ())


def test_a_new_environment_file_is_for_root_alone(host: Host) -> None:
    switch = host.switch()
    install(switch, observe_switch(switch, host.unit))
    assert stat.S_IMODE(host.env.stat().st_mode) == 0o600
    assert host.env.read_text() == f"SESSIONS_PATH={NEW}\n"
    assert stat.S_IMODE(host.env.parent.stat().st_mode) == 0o755


def test_bytes_that_are_no_utf_8_stay(host: Host) -> None:
    host.env.parent.mkdir()
    put_file(host.env, b"# caf\xe9\nSESSIONS_PATH=x\n")
    switch = host.switch()
    install(switch, observe_switch(switch, host.unit))
    assert host.env.read_bytes() == f"# caf\xe9\nSESSIONS_PATH={NEW}\n".encode("latin-1")


def test_one_file_that_differs_is_one_file_that_is_written(host: Host) -> None:
    switch = host.switch()
    install(switch, observe_switch(switch, host.unit))
    host.put("default/env", "SESSIONS_PATH=old\n")
    state = observe_switch(switch, host.unit)
    assert (state.differs, files_of(switch, state)) == (True, [str(host.env)])
    before = host.drop_in.stat()
    install(switch, state)
    assert host.drop_in.stat() == before


def test_what_comes_before_the_stop_is_written_apart_and_is_no_reason_to_stop(host: Host) -> None:
    stop = {"name": "10-stop", "daemon_reload": False, "validate": False, "sections": {"Service": {"KillSignal": "2"}}}
    switch = read_switch({"pre_stop_overrides": [stop]}, "wa.service")
    state = observe_switch(switch, host.unit)
    assert (state.early_differs, state.differs, files_of(switch, state)) == (True, False, [])
    assert "KillSignal=2" in state.early_diffs[0]["after"]
    assert install_early(switch, state) is False  # an image, where nobody has to read it again
    assert "KillSignal=2" in host.drop_in.with_name("10-stop.conf").read_text()
    after = observe_switch(switch, host.unit)
    assert (after.early_differs, after.stale, after.early_diffs) == (False, False, ())


class Again(SessionsError):
    """What stops the backend once more."""

    stops_again = True


@pytest.mark.parametrize(("error", "left"), [(SessionsError("other"), False), (Again("again"), True)])
def test_what_comes_before_the_stop_stays_for_another_stop(host: Host, error: SessionsError, left: bool) -> None:
    stop = {"name": "10-stop", "daemon_reload": False, "validate": False, "sections": {"Service": {"KillSignal": "2"}}}
    switch = read_switch({"pre_stop_overrides": [stop]}, "wa.service")
    with pytest.raises(type(error), match=str(error)), early_installed(switch, observe_switch(switch, host.unit)):
        assert host.drop_in.with_name("10-stop.conf").exists()
        raise error
    assert host.drop_in.with_name("10-stop.conf").exists() is left
    assert Again.stops_again is WroteAlready.stops_again


def test_what_could_not_be_written_whole_before_the_stop_is_put_back(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_ins = [
        {"name": name, "daemon_reload": False, "validate": False, "sections": {"Service": {"KillSignal": "2"}}}
        for name in ("10-stop", "11-stop")
    ]
    switch = read_switch({"pre_stop_overrides": drop_ins}, "wa.service")
    seen, install = observe_switch(switch, host.unit), file_steps.install

    def fail(steps: t.Any) -> None:
        if any(getattr(step, "path", "").endswith("11-stop.conf") for step in steps):
            raise SessionsError("no space")
        install(steps)

    monkeypatch.setattr(file_steps, "install", fail)
    with pytest.raises(SessionsError, match="no space"), early_installed(switch, seen):
        pass
    assert not host.drop_in.with_name("10-stop.conf").exists()


# --- whether it will be in force ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etc/wa.service.d/override.conf", "[Service]\nEnvironment=SESSIONS_PATH=/other\n"),
        ("lib/wa.service.d/zz.conf", "[Service]\nUMask=0022\nEnvironment=A=b SESSIONS_PATH=/other\n"),
        ("run/service.d/zz.conf", "[Service]\nUnsetEnvironment=SESSIONS_PATH\n"),
    ],
)
def test_what_beats_the_switch_is_named_by_file_and_line(host: Host, name: str, text: str) -> None:
    other = host.put(name, text)
    line = next(number for number, words in enumerate(text.splitlines(), 1) if "SESSIONS_PATH" in words)
    switch = host.switch(file=False)
    with pytest.raises(
        SessionsError, match=f"{other} line {line} sets SESSIONS_PATH as well and overrides this change"
    ):
        observe_switch(switch, host.unit)
    assert not host.drop_in.exists()


def test_an_environment_file_that_contradicts_beats_a_drop_in(host: Host) -> None:
    host.put("default/env", f"A=b\nSESSIONS_PATH=/other\nTOKEN={SECRET}\n")
    with pytest.raises(SessionsError, match=f"{host.env} line 2 sets SESSIONS_PATH") as refused:
        observe_switch(host.switch(file=False), host.unit)
    assert SECRET not in str(refused.value)
    assert "/other" not in str(refused.value)
    assert observe_switch(host.switch(), host.unit).differs  # which this switch fixes


def test_what_comes_before_ours_is_beaten(host: Host) -> None:
    host.put("etc/wa.service.d/10-old.conf", "[Service]\nEnvironment=SESSIONS_PATH=/other\n")
    assert observe_switch(host.switch(file=False), host.unit).differs


def test_a_process_with_another_value_lacks_it(host: Host) -> None:
    switch = host.switch()
    install(switch, observe_switch(switch, host.unit))
    running = Unit("wa.service", {**host.unit.properties, "MainPID": str(os.getpid())})
    assert "SESSIONS_PATH" in observe_switch(switch, running).outdated_options
    assert migration_switch.needs_restart(switch, running)
    assert not migration_switch.needs_restart(switch, host.unit)  # nothing runs


# --- an environment file in a directory that somebody else rules ---------------------------------------------


def observed(host: Host, text: str = "A=1\n") -> tuple[Switch, migration_switch.SwitchState]:
    host.put("default/env", text)
    switch = host.switch()
    return switch, observe_switch(switch, host.unit)


def swapped(path: Path) -> None:
    """Put another file of the same size and time there, as rename(2) does."""
    status = path.stat()
    other = put_file(path.with_name("other"), "B=2\n")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    "change",
    [
        swapped,
        lambda path: put_file(path, "A=1\nB=2\n"),
        lambda path: path.chmod(0o644),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
    ],
)
def test_what_is_no_longer_what_was_read_is_not_written(host: Host, change: t.Callable[[Path], t.Any]) -> None:
    """The content of one file must not be written with the owner of another one."""
    switch, state = observed(host)
    change(host.env)
    before = sorted((path.name, path.lstat().st_ino, path.lstat().st_size) for path in host.env.parent.iterdir())
    with pytest.raises(SessionsError, match=f"{host.env} was changed after it was read, so it was not written"):
        install(switch, state)
    after = sorted((path.name, path.lstat().st_ino, path.lstat().st_size) for path in host.env.parent.iterdir())
    assert after == before


def test_a_file_that_came_since_is_not_written_over(host: Host) -> None:
    switch = host.switch()
    state = observe_switch(switch, host.unit)
    host.put("default/env", "A=1\n")
    with pytest.raises(SessionsError, match="was changed after it was read"):
        install(switch, state)
    assert host.env.read_text() == "A=1\n"


def test_it_is_looked_at_again_right_before_it_is_replaced(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    switch, state = observed(host)
    sync = os.fsync

    def strike(descriptor: int) -> None:
        sync(descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and host.env.read_text() == "A=1\n":
            swapped(host.env)  # the new content is written by now, beside it

    monkeypatch.setattr(os, "fsync", strike)
    with pytest.raises(SessionsError, match="was changed after it was read"):
        install(switch, state)
    assert host.env.read_text() == "B=2\n"
    assert [path.name for path in host.env.parent.iterdir()] == ["env"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_what_is_no_file_is_neither_waited_for_nor_followed(host: Host, make: t.Callable[[Path], t.Any]) -> None:
    host.env.parent.mkdir()
    make(host.env)
    with pytest.raises(SessionsError, match=f"cannot read {host.env}"):
        observe_switch(host.switch(), host.unit)


def test_one_with_a_second_name_is_not_rewritten(host: Host) -> None:
    host.put("default/env", "A=1\n")
    os.link(host.env, host.root / "second")
    with pytest.raises(SessionsError, match="has another hard link"):
        observe_switch(host.switch(), host.unit)
    host.env.write_text(f"SESSIONS_PATH={NEW}\n")
    assert observe_switch(host.switch(), host.unit).text == f"SESSIONS_PATH={NEW}\n"  # nothing is to be written


@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
@pytest.mark.parametrize("whose", ["default/env", "default"])
def test_one_that_another_user_rules_is_refused(host: Host, whose: str) -> None:
    host.put("default/env", "A=1\n")
    os.chown(host.root / whose, 12345, 0)
    with pytest.raises(SessionsError, match="belongs to neither root nor the user of the unit"):
        observe_switch(host.switch(), host.unit)
    with_user = Unit("wa.service", {**host.unit.properties, "User": "12345", "Group": "0"})
    assert observe_switch(host.switch(), with_user).differs


@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
def test_one_whose_directory_changed_hands_since_is_not_written(host: Host) -> None:
    switch, state = observed(host)
    os.chown(host.env.parent, 12345, 0)
    with pytest.raises(SessionsError, match=f"the directory of {host.env} belongs to neither root nor the user"):
        install(switch, state)
    assert host.env.read_text() == "A=1\n"


def test_one_that_is_too_large_is_refused(host: Host) -> None:
    host.put("default/env", "#" * (1 << 20) + "\n")
    with pytest.raises(SessionsError, match="is larger than 1048576 bytes"):
        observe_switch(host.switch(), host.unit)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_systemd_would_wait_for_is_out_of_the_way_before_a_start(
    host: Host, make: t.Callable[[Path], t.Any]
) -> None:
    switch, state = observed(host)
    host.env.chmod(0o640)
    state = observe_switch(switch, host.unit)
    host.env.unlink()
    make(host.env)
    clear_the_way(switch, state)
    assert (host.env.is_symlink(), host.env.read_text(), stat.S_IMODE(host.env.stat().st_mode)) == (
        False,
        "A=1\n",
        0o640,
    )
    host.env.write_text("B=2\n")
    clear_the_way(switch, state)
    assert host.env.read_text() == "B=2\n"  # what is a file is not ours to judge
