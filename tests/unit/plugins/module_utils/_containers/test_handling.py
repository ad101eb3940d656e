# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about a unit whose program runs in a container, and what is said where nothing can be done."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from accounts import put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers import handling as containers_handling
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers import recognise, service, view
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.command_lines import parse_line
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.handling import (
    by_hand,
    handling_of,
    require_attach,
    require_outside,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.inspect import Box, BoxMount
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.recognise import Container
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.view import Root
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs import fdopen
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.account import open_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.links import CONTAINER
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.search import found_in
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import observe as migration_observe
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import params as migration_params
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.control_groups import Processes
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit

ID = "7" * 64
INSIDE = "/app/auth"
UPPER = "/var/lib/containers/storage/overlay/x/diff"
RUN = "podman run --rm --name bot {} base:1 node app.js"
QUADLET = "/etc/containers/systemd/bot.container"


def box(*mounts: BoxMount, **changed: t.Any) -> Box:
    plain = Box("podman", ID, "bot", 4321, False, True, mounts, UPPER, (), {})
    return plain._replace(**changed)


def root(kind: str = "layer", path: str = f"{UPPER}{INSIDE}", inside: str = INSIDE, **changed: t.Any) -> Root:
    return Root(inside, kind, path, (1, 2), False, (1000, 1000))._replace(**changed)


def container(options: str = "", quadlet: str = "", running: Box | None = None, **changed: t.Any) -> Container:
    line = parse_line(RUN.format(options).split())
    return Container("bot.service", "podman", line, running or box(), quadlet)._replace(**changed)


@pytest.fixture(autouse=True)
def links(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test forbids to follow, other tests may follow."""
    monkeypatch.setattr(fdopen, "_link_free", set())


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Root]:
    """What is found in the container."""
    roots: list[Root] = []
    monkeypatch.setattr(containers_handling, "roots_in", lambda _unit, _layout: tuple(roots))
    monkeypatch.setattr(containers_handling, "_trouble_with_users", lambda _box: "")
    monkeypatch.setattr(containers_handling, "_is_enforcing", lambda: False)
    monkeypatch.setattr(containers_handling, "sees", lambda _box, _inode, _path: "")
    return roots


def refused(about: Container, path: str) -> str:
    with pytest.raises(SessionsError) as told:
        handling_of(about, path, None)
    assert "nothing was changed" in str(told.value)
    return str(told.value)


def inode(path: pathlib.Path) -> tuple[int, int]:
    return path.stat().st_dev, path.stat().st_ino


def test_the_sessions_path_is_mounted(found: list[Root], tmp_path: pathlib.Path) -> None:
    found.append(root("mount", str(tmp_path), inode=inode(tmp_path)))
    handling = handling_of(container(f"-v {tmp_path}:{INSIDE}"), str(tmp_path), None)
    assert (handling.root, handling.drop_in) == (None, None)


def test_it_is_not_mounted_by_the_next_start(found: list[Root], tmp_path: pathlib.Path) -> None:
    found.append(root("mount", str(tmp_path), inode=inode(tmp_path)))
    assert f"'-v {tmp_path}:{INSIDE}'" in refused(container(), str(tmp_path))


@pytest.mark.parametrize(
    "options", ["-v /srv/other:/app/auth", "-v {}:/app/auth:ro", "-v {}:/app", "-v accounts:/app/auth"]
)
def test_something_else_is_mounted_by_the_next_start(found: list[Root], tmp_path: pathlib.Path, options: str) -> None:
    found.append(root("mount", str(tmp_path), inode=inode(tmp_path)))
    told = refused(container(options.format(tmp_path)), str(tmp_path))
    assert "its next start does not mount it there writable" in told


def test_a_directory_above_or_the_same_volume_is_mounted_by_the_next_start(
    found: list[Root], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "auth").mkdir()
    path = tmp_path / "auth"
    found.append(root("mount", str(path), inode=inode(path)))
    assert handling_of(container(f"-v {tmp_path}:/app"), str(path), None).root is None
    volume = BoxMount("volume", str(path), INSIDE, "accounts", True)
    about = container(f"-v accounts:{INSIDE}", running=box(volume))
    assert handling_of(about, str(path), None).root is None


def test_the_sessions_path_is_mounted_for_reading_only(found: list[Root], tmp_path: pathlib.Path) -> None:
    found.append(root("mount", str(tmp_path), inode=inode(tmp_path)))
    mount = BoxMount("bind", str(tmp_path), INSIDE, "", False)
    assert f"at {INSIDE} read-only" in refused(container(f"-v {tmp_path}:{INSIDE}", running=box(mount)), str(tmp_path))
    below = BoxMount("bind", "/srv/app", "/app", "", False), mount._replace(writable=True)
    assert handling_of(container(f"-v {tmp_path}:{INSIDE}", running=box(*below)), str(tmp_path), None).root is None


def test_accounts_beside_the_sessions_path(found: list[Root], tmp_path: pathlib.Path) -> None:
    found += [root("mount", str(tmp_path), inode=inode(tmp_path)), root(inside="/app/old")]
    assert "/app/old" in refused(container(f"-v {tmp_path}:{INSIDE}"), str(tmp_path))


def test_another_directory_of_the_host(found: list[Root]) -> None:
    found.append(root("mount", "/srv/accounts"))
    assert "set 'path' to /srv/accounts and run again" in refused(container(), "/var/lib/bot/sessions")


def test_a_layer_of_a_quadlet(found: list[Root]) -> None:
    found.append(root())
    handling = handling_of(container(quadlet=QUADLET), "/var/lib/bot/sessions", None)
    assert handling.root == found[0]
    assert handling.drop_in is not None
    place, text = handling.drop_in
    assert place == "/etc/containers/systemd/bot.container.d/20-sessions.conf"
    assert text.endswith(f"[Container]\nVolume=/var/lib/bot/sessions:{INSIDE}\n")


def test_a_quadlet_of_all_instances(found: list[Root]) -> None:
    """A drop-in of it would give one instance's sessions path to all of them."""
    found.append(root())
    of_all = "/etc/containers/systemd/bot@.container"
    assert f"not in {of_all}, which applies to all instances" in refused(
        container(quadlet=of_all), "/var/lib/bot/sessions"
    )
    its_own = container(f"-v /var/lib/bot/sessions:{INSIDE}", of_all)
    assert handling_of(its_own, "/var/lib/bot/sessions", None).drop_in is None


def test_a_layer_of_a_run_line(found: list[Root]) -> None:
    found.append(root())
    told = refused(container(), "/var/lib/bot/sessions")
    assert f"add '-v /var/lib/bot/sessions:{INSIDE}' to 'podman run' in ExecStart= of bot.service" in told
    assert "without restarting bot.service" in told


def test_a_layer_whose_next_start_mounts_the_sessions_path(found: list[Root]) -> None:
    found.append(root())
    handling = handling_of(container(f"-v /var/lib/bot/sessions:{INSIDE}"), "/var/lib/bot/sessions", None)
    assert (handling.root, handling.drop_in) == (found[0], None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (f"-v /srv/other:{INSIDE}", "mounts /srv/other at /app/auth instead"),
        ("-v accounts:/app", "mounts accounts at /app instead"),
        (f"-v {INSIDE}", "replace the option that mounts /app/auth by"),
    ],
)
def test_a_next_start_that_mounts_something_else(found: list[Root], options: str, words: str) -> None:
    found.append(root())
    assert words in refused(container(options, QUADLET), "/var/lib/bot/sessions")


@pytest.mark.parametrize(
    ("what", "running", "words"),
    [
        ({"path": ""}, {}, "is not accessible from the host"),
        ({"holds_program": True}, {}, "would hide the directory"),
        ({"inside": "/app/a b"}, {}, "characters"),
        ({}, {"paused": True}, "paused"),
    ],
)
def test_what_cannot_be_taken_out(
    found: list[Root], what: dict[str, t.Any], running: dict[str, t.Any], words: str
) -> None:
    """The steps by hand are given."""
    found.append(root(**what))
    told = refused(container(quadlet=QUADLET, running=box(**running)), "/var/lib/bot/sessions")
    assert words in told
    assert "systemctl kill -s STOP bot.service && podman cp bot:" in told
    assert "chown -R 1000:1000 /var/lib/bot/sessions" in told


@pytest.mark.parametrize(
    ("group", "quadlet", "named"),
    [
        (f"/machine.slice/libpod-{ID}.scope/container", "", f"libpod-{ID}.scope"),
        (f"/machine.slice/libpod-{ID}.scope/init.scope", "", f"libpod-{ID}.scope"),
        (f"/system.slice/bot.service/libpod-payload-{ID}", QUADLET, "bot.service"),
        (f"/system.slice/bot.service/libpod-payload-{ID}", "", "bot.service"),
        (f"/machine.slice/libpod-{ID}.scope", QUADLET, f"libpod-{ID}.scope"),
        ("", QUADLET, "bot.service"),
        ("", "", "libpod-ID.scope"),
    ],
)
def test_what_is_stopped_by_hand(monkeypatch: pytest.MonkeyPatch, group: str, quadlet: str, named: str) -> None:
    """The unit of `podman run` has the client alone: stopping that stops no program."""
    monkeypatch.setattr(containers_handling, "group_of", lambda _pid: group)
    steps = by_hand(container(quadlet=quadlet), INSIDE, "/srv/a")
    assert steps.startswith(f"systemctl kill -s STOP {named} && podman cp bot:")
    assert steps.endswith(f"&& systemctl kill -s KILL {named}")


def test_several_directories(found: list[Root]) -> None:
    found += [root(), root(inside="/data")]
    assert "/app/auth, /data" in refused(container(), "/var/lib/bot/sessions")


@pytest.mark.parametrize("quadlet", ["", QUADLET])
@pytest.mark.parametrize(
    "where", [root(whole=True), root("mount", "/srv/4915112345678", whole=True), root("unreachable", "", whole=True)]
)
def test_an_account_called_after_a_phone(found: list[Root], where: Root, quadlet: str) -> None:
    """Its number is in no message."""
    found.append(where._replace(inside="/app/4915112345678", path=where.path.replace("auth", "4915112345678")))
    if quadlet and where.kind == "layer":
        assert handling_of(container(quadlet=quadlet), "/var/lib/bot/sessions", None).root == found[0]
        return
    told = refused(container(quadlet=quadlet), "/var/lib/bot/sessions")
    assert "4915112345678" not in told and "4…8-" in told
    assert root(whole=True, inside="/app/auth_info_baileys").there == "/app/auth_info_baileys"


def test_no_account(found: list[Root]) -> None:
    assert not found
    assert "no account was found" in refused(container(), "/var/lib/bot/sessions")


def test_a_container_that_does_not_run(found: list[Root]) -> None:
    assert not found
    stopped = container(running=box(pid=0))
    assert "it is not running" in refused(stopped, "/var/lib/bot/sessions")
    ready = container(f"-v /var/lib/bot/sessions:{INSIDE}", running=box(pid=0))
    assert handling_of(ready, "/var/lib/bot/sessions", None).root is None


@pytest.mark.parametrize("running", [None, box(pid=0)])
def test_a_container_that_runs_and_cannot_be_seen(found: list[Root], running: Box | None) -> None:
    """What its next start mounts says nothing about it: a restart would destroy what it has in its layer."""
    assert not found
    unseen = container(f"-v /var/lib/bot/sessions:{INSIDE}")._replace(box=running, active=True, trouble="rootless")
    assert "rootless" in refused(unseen, "/var/lib/bot/sessions")


def test_a_container_that_is_not_known(found: list[Root]) -> None:
    found.append(root())
    told = refused(container(box=None, trouble="the containers of user wa are rootless"), "/var/lib/bot/sessions")
    assert "rootless" in told


@pytest.mark.parametrize("attach", ["auto", "variable", "volume"])
def test_ways_to_attach_a_container(found: list[Root], attach: str) -> None:
    found.append(root())
    require_attach(
        handling_of(container(quadlet=QUADLET), "/var/lib/bot/sessions", None), attach, "/var/lib/bot/sessions"
    )


def test_ways_that_no_container_is_attached_by(found: list[Root]) -> None:
    found.append(root())
    handling = handling_of(container(quadlet=QUADLET), "/var/lib/bot/sessions", None)
    with pytest.raises(SessionsError, match="its own mounts; nothing was changed"):
        require_attach(handling, "bind", "/var/lib/bot/sessions")
    with pytest.raises(SessionsError, match=f"add 'Volume=/var/lib/bot/sessions:{INSIDE}'"):
        require_attach(handling, "none", "/var/lib/bot/sessions")
    ready = handling_of(container(f"-v /var/lib/bot/sessions:{INSIDE}"), "/var/lib/bot/sessions", None)
    require_attach(ready, "none", "/var/lib/bot/sessions")


def test_a_volume_for_what_is_no_container(tmp_path: pathlib.Path) -> None:
    (tmp_path / "auth").mkdir()
    options = {"src": [str(tmp_path / "auth")], "path": str(tmp_path / "sessions"), "switch": {"attach": "volume"}}
    with pytest.raises(SessionsError, match=r"does not run in a container \(unit: none\); nothing was changed"):
        migration_observe.observe(migration_params.read_params(options))


def test_legacy_paths_of_a_container(found: list[Root], tmp_path: pathlib.Path) -> None:
    """Its own is found; what goes with it is none."""
    found.append(root())
    in_layer = handling_of(container(quadlet=QUADLET), "/var/lib/bot/sessions", None)
    require_outside(in_layer, ["/nowhere"])
    with pytest.raises(SessionsError, match="set no legacy path"):
        require_outside(in_layer, [str(tmp_path)])
    found[:] = [root("mount", str(tmp_path), inode=inode(tmp_path))]
    mounted = handling_of(
        container(f"-v {tmp_path}:{INSIDE}", running=box(upper=str(tmp_path / "layer"))), str(tmp_path), None
    )
    require_outside(mounted, ["/srv/old"])
    with pytest.raises(SessionsError, match="is deleted with the container"):
        require_outside(mounted, [str(tmp_path / "layer" / "app")])


def require_no_link_followed(directory: pathlib.Path) -> None:
    """The link to the account of somebody else is seen, and is none of ours."""
    with opened_directory(str(directory)) as opened:
        looked = {account.name: account.left for account in found_in(opened, layout_named("baileys"))}
        assert looked == {"main": "", "other": CONTAINER}
        with pytest.raises(OSError, match="never followed"):
            open_account(opened, "other")


def test_a_link_in_the_sessions_path_of_a_container(found: list[Root], tmp_path: pathlib.Path) -> None:
    """Root of the container makes it, as root of the host makes others: it would be followed on the host."""
    put_account(tmp_path / "elsewhere")
    put_account(tmp_path / "sessions" / "main")
    (tmp_path / "sessions" / "other").symlink_to(tmp_path / "elsewhere")
    found.append(root("mount", str(tmp_path / "sessions"), inode=inode(tmp_path / "sessions")))
    (tmp_path / "named").symlink_to("sessions")  # by whatever name it is opened
    handling_of(container(f"-v {tmp_path}/sessions:{INSIDE}"), str(tmp_path / "sessions"), None)
    require_no_link_followed(tmp_path / "sessions")
    require_no_link_followed(tmp_path / "named")


def test_a_link_in_a_layer_and_in_what_is_mounted(found: list[Root], tmp_path: pathlib.Path) -> None:
    put_account(tmp_path / "elsewhere")
    for place in ("upper/app/auth", "mounted/below"):
        put_account(tmp_path / place / "main")
        (tmp_path / place / "other").symlink_to(tmp_path / "elsewhere")
    found.append(root(path=str(tmp_path / "upper/app/auth")))
    mount = BoxMount("bind", str(tmp_path / "mounted"), "/data", "", True)
    running = box(mount, upper=str(tmp_path / "upper"))
    handling_of(container(quadlet=QUADLET, running=running), "/var/lib/bot/sessions", None)
    require_no_link_followed(tmp_path / "upper/app/auth")
    require_no_link_followed(tmp_path / "mounted/below")


def test_links_while_a_container_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """A path of the host that its environment names by a link has no accounts of the container."""
    put_account(tmp_path / "elsewhere")
    (tmp_path / "auth").mkdir()
    (tmp_path / "auth" / "main").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(view, "payload_groups", lambda _box: ("/bot",))
    monkeypatch.setattr(view, "processes_of", lambda _groups: Processes((os.getpid(),), True))
    monkeypatch.setattr(view, "_candidates", lambda _view, _box, _layouts: [str(tmp_path / "auth")])
    monkeypatch.setattr(view, "_below", lambda _view, _directory, _layout: [])
    running = box(pid=os.getpid())
    assert not view.roots_of(running, None)
    put_account(tmp_path / "auth" / "own")
    assert [root.inside for root in view.roots_of(running, None)] == [str(tmp_path / "auth")]


@pytest.mark.parametrize("is_its_own", [True, False])
def test_a_container_that_another_process_keeps(monkeypatch: pytest.MonkeyPatch, is_its_own: bool) -> None:
    """What is called conmon says by its own words which container it keeps: that one has to be started by it."""
    unit = Unit("bot.service", {**dict.fromkeys(PROPERTIES, ""), "ActiveState": "active"})
    monkeypatch.setattr(service, "read_service", lambda _name: unit)
    monkeypatch.setattr(recognise, "next_line", lambda _unit: None)
    monkeypatch.setattr(recognise, "engine_processes", lambda _unit: [("conmon", os.getppid())])
    arguments = recognise.process_file
    monkeypatch.setattr(
        recognise,
        "process_file",
        lambda pid, name: b"conmon\0-c\0bot\0" if name == "cmdline" else arguments(pid, name),
    )
    first = os.getpid() if is_its_own else 1
    monkeypatch.setattr(recognise, "inspected", lambda _engine, _name: box(pid=first))
    found = recognise.recognised("bot.service")
    assert (found.box is not None, not found.trouble) == (is_its_own, is_its_own)
