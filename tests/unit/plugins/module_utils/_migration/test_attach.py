# SPDX-License-Identifier: GPL-3.0-or-later
"""How a backend is brought to its sessions path: what the switch becomes, for a unit that is down, of which only the files tell."""

from __future__ import annotations

import os
import re
import typing as t
from pathlib import Path

import pytest

from accounts import put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.users import identity_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import observe as migration_observe
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import params as migration_params
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.attach import Scene, attached
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.attached import (
    Attachment,
    attached_by_now,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.known import Known
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.owners import owners_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.pair import Choice
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.sources import Source
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.survey import Roots, survey
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.switch import Switch, read_switch
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import drop_in as systemd_drop_in
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import load_path
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.bindings import (
    Binding,
    read_items,
    written,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit


class Host:
    """A unit whose program lies in a release that ``current`` leads to, with accounts in ``auth`` there."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / "var/sessions"
        self.legacy = root / "bot/releases/1/auth"
        put_account(self.legacy / "wa1")
        (root / "bot/current").symlink_to("releases/1")
        self.path.mkdir(parents=True)
        self.put_unit("ExecStart=/bin/true")

    def put_unit(self, text: str) -> None:
        (self.root / "units").mkdir(exist_ok=True)
        put_file(self.root / "units/wa.service", f"[Service]\nWorkingDirectory={self.root}/bot/current\n{text}\n")

    def put_drop_in(self, name: str, text: str) -> Path:
        directory = self.root / "units/wa.service.d"
        directory.mkdir(exist_ok=True)
        return put_file(directory / name, text)

    def asked(self, attach: str, name: str = "SESSIONS_PATH") -> Switch:
        value = str(self.path)
        sections = {"Service": {"Environment": {name: value, "OTHER": "x"}, "UMask": "0077"}}
        drop_in = {"name": "20-sessions", "validate": False, "daemon_reload": False, "sections": sections}
        file = {"path": f"{self.root}/env", "values": {name: value}}
        return read_switch({"overrides": [drop_in], "environment_file": file, "attach": attach}, "wa.service")

    def decide(
        self,
        attach: str = "auto",
        *sources: Path,
        named: t.Sequence[str] = (),
        unprivileged: bool = True,
        elsewhere: bool = False,
    ) -> Attachment:
        roots = tuple(Source(str(root), str(root)) for root in sources or (self.legacy,) if root.exists())
        seen = survey(Roots(roots, str(self.path), layout_named("baileys")), {}, Choice("newest"))
        properties = {**dict.fromkeys(PROPERTIES, ""), "WorkingDirectory": f"{self.root}/bot/current"}
        scene = Scene(
            Unit("wa.service", properties), str(self.path), roots, seen, tuple(named), unprivileged, elsewhere
        )
        return attached(self.asked(attach), scene)

    def install(self, switch: Switch) -> None:
        """Put the drop-in where systemd would find it."""
        self.put_drop_in("20-sessions.conf", text_of(switch))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    units = tmp_path / "units"
    monkeypatch.setattr(load_path, "SEARCH_PATH", (str(units),))
    monkeypatch.setattr(systemd_drop_in, "DIRECTORIES", {"persistent": str(units), "runtime": str(tmp_path / "run")})
    return Host(tmp_path)


def text_of(switch: Switch) -> str:
    return switch.overrides[0].text or ""


def values_of(switch: Switch) -> dict[str, str | None]:
    return dict(switch.environment_file.values) if switch.environment_file else {}


# --- a variable, or none ----------------------------------------------------------------------------------


def test_a_variable_that_is_named_stays_as_it_is(host: Host) -> None:
    found = host.decide("variable")
    assert (found.kind, found.switch) == ("variable", host.asked("variable"))


def test_with_none_only_the_rest_of_the_drop_in_is_written(host: Host) -> None:
    found = host.decide("none")
    assert "SESSIONS_PATH" not in text_of(found.switch)
    assert "OTHER=x" in text_of(found.switch)
    assert "UMask=0077" in text_of(found.switch)
    assert found.switch.environment_file is None


@pytest.mark.parametrize("value", ["auth", "./auth/", "{root}/bot/current/auth", "{root}/bot/releases/1/auth"])
def test_auto_takes_the_variable_that_leads_to_the_accounts(host: Host, value: str) -> None:
    host.put_unit(f"Environment=WA_DATA={value.format(root=host.root)} MORE=1\nExecStart=/bin/true")
    found = host.decide()
    assert found.kind == "variable"
    assert f'"WA_DATA={host.path}"' in text_of(found.switch)
    assert "SESSIONS_PATH" not in text_of(found.switch)
    assert values_of(found.switch) == {"WA_DATA": str(host.path)}

    host.install(found.switch)
    put_account(host.path / "wa1")
    assert text_of(host.decide().switch) == text_of(found.switch)


def test_auto_prefers_the_variable_that_was_named(host: Host) -> None:
    host.put_unit("Environment=A=auth SESSIONS_PATH=auth\nExecStart=/bin/true")
    assert text_of(host.decide().switch) == text_of(host.asked("auto"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
@pytest.mark.parametrize(("user", "words"), [("", "it starts as root, and .* belongs to"), ("65534", "")])
def test_a_unit_that_gives_roots_rights_up_later_started_with_them(host: Host, user: str, words: str) -> None:
    """Its main process runs as another user, or an owner was named: its mounts were made for root all the same."""
    os.chown(host.legacy.parent, 65534, 65534)
    path = str(host.path)
    sources = (Source(str(host.legacy), str(host.legacy)),)
    seen = survey(Roots(sources, path, layout_named("baileys")), {}, Choice("newest"))
    options = {"src": [str(host.legacy)], "path": path, "unit": "wa.service"}
    properties = {**dict.fromkeys(PROPERTIES, ""), "WorkingDirectory": f"{host.root}/bot/current", "User": user}
    params = migration_params.read_params(options)._replace(switch=host.asked("bind"))
    unit, identity = Unit("wa.service", properties), identity_of("0")
    owners = owners_of(unit, identity, foreign=False)
    known = Known(unit, None, identity, owners, sources, layout_named("baileys"), {}, {}, ())
    found = migration_observe._attachment(params, known, (), seen, None)
    assert found is not None
    assert re.search(words, found.refusal) if words else not found.refusal


def test_what_an_earlier_run_decided_is_read_from_its_drop_in(host: Host) -> None:
    """Without a look at anything else, and only as long as it is there as it was written."""
    unit = Unit("wa.service", {**dict.fromkeys(PROPERTIES, ""), "WorkingDirectory": f"{host.root}/bot/current"})
    sources = (Source(str(host.legacy), str(host.legacy)),)

    def by_now(attach: str = "auto") -> Attachment | None:
        return attached_by_now(host.asked(attach), unit, str(host.path), sources, unprivileged=True)

    assert by_now() is None
    for written_before in (host.decide("auto"), Attachment("variable", host.asked("auto"))):
        host.install(written_before.switch)
        found = by_now()
        assert found is not None
        assert (found.kind, found.points) == (written_before.kind, written_before.points)
        assert text_of(found.switch) == text_of(written_before.switch)
        assert found.switch.bindings == written_before.switch.bindings
        assert by_now("bind") is None
        host.put_drop_in("20-sessions.conf", f"{text_of(written_before.switch)}KillMode=none\n")
        assert by_now() is None


def by_now(host: Host, unprivileged: bool = True) -> Attachment | None:
    """What a run that finds nothing to do takes the binding of an earlier one for."""
    unit = Unit("wa.service", {**dict.fromkeys(PROPERTIES, ""), "WorkingDirectory": f"{host.root}/bot/current"})
    return attached_by_now(host.asked("auto"), unit, str(host.path), (), unprivileged=unprivileged)


@pytest.mark.parametrize(
    ("lines", "safe"),
    [
        ("ExecStartPre=+/bin/true", True),
        ("ExecStartPre=!/bin/true", False),
        ("PermissionsStartOnly=yes", False),
        ("NoNewPrivileges=no", False),
    ],
)
def test_a_binding_is_asked_each_time_whether_it_is_still_safe(host: Host, lines: str, safe: bool) -> None:
    host.install(host.decide().switch)
    assert by_now(host) is not None
    host.put_unit(f"{lines}\nExecStart=/bin/true")
    assert (by_now(host) is not None) is safe
    assert (host.decide().refusal == "") is safe


def test_a_drop_in_that_lost_what_makes_its_binding_safe_is_written_again(host: Host) -> None:
    wanted = text_of(host.decide().switch)
    host.put_drop_in("20-sessions.conf", wanted.replace("NoNewPrivileges=yes\n", ""))
    assert by_now(host) is None
    assert text_of(host.decide().switch) == wanted


@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
def test_the_way_to_the_mount_point_of_a_backend_that_runs_as_root_is_looked_at_each_time(host: Host) -> None:
    host.install(host.decide("auto", unprivileged=False).switch)
    assert by_now(host, unprivileged=False) is not None
    os.chown(host.root / "bot", 65534, 65534)
    assert by_now(host, unprivileged=False) is None
    assert "belongs to" in host.decide("auto", unprivileged=False).refusal


def test_a_variable_that_turns_out_not_to_be_read_gives_way_to_a_binding(host: Host) -> None:
    put_account(host.path / "wa1")
    host.install(host.asked("auto"))
    assert host.decide().kind == "variable"
    assert host.decide(elsewhere=True).kind == "bind"


def test_a_new_host_gets_the_variable(host: Host) -> None:
    found = host.decide("auto", host.root / "nothing")
    assert (found.kind, text_of(found.switch)) == ("variable", text_of(host.asked("auto")))


def test_what_was_done_by_hand_with_the_variable_stays_so(host: Host) -> None:
    put_account(host.path / "wa1")
    host.put_drop_in("20-sessions.conf", f"[Service]\nEnvironment=SESSIONS_PATH={host.path}\n")
    found = host.decide()
    assert (found.kind, found.switch.bindings) == ("variable", ())


# --- a binding --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attach", ["auto", "bind"])
def test_a_binding_goes_through_the_link_and_stays(host: Host, attach: str) -> None:
    found = host.decide(attach)
    line = f"BindPaths={host.path}:{host.root}/bot/current/auth"
    assert (found.kind, found.points) == ("bind", (str(host.legacy),))
    assert line in text_of(found.switch)
    assert "NoNewPrivileges=yes" in text_of(found.switch)
    assert (f"SESSIONS_PATH={host.path}" in text_of(found.switch)) == (attach == "auto")

    host.install(found.switch)
    second = host.decide(attach)
    assert text_of(second.switch) == text_of(found.switch)
    (host.root / "bot/releases/2").mkdir()
    (host.root / "bot/current").unlink()
    (host.root / "bot/current").symlink_to("releases/2")
    redeployed = host.decide(attach, host.root / "gone")
    assert text_of(redeployed.switch) == text_of(found.switch)
    assert redeployed.points == ()


def test_a_path_outside_of_the_working_directory_is_named_as_it_is(host: Host) -> None:
    put_account(host.root / "data/auth/wa1")
    found = host.decide("bind", host.root / "data/auth")
    assert found.switch.bindings == (Binding(str(host.path), f"{host.root}/data/auth"),)


def test_a_backend_that_runs_as_root_keeps_its_privileges(host: Host) -> None:
    assert "NoNewPrivileges" not in text_of(host.decide("bind", unprivileged=False).switch)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
def test_nobody_but_root_rules_the_mount_point_of_a_backend_that_runs_as_root(host: Host) -> None:
    os.chown(host.root / "bot", 65534, 65534)
    refusal = host.decide("bind", unprivileged=False).refusal
    assert f"it starts as root, and {host.root}/bot belongs to" in refusal
    assert host.decide("bind").refusal == ""
    assert host.decide("auto", unprivileged=False).kind == "variable"


def test_what_was_bound_by_an_earlier_run_is_not_given_up_in_silence(host: Host) -> None:
    host.install(host.decide().switch)
    host.put_unit("NoNewPrivileges=no\nExecStart=/bin/true")
    assert "sets NoNewPrivileges=no" in host.decide().refusal


def test_what_is_bound_already_is_respected(host: Host) -> None:
    host.put_unit(f"BindPaths=/srv/x:/srv/y {host.path}:{host.root}/bot/current/auth\nExecStart=/bin/true")
    found = host.decide()
    assert (found.kind, text_of(found.switch)) == ("bind", text_of(host.asked("auto")))
    assert found.switch.bindings == (Binding(str(host.path), f"{host.root}/bot/current/auth"),)


@pytest.mark.parametrize("at", ["bot/current/auth", "bot/current", "bot/releases/1/auth"])
def test_something_else_that_is_bound_there_is_named(host: Host, at: str) -> None:
    host.put_unit(f"ExecStart=/bin/true\nBindPaths=/srv/x:{host.root}/{at}")
    assert f"{host.root}/units/wa.service line 4 mounts /srv/x at {host.root}/{at}" in host.decide().refusal


def test_a_binding_that_was_reset_or_shows_a_place_as_it_is_is_no_matter(host: Host) -> None:
    host.put_unit(f"ExecStart=/bin/true\nBindPaths=/srv/x:{host.legacy}\nBindPaths=\nBindPaths={host.root}/bot")
    assert host.decide().refusal == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ExecStartPre=-!/bin/true", "line 3 runs commands as root with the unit's mounts"),
        ("PermissionsStartOnly=yes", "line 3 runs commands as root with the unit's mounts"),
        ("NoNewPrivileges=no", "line 3 sets NoNewPrivileges=no"),
    ],
)
def test_who_rules_the_mount_points_must_not_become_root(host: Host, line: str, words: str) -> None:
    host.put_unit(f"{line}\nExecStart=/bin/true")
    assert words in host.decide("bind").refusal
    assert host.decide("bind", unprivileged=False).refusal == ""
    assert host.decide("auto").kind == "variable"


def test_commands_with_the_mounts_of_the_host_are_no_matter(host: Host) -> None:
    host.put_unit("ExecStartPre=+/bin/true\nExecStart=/bin/true")
    assert host.decide("bind").refusal == ""


def test_the_directory_of_the_program_is_never_hidden(host: Host) -> None:
    put_account(host.root / "bot/releases/1/wa1")
    release = host.root / "bot/releases/1"
    assert "also holds the program, which a bind mount would hide" in host.decide("bind", release).refusal
    assert host.decide("auto", release).kind == "variable"


def test_on_a_new_host_the_directory_has_to_be_named(host: Host) -> None:
    nothing = host.root / "nothing"
    assert "no setting shows where its program looks" in host.decide("bind", nothing).refusal
    found = host.decide("bind", nothing, named=[f"{host.root}/bot/current/auth"])
    assert found.switch.bindings == (Binding(str(host.path), f"{host.root}/bot/current/auth"),)
    assert found.refusal == ""


def test_a_path_that_systemd_cannot_mount_is_named(host: Host) -> None:
    odd = host.root / "o'clock/auth"
    put_account(odd / "wa1")
    assert "a name in them has a quotation mark" in host.decide("bind", odd).refusal
    assert host.decide("auto", odd).kind == "variable"


def test_several_directories_are_listed(host: Host) -> None:
    """Two devices under one name are two accounts all the same."""
    put_account(host.root / "shop/auth/wa1", number=2)
    roots = (host.legacy, host.root / "shop/auth")
    for found in (roots, roots[::-1]):
        listed = ", ".join(map(str, sorted(roots)))
        assert f"keeps accounts in 2 directories ({listed})" in host.decide("auto", *found).refusal
    assert "2 directories" in host.decide("bind", *roots, named=("/named",)).refusal
    assert host.decide("auto", *roots, named=("/named",)).kind == "variable"


# --- dotenv -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    ["SESSIONS=./auth", "export SESSIONS = 'auth' # x", 'SESSIONS="{root}/bot/current/auth"', "SESSIONS=auth #x"],
)
def test_a_file_of_variables_that_leads_to_the_accounts_is_named(host: Host, line: str) -> None:
    text = f"TOKEN=s3cret\n{line.format(root=host.root)}\n"
    put_file(host.root / "bot/releases/1/.env", text)
    found = host.decide("variable")
    assert found.dotenv == f"{host.root}/bot/current/.env sets SESSIONS, which leads to the legacy path"
    assert found.dotenv in found.hint


@pytest.mark.parametrize("what", ["fifo", "large", "link", "other"])
def test_a_file_of_variables_is_read_only_as_far_as_it_is_safe(host: Host, what: str) -> None:
    file = host.root / "bot/releases/1/.env"
    if what == "fifo":
        os.mkfifo(file)
    elif what == "link":
        file.symlink_to(put_file(host.root / "secret", "SESSIONS=auth\n"))
    else:
        put_file(file, "SESSIONS=auth\n" + "#" * 70_000 if what == "large" else "SESSIONS=elsewhere\n")
    assert host.decide("variable").dotenv == ""


# --- how bindings are written -----------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["/srv/a", "/srv/a b:c\\d$", "/srv/ü"])
@pytest.mark.parametrize("directory", ["/opt/x", "/opt/x: y"])
def test_what_is_written_is_read_again(source: str, directory: str) -> None:
    binding = Binding(source, directory)
    assert read_items(written(binding)) == (binding,)
    assert read_items(f" {written(binding)}  /a:/b:norbind ") == (binding, Binding("/a", "/b"))


@pytest.mark.parametrize("character", ["\n", "\r", "\x7f", "\udc80", "'", '"'])
def test_a_path_never_becomes_a_line(character: str) -> None:
    with pytest.raises(SessionsError, match="cannot be mounted at"):
        written(Binding("/srv/a", f"/opt/x{character}ExecStartPre=+/bin/true"))


def test_a_percent_sign_is_no_specifier() -> None:
    assert written(Binding("/srv/%n", "/opt/x")) == "/srv/%%n:/opt/x"


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("", ()),
        ("/a", (("/a", "/a"),)),
        ("/a /b:/c", (("/a", "/a"), ("/b", "/c"))),
        ("-/a:/b:rbind /c", (("-/a", "/b"), ("/c", "/c"))),
        (r"/a\:b:/c", (("/a:b", "/c"),)),
        ('"/a b":"/c:d"', (("/a b", "/c:d"),)),
    ],
)
def test_items_are_read_as_systemd_does(value: str, items: tuple[t.Any, ...]) -> None:
    assert read_items(value) == items
