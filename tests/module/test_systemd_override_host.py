# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd_override on real hosts: what it says is held against what systemd and the process really have."""

from __future__ import annotations

import json
import os
import random
import re
import textwrap
import typing as t

import pytest

from conftest import Host

UTILS = "ansible_collections.whatsapp_ops.sessions.plugins.module_utils"
CANARY = "CANARY-of-a-drop-in"  # other tests have their own in the journal of the same host
ETC = "/etc/systemd/system"
PATH = f"{ETC}/wa.service.d/20-sessions.conf"
UNIT = "[Service]\nExecStart=/bin/sleep infinity\nEnvironment=LEGACY=1\n"
pytestmark = pytest.mark.slow
SECTIONS = {"Service": {"Environment": {"SESSIONS_PATH": "/var/lib/wa", "INSTANCE_ID": "%H"}, "UMask": "0077"}}


class Backend:
    """The unit ``wa`` on a booted throw-away host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def run(self, command: str) -> str:
        return self._host.ssh(command)

    def put(self, path: str, text: str) -> None:
        self._host.ssh(f"mkdir -p {os.path.dirname(path)} && cat >{path}", stdin=text)

    def python(self, code: str, *, given: str = "") -> str:
        assert "'" not in code
        return self._host.python(f"-c '{code}'", stdin=given)

    def override(self, **options: t.Any) -> dict[str, t.Any]:
        """Run the module for the unit."""
        return self._host.run_module(
            "systemd_override", **{"unit": "wa", "name": "20-sessions", "sections": SECTIONS, **options}
        )

    def show(self, name: str, unit: str = "wa") -> str:
        return self.run(f"systemctl show --value -p {name} {unit}").strip()

    def process(self, unit: str = "wa") -> dict[str, str]:
        """The environment that the unit's main process was started with."""
        items = self.run(f"cat /proc/{self.show('MainPID', unit)}/environ").split("\0")
        return dict(item.split("=", 1) for item in items if item)


@pytest.fixture
def wa(host: Host) -> t.Iterator[Backend]:
    """The running unit, and nothing else of an earlier test."""
    backend = Backend(host)
    backend.put(f"{ETC}/wa.service", UNIT)
    backend.run("systemctl daemon-reload && systemctl start wa")
    yield backend
    made = f"{ETC}/wa* {ETC}/other* {ETC}/service.d /run/systemd/system/wa* /usr/local/lib/systemd/system /etc/wa"
    backend.run(f"systemctl stop 'wa*.service'; systemctl reset-failed; rm -rf {made}; systemctl daemon-reload")


def test_from_nothing_to_a_restart_and_no_further(wa: Backend) -> None:
    pid = wa.show("MainPID")
    foreseen = wa.override(check=True)
    made = wa.override()
    again = wa.override()
    assert [(result["changed"], result["needs_restart"]) for result in (foreseen, made, again)] == [
        (True, True),
        (True, True),
        (False, True),
    ]
    assert wa.show("MainPID") == pid
    assert "SESSIONS_PATH" not in wa.process()
    wa.run("systemctl restart wa")
    after = wa.override()
    assert (after["changed"], after["needs_restart"]) == (False, False)
    environment = wa.process()
    assert after["effective"]["Service"]["Environment"] == {
        name: environment[name] for name in ("SESSIONS_PATH", "INSTANCE_ID")
    }
    assert after["effective"] == foreseen["effective"]
    assert environment["INSTANCE_ID"] == wa.run("uname -n").strip()


def test_a_play_that_died_before_the_reload(wa: Backend) -> None:
    assert wa.override(daemon_reload=False)["changed"]
    wa.run("systemctl restart wa")  # with what systemd has loaded: a drop-in that is not
    assert "SESSIONS_PATH" not in wa.process()
    picked_up = wa.override()
    assert (picked_up["changed"], picked_up["needs_restart"]) == (True, True)
    assert wa.show("NeedDaemonReload") == "no"
    assert (wa.override()["changed"], wa.override()["needs_restart"]) == (False, True)


def test_a_file_whose_time_was_set_back(wa: Backend) -> None:
    wa.override()
    wa.run("systemctl restart wa")
    wa.put(f"{ETC}/wa.service.d/10-x.conf", "[Service]\nEnvironment=X=1\n")
    wa.run(
        f"systemctl daemon-reload; sed s/X=1/X=2/ {ETC}/wa.service.d/10-x.conf >/tmp/x; touch -d 2001-01-01 /tmp/x; "
        f"cp -p /tmp/x {ETC}/wa.service.d/10-x.conf"
    )
    assert wa.show("NeedDaemonReload") == "no"
    assert wa.override(check=True)["changed"]
    assert wa.override()["changed"]
    assert "X=2" in wa.show("Environment")
    assert not wa.override()["changed"]


def test_an_environment_file_beats_the_drop_in(wa: Backend) -> None:
    wa.put("/etc/wa/env", "# by hand\nSESSIONS_PATH=.baileys_auth\n")
    wa.put(f"{ETC}/wa.service.d/05-env.conf", "[Service]\nEnvironmentFile=/etc/wa/env\n")
    failed = wa.override(on_shadowed="fail")
    assert failed["failed"]
    assert wa.run(f"ls {ETC}/wa.service.d").split() == ["05-env.conf"]
    beaten = wa.override()
    assert [(shadow["variable"], shadow["file"], shadow["line"], shadow["value"]) for shadow in beaten["shadowed"]] == [
        ("SESSIONS_PATH", "/etc/wa/env", 2, ".baileys_auth")
    ]
    wa.run("systemctl restart wa")
    assert (
        wa.process()["SESSIONS_PATH"]
        == beaten["effective"]["Service"]["Environment"]["SESSIONS_PATH"]
        == ".baileys_auth"
    )
    assert not wa.override()["needs_restart"]
    wa.put("/etc/wa/env", "SESSIONS_PATH=/var/lib/wa\n")
    fixed = wa.override()
    assert (fixed["changed"], fixed["shadowed"], fixed["needs_restart"]) == (False, [], True)


def test_stop_options_need_no_restart_and_others_do_until_it_happened(wa: Backend) -> None:
    graceful = {
        "Service": {"KillSignal": "SIGINT", "KillMode": "mixed", "TimeoutStopSec": 120},
        "Unit": {"Description": "x"},
    }
    made = wa.override(name="10-graceful-stop", sections=graceful)
    assert (made["changed"], made["needs_restart"]) == (True, False)
    assert (wa.show("KillSignal"), wa.show("TimeoutStopUSec")) == ("2", "2min")
    sandbox = {"Service": {"ReadWritePaths": "/var/lib"}}
    assert [wa.override(name="30-x", sections=sandbox)["needs_restart"] for _run in range(2)] == [True, True]
    wa.run("systemctl restart wa && systemctl daemon-reload")
    assert not wa.override(name="30-x", sections=sandbox)["needs_restart"]
    gone = wa.override(name="30-x", state="absent", sections=None)
    assert (gone["changed"], gone["needs_restart"]) == (True, True)


def test_removal_is_not_done_before_the_restart(wa: Backend) -> None:
    wa.override()
    wa.run("systemctl restart wa")
    assert [wa.override(state="absent")["needs_restart"] for _run in range(2)] == [True, True]
    wa.run("systemctl restart wa")
    assert not wa.override(state="absent")["needs_restart"]


def test_a_wrapper_does_not_ask_for_restarts_for_ever(wa: Backend) -> None:
    wa.put(f"{ETC}/wa.service", "[Service]\nExecStart=/usr/bin/env -i /bin/sleep infinity\n")
    wa.run("systemctl daemon-reload && systemctl restart wa")
    assert wa.override()["needs_restart"]
    wa.run("systemctl restart wa")
    assert not wa.override()["needs_restart"]


def test_a_stopped_unit_needs_no_restart(wa: Backend) -> None:
    wa.run("systemctl stop wa")
    assert not wa.override()["needs_restart"]


def test_instances_of_a_template(wa: Backend) -> None:
    wa.put(f"{ETC}/wa@.service", UNIT)
    wa.run("systemctl daemon-reload && systemctl start wa@1 wa@2")
    sections = {"Service": {"Environment": {"SESSIONS_PATH": "/var/lib/wa-%i"}}}
    assert wa.override(unit="wa@.service", sections=sections)["needs_restart"]
    wa.run("systemctl restart wa@1")
    assert wa.override(unit="wa@.service", sections=sections)["needs_restart"]
    wa.run("systemctl restart wa@2")
    done = wa.override(unit="wa@.service", sections=sections)
    assert (done["changed"], done["needs_restart"]) == (False, False)
    assert wa.process("wa@2")["SESSIONS_PATH"] == "/var/lib/wa-2"
    own = wa.override(unit="wa@1", sections={"Service": {"Environment": {"SESSIONS_PATH": "/own"}}}, name="30")
    assert (own["needs_restart"], own["effective"]["Service"]["Environment"]["SESSIONS_PATH"]) == (True, "/own")


def test_runtime(wa: Backend) -> None:
    made = wa.override(scope="runtime")
    assert made["path"] == "/run/systemd/system/wa.service.d/20-sessions.conf"
    assert made["path"] in wa.show("DropInPaths")
    hidden = wa.override(sections={"Service": {"Nice": 1}})
    assert hidden["shadowed"] == []
    assert {shadow["line"] for shadow in wa.override(scope="runtime")["shadowed"]} == {0}


def test_sensitive_values_are_not_in_the_journal(wa: Backend) -> None:
    told = wa.override(sections={"Service": {"Environment": {"TOKEN": CANARY}}}, sensitive=True, diff=True)
    assert told["changed"]
    assert CANARY not in repr(told)
    journal = wa.run("journalctl --no-pager --all -o json")  # other tests have units say what is no text
    assert "Invoked with sensitive options" in journal
    assert CANARY not in journal


def test_a_typo_never_reaches_etc(wa: Backend) -> None:
    for options in ({"check": True}, {}):
        failed = wa.override(sections={"Service": {"KillSignl": "INT"}}, **options)
        assert "did you mean KillSignal?" in failed["msg"]
        assert wa.run(f"ls -d {ETC}/wa.service.d || true").strip() == ""
    assert wa.show("NeedDaemonReload") == "no"


def test_drop_ins_are_found_in_systemd_s_own_order(wa: Backend) -> None:
    wa.put(f"{ETC}/wa-back@.service", UNIT)
    wa.run(f"ln -s wa-back@.service {ETC}/other@.service; ln -s wa.service {ETC}/other.service")
    random.seed(4)
    directories = [
        f"{above}/{name}.d"
        for above in (ETC, "/run/systemd/system", "/usr/local/lib/systemd/system")
        for name in (
            "wa-back@1.service",
            "wa-back@.service",
            "wa-@1.service",
            "wa-@.service",
            "wa-.service",
            "service",
            "wa.service",
            "other.service",
        )
    ]
    names = ["100-x", "20-y", "9-z", "Z-up", "_u", "a-low", "override", "é"]
    paths = [f"{directory}/{name}.conf" for directory in directories for name in random.sample(names, 4)]
    wa.run(f"mkdir -p {' '.join(directories)} && touch {' '.join(paths)}")
    wa.run(
        f"ln -sf /dev/null {ETC}/wa.service.d/20-y.conf; touch {ETC}/wa.service.d/.hidden.conf {ETC}/wa.service.d/x.conf~; "
        "systemctl daemon-reload"
    )
    wa.run("systemctl start wa wa-back@1")
    for unit in ("wa.service", "wa-back@1.service"):
        code = f'from {UTILS}._systemd.load_path import drop_ins; print(*(file.path for file in drop_ins("{unit}")))'
        assert wa.python(code).split() == wa.show("DropInPaths", unit).split()


def test_environment_files_are_read_as_this_systemd_reads_them(wa: Backend) -> None:
    pieces = [
        "A",
        "B",
        "=",
        "=",
        '"',
        "'",
        "\\",
        "\n",
        "\n",
        " ",
        "\t",
        "#",
        ";",
        "$",
        "`",
        "x",
        "\r",
        "export ",
        "-",
        "é",
    ]
    random.seed(7)
    texts = ["A=" + "".join(random.choices(pieces, k=random.randint(1, 24))) for _case in range(150)]
    code = textwrap.dedent(f"""
        import json, os, re, subprocess, sys
        from {UTILS}._systemd import environment_file as _environment_file
        texts = json.load(sys.stdin)
        version = int(re.search("[0-9]+", subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout)[0])
        os.makedirs("/etc/wa")
        for number, text in enumerate(texts):
            open(f"/etc/wa/{{number}}", "w", newline="").write(text)
            out = f"StandardOutput=file:/etc/wa/{{number}}.out"
            body = f"[Service]\\nType=oneshot\\nEnvironmentFile=/etc/wa/{{number}}\\n{{out}}\\nExecStart=/usr/bin/env -0\\n"
            open(f"/run/systemd/system/wa-fz{{number}}.service", "w").write(body)
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        subprocess.run(["systemctl", "start", *(f"wa-fz{{number}}.service" for number in range(len(texts)))], check=True)
        for number, text in enumerate(texts):
            has = dict(item.split("=", 1) for item in open(f"/etc/wa/{{number}}.out", newline="").read().split("\\0") if item)
            has = {{name: value for name, value in has.items() if set(name) <= set("ABxexport")}}
            says = {{found.name: found.value for found in _environment_file.parse(text, version=version)}}
            if has != says:
                print(repr(text), has, says)
    """)
    assert wa.python(code, given=json.dumps(texts)) == ""


def test_settings_are_taken_as_systemd_takes_them(wa: Backend) -> None:
    values = {
        "A": "a b",
        "B": 'quote " and \\ back',
        "C": "100%% $HOME",
        "D": "it's",
        "E": "",
        "F": "tab\there",
        "G": "é %i|%n",
        "H": "# ; x",
    }
    wa.override(sections={"Service": {"Environment": values}})
    wa.run("systemctl restart wa")
    environment = wa.process()
    expected = {**values, "C": "100% $HOME", "G": "é |wa.service"}
    assert {name: environment[name] for name in values} == expected
    assert wa.override(sections={"Service": {"Environment": values}})["effective"]["Service"]["Environment"] == expected
    assert re.fullmatch("[0-9]+", wa.show("MainPID"))
