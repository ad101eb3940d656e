# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd_override, the real module as root with the real systemd-analyze, where no systemd runs: as in an image build."""

from __future__ import annotations

import os
import pathlib
import stat
import typing as t

import pytest

from conftest import Mount, RunModule

CANARY = "5511999990000"
ETC = pathlib.Path("/etc/systemd/system")
LIB = pathlib.Path("/usr/local/lib/systemd/system")
PATH = ETC / "wa.service.d" / "20-sessions.conf"
FRAGMENT = "[Service]\nExecStart=/bin/sleep infinity\n"
SECTIONS = {
    "Unit": {"RequiresMountsFor": "/var/lib/wa"},
    "Service": {
        "Environment": {"SESSIONS_PATH": "/var/lib/wa/sessions", "INSTANCE_ID": "%H"},
        "UMask": "0077",
        "KillSignal": "SIGTERM",
    },
}


class Run(t.Protocol):
    def __call__(self, **options: t.Any) -> dict[str, t.Any]: ...


@pytest.fixture
def override(run_module: RunModule, mount: Mount) -> Run:
    """Run the module for the unit ``wa`` of a private /etc/systemd/system; nothing of this machine's is touched."""
    mount("tmpfs", ETC)
    mount("tmpfs", LIB)
    (LIB / "wa.service").write_text(FRAGMENT)

    def run(**options: t.Any) -> dict[str, t.Any]:
        wanted = {"unit": "wa", "name": "20-sessions", "sections": SECTIONS, "daemon_reload": False, **options}
        return run_module("systemd_override", **wanted)

    return run


@pytest.fixture(autouse=True)
def _no_systemd(_own_mounts: None, mount: Mount) -> None:
    if os.path.isdir("/run/systemd/system"):
        mount("tmpfs", pathlib.Path("/run/systemd"))


def test_check_mode_foresees_then_a_run_writes_then_nothing_changes(override: Run) -> None:
    foreseen = override(check=True, diff=True)
    assert list(ETC.iterdir()) == []
    made = override(diff=True)
    before = PATH.stat()
    again = override(diff=True)
    assert [foreseen["changed"], made["changed"], again["changed"]] == [True, True, False]
    assert foreseen["diff"] == made["diff"]
    assert made["diff"]["before"] == ""
    assert made["diff"]["after"] == PATH.read_text() == again["diff"]["before"] == again["diff"]["after"]
    assert PATH.stat() == before
    assert stat.S_IMODE(before.st_mode) == 0o644
    for told in (foreseen, made, again):
        assert {name: told[name] for name in ("path", "unit", "scope", "shadowed", "needs_restart")} == {
            "path": str(PATH),
            "unit": "wa.service",
            "scope": "persistent",
            "shadowed": [],
            "needs_restart": False,
        }
        assert told["effective"] == {
            "Unit": {"RequiresMountsFor": ["/var/lib/wa"]},
            "Service": {
                "Environment": {"SESSIONS_PATH": "/var/lib/wa/sessions", "INSTANCE_ID": os.uname().nodename},
                "UMask": "0077",
                "KillSignal": "SIGTERM",
            },
        }


def test_absent(override: Run) -> None:
    override()
    assert override(state="absent", check=True)["changed"]
    assert PATH.exists()
    assert override(state="absent", sections=None)["changed"]
    assert list(ETC.iterdir()) == []
    assert not override(state="absent")["changed"]


def test_absent_leaves_other_drop_ins(override: Run) -> None:
    override()
    other = PATH.with_name("override.conf")
    other.write_text("[Service]\nNice=5\n")
    override(state="absent")
    assert list(PATH.parent.iterdir()) == [other]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"sections": {"Service": {"KillSignl": "INT"}}},
            "option KillSignl in section [Service]; did you mean KillSignal?",
        ),
        ({"sections": {"Servce": {"KillSignal": "INT"}}}, "section [Servce]; did you mean Service?"),
        ({"sections": {"Service": {"RequiresMountsFor": "/x"}}}, "it belongs in [Unit]"),
        ({"sections": {"Service": {"TimeoutStopSec": "soon"}}}, "value of TimeoutStopSec in section [Service]"),
        ({"sections": {"Service": {"ReadWritePaths": "relative"}}}, "value of ReadWritePaths"),
        ({"sections": {"Service": {"ExecStart": "/bin/true"}}}, "systemd would refuse to run wa.service"),
        ({"sections": {"Service": {"X": "a\nb"}}}, "newline"),
        ({"sections": {"Service": {"UMask": 63}}}, "quote it"),
        ({"sections": {"Service": {"Environment": {"A B": "x"}}}}, "variable name"),
        ({"sections": {}}, "'sections' is empty"),
        ({"sections": None}, "sections"),
        ({"name": "../evil"}, "'name' is"),
        ({"name": ".hidden"}, "'name' is"),
        ({"name": ""}, "'name' is"),
        ({"unit": "nope"}, "nope.service does not exist"),
        ({"unit": "a/b"}, "not a valid unit name"),
        ({"daemon_reload": True}, "daemon_reload: false"),
        ({"scope": "runtime"}, "scope: persistent"),
    ],
)
@pytest.mark.parametrize("check", [False, True], ids=["run", "check"])
def test_refused_in_one_sentence_with_nothing_changed(
    override: Run, options: dict[str, t.Any], words: str, check: bool
) -> None:
    failed = override(check=check, **options)
    assert failed["failed"]
    assert words in failed["msg"]
    assert "\n" not in failed["msg"]
    assert list(ETC.iterdir()) == []


def test_a_refused_change_leaves_the_former_drop_in(override: Run) -> None:
    override()
    before = PATH.read_bytes()
    assert override(sections={"Service": {"KillSignl": "INT"}})["failed"]
    assert PATH.read_bytes() == before
    assert override(sections={"Service": {"KillSignl": "INT"}}, validate=False)["changed"]


def test_faults_of_others_do_not_matter(override: Run) -> None:
    (LIB / "wa.service").write_text(FRAGMENT + "NoSuchOption=1\n")
    assert override()["changed"]


def test_shadowed(override: Run) -> None:
    later = ETC / "wa.service.d" / "override.conf"
    later.parent.mkdir()
    later.write_text("[Service]\nKillSignal=SIGINT\n")
    env = ETC / "env"
    env.write_text("# by hand\nSESSIONS_PATH=.baileys_auth\n")
    (LIB / "wa.service").write_text(f"{FRAGMENT}EnvironmentFile={env}\n")
    shadows = [
        {
            "section": "Service",
            "option": "Environment",
            "variable": "SESSIONS_PATH",
            "file": str(env),
            "line": 2,
            "value": ".baileys_auth",
        },
        {"section": "Service", "option": "KillSignal", "file": str(later), "line": 2, "value": "SIGINT"},
    ]
    failed = override(on_shadowed="fail")
    assert failed["failed"]
    assert not PATH.exists()
    assert f"line 2 of {env}" in failed["msg"]
    assert failed["shadowed"] == shadows
    warned = override()
    assert warned["shadowed"] == shadows
    assert warned["effective"]["Service"]["Environment"]["SESSIONS_PATH"] == ".baileys_auth"
    assert [str(env) in warning or str(later) in warning for warning in warned["warnings"]] == [True, True]
    assert not override(on_shadowed="ignore").get("warnings")
    later.unlink()
    env.write_text("SESSIONS_PATH=/var/lib/wa/sessions\n")
    assert override(on_shadowed="fail")["shadowed"] == []


def test_sensitive_values_are_nowhere(override: Run) -> None:
    sections = {"Service": {"Environment": {"TOKEN": CANARY}, "LogExtraFields": f"X={CANARY}"}}
    later = ETC / "wa.service.d" / "override.conf"
    later.parent.mkdir()
    later.write_text(f"[Service]\nEnvironment=TOKEN=other-{CANARY}\n")
    results = [
        override(sections=sections, sensitive=True, diff=True, check=True),
        override(sections=sections, sensitive=True, diff=True),
        override(sections=sections, sensitive=True, diff=True),
        override(sections={"Service": {"TimeoutStopSec": CANARY + "x"}}, sensitive=True, diff=True),
        override(sections=sections, sensitive=True, on_shadowed="fail"),
        override(sections=sections, sensitive=True, on_shadowed="no such choice"),
        override(sections=sections, sensitive=True, state="absent", diff=True),
    ]
    assert [bool(result.get("failed")) for result in results] == [False, False, False, True, True, True, False]
    assert CANARY not in repr(results)


def test_a_sensitive_file_is_root_s_alone_and_later_diffs_hide_it(override: Run) -> None:
    override(sections={"Service": {"Environment": {"TOKEN": CANARY}}}, sensitive=True)
    assert stat.S_IMODE(PATH.stat().st_mode) == 0o600
    shown = override(diff=True)["diff"]
    assert CANARY not in repr(shown)
    assert stat.S_IMODE(PATH.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("unit", "fragment", "directory"),
    [
        ("wa@.service", "wa@.service", "wa@.service.d"),
        ("wa@1.service", "wa@.service", "wa@1.service.d"),
        ("wa.socket", "wa.socket", "wa.socket.d"),
    ],
)
def test_templates_instances_and_other_units(override: Run, unit: str, fragment: str, directory: str) -> None:
    text = "[Socket]\nListenStream=/run/x\n" if unit.endswith("socket") else FRAGMENT
    (LIB / fragment).write_text(text)
    sections = {"Unit": {"Description": "%i"}}
    assert override(unit=unit, sections=sections)["changed"]
    assert (ETC / directory / "20-sessions.conf").exists()
    assert not override(unit=unit, sections=sections)["changed"]
    assert override(unit=unit, sections={"Unit": {"Descripton": "x"}})["failed"]


def test_backup(override: Run) -> None:
    override()
    before = PATH.read_bytes()
    kept = pathlib.Path(override(sections={"Service": {"Nice": 5}}, backup=True)["backup_file"])
    assert kept.read_bytes() == before
    assert not kept.name.endswith(".conf")
    assert "backup_file" not in override(sections={"Service": {"Nice": 5}}, backup=True)
