# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit observes of a unit that is down, of its program and of accounts, from files alone."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from accounts import put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit import look_at_container, naming
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.facts import Overridden
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.look_at_service import (
    service_of,
    stop_differences,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.programs import program_around
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.scan import scanned
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.inspect import Box
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.recognise import Container
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.view import (
    ANONYMOUS,
    LAYER,
    MOUNT,
    Root,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._plan import graceful_stop
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import drop_in, load_path
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.effective import Sources, read_sources
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit

BAILEYS, WWEBJS = layout_named("baileys"), layout_named("wwebjs")
# As systemctl shows a unit that sets none of them.
USUAL = {
    "KillSignal": "15", "KillMode": "control-group", "TimeoutStopUSec": "1min 30s", "Restart": "no", "UMask": "0022",
    "RestartUSec": "100ms", "StartLimitIntervalUSec": "10s", "StartLimitBurst": "5", "NRestarts": "0",
}  # fmt: skip


class Host:
    """A unit, and a release that its working directory leads to by a link."""

    def __init__(self, root: Path) -> None:
        self.root, self.path, self.auth = root, root / "var/sessions", root / "bot/releases/1/auth"
        self.path.mkdir(parents=True)
        self.auth.mkdir(parents=True)
        (root / "bot/current").symlink_to("releases/1")
        self.put("ExecStart=/bin/true")

    def put(self, text: str, **drop_ins: str) -> None:
        """Write the unit, and drop-ins by name."""
        (self.root / "units/wa.service.d").mkdir(parents=True, exist_ok=True)
        put_file(self.root / "units/wa.service", f"[Service]\nWorkingDirectory={self.root}/bot/current\n{text}\n")
        for name, lines in drop_ins.items():
            put_file(self.root / f"units/wa.service.d/{name}.conf", f"[Service]\n{lines}\n")

    def unit(self, **properties: str) -> Unit:
        known = {**dict.fromkeys(PROPERTIES, ""), **USUAL, "WorkingDirectory": f"{self.root}/bot/current", **properties}
        return Unit("wa.service", known)

    def sources(self) -> Sources:
        return read_sources("wa.service")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(load_path, "SEARCH_PATH", (f"{tmp_path}/units",))
    monkeypatch.setitem(drop_in.DIRECTORIES, "persistent", f"{tmp_path}/units")
    monkeypatch.setattr(graceful_stop, "default_stop_timeout", lambda: "1min 30s")
    return Host(tmp_path)


# --- how it stops and restarts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "lines", "properties", "expected"),
    [
        (BAILEYS, "", {}, {"KillSignal": ("SIGTERM", "SIGINT")}),
        (BAILEYS, "KillSignal=SIGINT", {"KillSignal": "2"}, {}),
        (BAILEYS, "KillSignal=SIGTERM", {}, {}),
        (BAILEYS, "KillSignal=SIGKILL", {"KillSignal": "9"}, {"KillSignal": ("SIGKILL", "SIGINT")}),
        (
            BAILEYS,
            "KillSignal=2\nTimeoutStopSec=10",
            {"KillSignal": "2", "TimeoutStopUSec": "10s"},
            {"TimeoutStopSec": ("10s", "45 s")},
        ),
        (BAILEYS, "KillSignal=2\nTimeoutStopSec=5min", {"KillSignal": "2", "TimeoutStopUSec": "5min"}, {}),
        (BAILEYS, "KillSignal=2\nTimeoutStopSec=0", {"KillSignal": "2", "TimeoutStopUSec": "infinity"}, {}),
        (
            BAILEYS,
            "KillSignal=2\nKillMode=process",
            {"KillSignal": "2", "KillMode": "process"},
            {"KillMode": ("process", "control-group")},
        ),
        (WWEBJS, "KillSignal=2", {"KillSignal": "2"}, {"KillMode": ("control-group", "mixed")}),
        (WWEBJS, "KillSignal=2\nKillMode=mixed", {"KillSignal": "2", "KillMode": "mixed"}, {}),
    ],
)
def test_how_it_stops(
    host: Host, layout: t.Any, lines: str, properties: dict[str, str], expected: dict[str, tuple[str, str]]
) -> None:
    host.put(f"ExecStart=/bin/true\n{lines}")
    assert stop_differences(host.unit(**properties), layout) == expected


def test_a_browser_behind_a_shell_gets_the_signal_itself(host: Host) -> None:
    host.put("ExecStart=/bin/sh -c 'npm start'\nKillSignal=2")
    assert stop_differences(host.unit(KillSignal="2"), WWEBJS) == {}


@pytest.mark.parametrize(
    ("properties", "limited"),
    [
        ({"Restart": "no"}, True),
        ({"Restart": "on-failure", "StartLimitIntervalUSec": "0"}, True),
        ({"Restart": "always"}, True),
        ({"Restart": "always", "RestartUSec": "1s"}, True),
        ({"Restart": "always", "RestartUSec": "2s"}, False),  # five starts take as long as the interval
        ({"Restart": "always", "StartLimitIntervalUSec": "0"}, False),
        ({"Restart": "always", "StartLimitBurst": "0"}, False),
        ({"Restart": "always", "RestartUSec": "5s", "StartLimitIntervalUSec": "2min"}, True),
        ({"Restart": "always", "StartLimitIntervalUSec": "infinity"}, True),
    ],
)
def test_whether_a_storm_of_restarts_ends(host: Host, properties: dict[str, str], limited: bool) -> None:
    assert service_of(host.unit(**properties), 1500).limited is limited


@pytest.mark.parametrize(("umask", "shown"), [("0022", "0022"), ("0077", ""), ("0027", ""), ("0002", "0002"), ("", "")])
def test_what_a_umask_leaves_open(host: Host, umask: str, shown: str) -> None:
    assert service_of(host.unit(UMask=umask), 1500).umask_open == shown


# --- how its accounts are found ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "place", "found"),
    [
        ("", "auth", "default"),
        ("Environment=A=./auth", "auth", "A"),
        ("Environment=A=auth B={root}/bot/releases/1/auth", "auth", "absolute"),
        ("Environment=A={root}/bot/current/auth", "auth", "absolute"),
        ("Environment=A={root}/bot", "auth", "default"),  # the directory of the program says nothing about accounts
        ("Environment=A={root}/var/sessions", "path", "absolute"),
        ("Environment=A={root}/var", "path", "absolute"),
        ("BindPaths={root}/var/sessions:{root}/bot/current/auth", "path", "absolute"),
        ("", "path", ""),
    ],
)
def test_how_the_backend_finds_a_directory(host: Host, lines: str, place: str, found: str) -> None:
    host.put(f"ExecStart=/bin/true\n{lines.format(root=host.root)}")
    assert naming.named_by(host.unit(), host.sources(), str(getattr(host, place))) == found


def test_a_later_definition_that_overrides_the_sessions_path(host: Host) -> None:
    host.put(
        "ExecStart=/bin/true", **{"20-a": f"Environment=A={host.path} B={host.path}", "90-b": "Environment=A=/old"}
    )
    later = f"{host.root}/units/wa.service.d/90-b.conf"
    assert list(naming.overridden(host.sources(), str(host.path))) == [Overridden("A", later, 2)]
    put_file(host.root / "env", "B=/older\n")
    host.put("ExecStart=/bin/true", **{"91-c": f"EnvironmentFile={host.root}/env"})
    assert Overridden("B", f"{host.root}/env", 1) in list(naming.overridden(host.sources(), str(host.path)))


def test_a_dotenv_that_leads_elsewhere(host: Host) -> None:
    host.put(f"ExecStart=/bin/true\nEnvironment=A={host.path}")
    home, path = f"{host.root}/bot/releases/1", str(host.path)

    def found() -> list[tuple[str, str]]:
        return list(naming.contradicting_dotenv(host.unit(), host.sources(), path, {str(host.auth)}))

    put_file(Path(home, ".env"), f"A={path}\nTOKEN=secret\n")
    assert found() == []
    put_file(Path(home, ".env"), "export A='./auth' # old\nC=auth\nTOKEN=secret\n")
    assert found() == [(f"{home}/.env", "A"), (f"{home}/.env", "C")]
    put_file(Path(home, ".env"), "A=/old\n")
    host.put(f"ExecStart=/bin/true\nEnvironment=A={host.path}", **{"90-b": "Environment=A=/older"})
    assert found() == [(f"{home}/.env", "A")]  # also while another file overrides the sessions path


# --- the program ----------------------------------------------------------------------------------------------


def test_a_directory_of_no_program(host: Host) -> None:
    program = program_around(str(host.path), [])
    assert (program.release, program.git, program.wipers) == ("", "", ())


def test_a_release_is_known_by_its_files_or_by_the_directory_of_releases(host: Host) -> None:
    release = f"{host.root}/bot/releases/1"
    assert program_around(str(host.auth), [])[:2] == (release, "releases")
    put_file(Path(release, "package.json"), "{}")
    assert program_around(str(host.auth), [])[:2] == (release, "package.json")
    (host.root / ".git").mkdir()
    assert program_around(str(host.auth), []).git == str(host.root)


@pytest.mark.parametrize(
    ("script", "deletes"),
    [
        ("rm -rf ./auth dist", True),
        ("rimraf auth/*", True),
        ("node -e \"fs.rmSync('auth',{recursive:true})\"", True),
        ("node -e \"['.wwebjs_auth','auth'].forEach(p=>fs.rmSync(p))\"", True),
        ("rm -rf dist", False),
        ("rm -rf auth-cache", False),
        ("node start.js --dir auth", False),
        ("git clean -fdx", False),
    ],
)
def test_scripts_that_delete_the_directory(host: Host, script: str, deletes: bool) -> None:
    manifest = put_file(host.auth.parent / "package.json", json.dumps({"scripts": {"clean\n": script, "odd": 7}}))
    assert program_around(str(host.auth), []).wipers == (((str(manifest), "clean?"),) if deletes else ())


def test_git_clean_deletes_what_is_in_its_tree(host: Host) -> None:
    manifest = put_file(host.auth.parent / "package.json", json.dumps({"scripts": {"reset": "git clean -fdx"}}))
    (host.root / "bot/.git").mkdir()
    assert program_around(str(host.auth), []).wipers == ((str(manifest), "reset"),)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"scripts": []}', "[" * 9999])
def test_a_package_json_that_is_not_one_is_none_of_a_script(host: Host, content: str) -> None:
    put_file(host.auth.parent / "package.json", content)
    assert program_around(str(host.auth), [str(host.auth.parent)]).wipers == ()


# --- accounts -------------------------------------------------------------------------------------------------


def test_a_scan_counts_within_its_limits(tmp_path: Path) -> None:
    account = put_account(tmp_path / "wa1")
    for number in range(10):
        put_file(account / f"session-{number}.json", b"" if number < 3 else b"{}").chmod(0o644)
    put_file(account / "half.tmp", b"")

    def scan(**changes: t.Any) -> t.Any:
        with opened_directory(str(account)) as opened:
            return scanned(opened, BAILEYS, **{"files": 100, "statuses": 100, "reachable": True, **changes})

    assert scan()[:3] == (16, 16, 0)  # the account itself is closed
    assert scan().empty == 3
    account.chmod(0o755)
    assert scan().open == 10
    assert scan(reachable=False).open == 0
    assert scan(files=7).files == 7
    assert scan(statuses=4).looked_at == 4
    with opened_directory(str(account)) as opened:
        assert scanned(opened, WWEBJS, files=100, statuses=100, reachable=True).empty == 0


# --- containers -----------------------------------------------------------------------------------------------


def test_what_is_deleted_with_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box("podman", "a" * 64, "wa", 7, False, True, (), "", (), {}, grace=12.0)
    container = Container("wa.service", "podman", None, box, "")
    kept, other = tmp_path / "kept", tmp_path / "other"
    for place in (kept, other):
        place.mkdir()

    def root(inside: str, kind: str, path: str = "") -> Root:
        return Root(inside, kind, path, (1, 2), False, (0, 0))

    roots = (root("/a", LAYER), root("/b", ANONYMOUS), root("/c", MOUNT, str(kept)), root("/d", MOUNT, str(other)))
    monkeypatch.setattr(look_at_container, "roots_of", lambda box, layout: roots)
    found = look_at_container.box_of(container, None)
    assert found.kinds == (("/a", "on the container's own layer"), ("/b", "on an anonymous volume"))
    assert (found.grace, found.trouble) == (12.0, "")
    assert look_at_container.other_directories(container, str(kept), None) == (str(other),)
    stopped = container._replace(box=None, trouble="it has no name")
    assert look_at_container.box_of(stopped, None)[1:3] == ((), "it has no name")
    assert look_at_container.other_directories(stopped, str(kept), None) == ()
