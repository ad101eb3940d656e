# SPDX-License-Identifier: GPL-3.0-or-later
"""The job of systemd_override: what it refuses, what it plans, what it tells, and when it asks for a restart."""

from __future__ import annotations

import math
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.command import Completed
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import drop_in as systemd_drop_in
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import load_path, restart_needed
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import verify as systemd_verify
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.drop_in import (
    Evidence,
    File,
    Params,
    State,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.effective import Placed, Sources
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.file_steps import (
    Backup,
    Reload,
    Remove,
    RemoveDirectory,
    Write,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.load_path import UnitFile, name_parts
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.restart_needed import Moments
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit_file import read_sections
from striker import striking

SECTIONS = {"Service": {"Environment": {"A": "CANARY"}, "KillSignal": "SIGTERM"}}
DIRECTORY = "/etc/systemd/system/wa.service.d"
PATH = f"{DIRECTORY}/20-sessions.conf"
SHADOW = {
    "section": "Service",
    "option": "Environment",
    "variable": "A",
    "file": "/etc/wa/env",
    "line": 3,
    "value": "x",
}


def params(**options: t.Any) -> Params:
    return systemd_drop_in.read_params({"unit": "wa", "name": "20-sessions", "sections": SECTIONS, **options})


def file(text: str | None = None, **fields: t.Any) -> File:
    return File(text if text is not None else params().text or "", 0o644, (0, 0), alone=True)._replace(**fields)


def state(drop_in: File | None = None, **fields: t.Any) -> State:
    return State(drop_in, {}, (), stale=False, unloaded=False, outdated_options=(), missing_files=())._replace(**fields)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, PATH),
        ({"name": "20-sessions.conf"}, PATH),
        ({"name": None}, f"{DIRECTORY}/override.conf"),
        ({"unit": "wa.service"}, PATH),
        ({"unit": "wa@.service"}, "/etc/systemd/system/wa@.service.d/20-sessions.conf"),
        ({"unit": "wa@1"}, "/etc/systemd/system/wa@1.service.d/20-sessions.conf"),
        ({"unit": "wa.socket"}, "/etc/systemd/system/wa.socket.d/20-sessions.conf"),
        ({"scope": "runtime"}, "/run/systemd/system/wa.service.d/20-sessions.conf"),
    ],
)
def test_path(options: dict[str, t.Any], path: str) -> None:
    assert params(**options).path == path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *[({"name": name}, "'name' is") for name in ("", ".hidden", "a/b", "../x", "a b", "a\nb", ".conf", "x" * 300)],
        *[({"unit": unit}, "not a valid unit name") for unit in ("", "a/b", "a b", "wa\n", "../x")],
        ({"sections": {}}, "'sections' is empty"),
        ({"sections": None}, "'sections' is empty"),
        ({"sections": {"Service": {"A": "CANARY\n"}}}, "newline"),
    ],
)
def test_refused_options(options: dict[str, t.Any], words: str) -> None:
    with pytest.raises(SessionsError, match=words) as refused:
        params(**options)
    assert "CANARY" not in str(refused.value)


def test_defaults_are_the_module_s() -> None:
    wanted = systemd_drop_in.read_params({"unit": "wa", "sections": SECTIONS})
    assert (wanted.daemon_reload, wanted.validate, wanted.on_shadowed, wanted.sensitive, wanted.backup) == (
        True,
        True,
        "warn",
        False,
        False,
    )


OURS = params().text or ""
WRITE = Write(PATH, OURS, 0o644)
PLANS = [
    pytest.param({}, state(), (WRITE, Reload()), id="new"),
    pytest.param({}, state(file()), (), id="nothing to do"),
    pytest.param({}, state(file("other")), (WRITE, Reload()), id="other text"),
    pytest.param({}, state(file(mode=0o600)), (WRITE, Reload()), id="other mode"),
    pytest.param({}, state(file(owner=(1, 0))), (WRITE, Reload()), id="other owner"),
    pytest.param({"sensitive": True}, state(file()), (Write(PATH, OURS, 0o600), Reload()), id="now sensitive"),
    pytest.param({}, state(file(), stale=True), (Reload(),), id="a play died before the reload"),
    pytest.param({"daemon_reload": False}, state(file(), stale=True), (), id="the reload is somebody else's"),
    pytest.param({"daemon_reload": False}, state(), (WRITE,), id="no reload"),
    pytest.param({"backup": True}, state(file("x")), (Backup(PATH, 0o644), WRITE, Reload()), id="backup"),
    pytest.param({"backup": True}, state(), (WRITE, Reload()), id="nothing to back up"),
    pytest.param({"backup": True}, state(file(mode=0o600)), (WRITE, Reload()), id="no backup of the same text"),
    pytest.param({"state": "absent"}, state(), (), id="gone already"),
    pytest.param(
        {"state": "absent"},
        state(file()),
        (Remove(PATH), RemoveDirectory(DIRECTORY), Reload()),
        id="removed with its directory",
    ),
    pytest.param({"state": "absent"}, state(file(alone=False)), (Remove(PATH), Reload()), id="others stay"),
    pytest.param(
        {"state": "absent", "backup": True},
        state(file()),
        (Backup(PATH, 0o644), Remove(PATH), Reload()),
        id="backup stays",
    ),
    pytest.param({}, state(shadowed=(SHADOW,)), (WRITE, Reload()), id="shadowed, warn"),
    pytest.param({"on_shadowed": "ignore"}, state(shadowed=(SHADOW,)), (WRITE, Reload()), id="shadowed, ignore"),
]


@pytest.mark.parametrize(("options", "seen", "steps"), PLANS)
def test_plan(options: dict[str, t.Any], seen: State, steps: tuple[t.Any, ...]) -> None:
    assert systemd_drop_in.plan(seen, params(**options)) == steps


@pytest.mark.parametrize("drop_in", [None, file()], ids=["before it is written", "when it is there"])
def test_shadowed_fails(drop_in: File | None) -> None:
    with pytest.raises(
        SessionsError, match=r"variable A .* line 3 of /etc/wa/env overrides it.*nothing was changed"
    ) as failed:
        systemd_drop_in.plan(state(drop_in, shadowed=(SHADOW,)), params(on_shadowed="fail"))
    assert failed.value.facts == {"shadowed": [SHADOW]}


@pytest.mark.parametrize(
    ("options", "seen", "before", "after"),
    [
        ({}, state(), "", OURS),
        ({}, state(file()), OURS, OURS),
        ({"state": "absent"}, state(file()), OURS, ""),
        ({"sensitive": True}, state(file("CANARY")), "(sensitive)\n", "(sensitive)\n"),
        ({"sensitive": True}, state(), "", "(sensitive)\n"),
        ({}, state(file("old CANARY", mode=0o600)), "(sensitive)\n", OURS),
        ({"state": "absent", "sensitive": True}, state(file()), "(sensitive)\n", ""),
    ],
)
def test_diff(options: dict[str, t.Any], seen: State, before: str, after: str) -> None:
    wanted = params(**options)
    shown = systemd_drop_in.diff(seen, systemd_drop_in.plan(seen, wanted), wanted)
    assert (shown["before"], shown["after"], shown["before_header"]) == (before, after, PATH)


def test_report() -> None:
    seen = state(
        file(), effective={"Service": {"Environment": {"A": "x"}}}, shadowed=(SHADOW,), missing_files=("/etc/wa/more",)
    )
    told = systemd_drop_in.report(params(), seen, (), None)
    assert told.values == {
        "path": PATH,
        "unit": "wa.service",
        "scope": "persistent",
        "effective": {"Service": {"Environment": {"A": "x"}}},
        "shadowed": [SHADOW],
        "needs_restart": False,
    }
    assert [warning.split(":")[0] for warning in told.warnings] == [
        f"the variable A of {PATH} does not take effect",
        "the environment file /etc/wa/more of wa.service does not exist, so its next start fails; create it",
    ]
    assert not systemd_drop_in.report(params(on_shadowed="ignore"), state(shadowed=(SHADOW,)), (), None).warnings


def test_report_remembers_what_the_process_lacked_before_the_reload() -> None:
    told = systemd_drop_in.report(params(), state(file()), (Reload(),), Evidence("/backup~", ("ReadWritePaths",)))
    assert (told.values["needs_restart"], told.values["backup_file"]) == (True, "/backup~")


def test_sensitive_values_are_not_reported() -> None:
    seen = state(
        file(), effective={"Service": {"Environment": {"A": "CANARY"}, "ReadWritePaths": ["CANARY"], "X": "CANARY"}}
    )
    told = systemd_drop_in.report(params(sensitive=True), seen, (), None)
    assert "CANARY" not in repr(told)
    assert told.values["effective"]["Service"]["Environment"] == {"A": "(sensitive)"}


def test_verify() -> None:
    systemd_drop_in.verify(state(file()), params())
    with pytest.raises(SessionsError, match="was changed right after it was written"):
        systemd_drop_in.verify(state(file("x")), params())
    with pytest.raises(SessionsError, match="was changed right after it was written"):
        systemd_drop_in.verify(state(file()), params(state="absent"))
    with pytest.raises(SessionsError, match="still uses older settings"):
        systemd_drop_in.verify(state(file(), unloaded=True), params())
    systemd_drop_in.verify(state(file(), unloaded=True), params(daemon_reload=False))


# --- On a private tree, where no systemd runs ------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(load_path, "SEARCH_PATH", (f"{tmp_path}/etc", f"{tmp_path}/lib"))
    monkeypatch.setattr(systemd_drop_in, "DIRECTORIES", {"persistent": f"{tmp_path}/etc", "runtime": f"{tmp_path}/run"})
    monkeypatch.setattr(systemd_drop_in, "systemd_runs", lambda: False)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "wa.service").write_text("[Service]\nExecStart=/bin/true\n", encoding="ascii")
    return tmp_path


def run(check_mode: bool = False, **options: t.Any) -> core_job.Outcome:
    options = {
        "unit": "wa",
        "name": "20-sessions",
        "sections": SECTIONS,
        "daemon_reload": False,
        "validate": False,
        **options,
    }
    return core_job.execute(systemd_drop_in, options, check_mode=check_mode)


@pytest.mark.root
def test_write_again_and_remove(tree: Path) -> None:
    path = tree / "etc" / "wa.service.d" / "20-sessions.conf"
    assert run(check_mode=True).changed
    assert not (tree / "etc").exists()
    assert run().changed
    assert path.read_text(encoding="ascii") == OURS
    assert oct(path.stat().st_mode) == "0o100644"
    assert oct(path.parent.stat().st_mode) == "0o40755"
    assert os.listdir(path.parent) == ["20-sessions.conf"]
    before = path.stat()
    assert not run().changed
    assert path.stat() == before
    assert run(state="absent", sections=None).changed
    assert not path.parent.exists()
    assert not run(state="absent").changed


@pytest.mark.root
def test_a_drop_in_that_somebody_writes_before_the_directory_goes_stays(tree: Path) -> None:
    assert run().changed
    other = tree / "etc/wa.service.d/50-other.conf"
    with striking("rmdir", "wa.service.d", lambda: other.write_text("[Service]\n")):
        assert run(state="absent", sections=None).changed
    assert list(other.parent.iterdir()) == [other]


@pytest.mark.root
def test_a_backup_is_not_read_by_systemd(tree: Path) -> None:
    run()
    kept = run(sections={"Service": {"Nice": 5}}, backup=True).report.values["backup_file"]
    assert Path(kept).read_text(encoding="ascii") == OURS
    assert [Path(found.path).name for found in load_path.drop_ins("wa.service")] == ["20-sessions.conf"]
    run(state="absent")
    assert os.listdir(tree / "etc" / "wa.service.d") == [Path(kept).name]


@pytest.mark.root
def test_a_drop_in_of_a_unit_that_is_gone_can_be_removed(tree: Path) -> None:
    run()
    (tree / "lib" / "wa.service").unlink()
    with pytest.raises(SessionsError, match="does not exist"):
        run()
    assert run(state="absent").changed


@pytest.mark.root
def test_a_link_in_place_of_the_drop_in_is_refused(tree: Path) -> None:
    (tree / "etc" / "wa.service.d").mkdir(parents=True)
    (tree / "etc" / "wa.service.d" / "20-sessions.conf").symlink_to("/dev/null")
    with pytest.raises(SessionsError, match="regular file"):
        run()


@pytest.mark.root
def test_alias(tree: Path) -> None:
    (tree / "lib" / "other.service").symlink_to("wa.service")
    with pytest.raises(SessionsError, match=r"other\.service is an alias of wa\.service"):
        run(unit="other")


@pytest.mark.usefixtures("tree")
def test_without_systemd() -> None:
    with pytest.raises(SessionsError, match="daemon_reload: false"):
        run(daemon_reload=True)
    with pytest.raises(SessionsError, match="scope: persistent"):
        run(scope="runtime")
    with pytest.raises(SessionsError, match=r"nope\.service does not exist"):
        run(unit="nope")


# --- What systemd-analyze says ----------------------------------------------------------------------------

REMARKS = [
    (
        "Unknown key 'KillSignl' in section [Service], ignoring.",
        {"KillSignl": "INT"},
        r"option KillSignl in section \[Service\]; did you mean KillSignal\?",
    ),
    ("Unknown key name 'KillSignl' in section 'Service', ignoring.", {"KillSignl": "INT"}, "did you mean KillSignal"),
    (
        "Unknown key 'RequiresMountsFor' in section [Service], ignoring.",
        {"RequiresMountsFor": "/x"},
        r"it belongs in \[Unit\]",
    ),
    ("Unknown key 'Qqqqq' in section [Service], ignoring.", {"Qqqqq": "/x"}, "look it up"),
    (
        "Failed to parse time value, ignoring: CANARY",
        {"TimeoutStopSec": "CANARY"},
        r"value of TimeoutStopSec in section \[Service\]: Failed to parse",
    ),
]


@pytest.fixture
def analyze(monkeypatch: pytest.MonkeyPatch) -> t.Callable[[t.Callable[[str], str]], None]:
    def say(remark: t.Callable[[str], str], rc: int = 0) -> None:
        def run(argv: t.Sequence[str], **_options: t.Any) -> Completed:
            return Completed(tuple(argv), rc, "", remark(argv[-1]))

        monkeypatch.setattr(systemd_verify, "run", run)
        monkeypatch.setattr(
            systemd_verify,
            "known_options",
            lambda: {"Service": frozenset(["KillSignal"]), "Unit": frozenset(["RequiresMountsFor"])},
        )

    return say


@pytest.mark.parametrize(("remark", "options", "words"), REMARKS)
def test_a_remark_on_our_file_is_an_error(analyze: t.Any, remark: str, options: dict[str, str], words: str) -> None:
    analyze(lambda path: f"/etc/x.service:3: noise\n{path}.d/20.conf:4: {remark}\n")
    with pytest.raises(SessionsError, match=f"{words}.*nothing was changed"):
        verify({"Service": options})


def test_a_section_that_does_not_exist(analyze: t.Any) -> None:
    analyze(lambda path: f"{path}.d/20.conf:3: Unknown section 'Servce'. Ignoring.\n")
    with pytest.raises(SessionsError, match=r"section \[Servce\]; did you mean Service"):
        verify({"Servce": {"A": "b"}})


def test_remarks_on_other_files_are_not_ours(analyze: t.Any) -> None:
    analyze(lambda path: f"{path}:3: Unknown key 'X' in section [Service], ignoring.\n/etc/y.conf:4: bad\n", 1)
    verify({"Service": {"KillSignal": "INT"}})


def test_a_unit_that_would_be_refused(analyze: t.Any) -> None:
    analyze(
        lambda path: (
            "wa.service: Service has more than one ExecStart= setting. Refusing.\n" if os.listdir(f"{path}.d") else ""
        ),
        1,
    )
    with pytest.raises(SessionsError, match=r"with 20\.conf systemd would refuse to run wa\.service"):
        verify({"Service": {"ExecStart": "/x"}})
    analyze(lambda _path: "wa.service: Service has no ExecStart= setting. Refusing.\n", 1)
    verify({"Service": {"KillSignal": "INT"}})  # it was refused before too


def test_sensitive_words_are_kept_back(analyze: t.Any) -> None:
    analyze(lambda path: f"{path}.d/20.conf:4: Failed to parse CANARY\n")
    with pytest.raises(SessionsError, match="value of TimeoutStopSec") as failed:
        verify({"Service": {"TimeoutStopSec": "CANARY"}}, sensitive=True)
    assert "CANARY" not in str(failed.value)


def test_systemd_analyze_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: t.Sequence[str], **_options: t.Any) -> Completed:
        raise SessionsError(f"the program {argv[0]!r} is not on this host; install it")

    monkeypatch.setattr(systemd_verify, "run", run)
    with pytest.raises(SessionsError, match=r"'systemd-analyze' is not on this host.*validate: false"):
        verify({"Service": {"A": "b"}})


def test_systemd_analyze_cannot_look(analyze: t.Any) -> None:
    analyze(lambda _path: "Failed to initialize manager: No such file or directory\n", 1)
    with pytest.raises(SessionsError, match=r"Failed to initialize manager.*validate: false"):
        verify({"Service": {"A": "b"}})


def verify(sections: dict[str, t.Any], *, sensitive: bool = False) -> None:
    wanted = params(sections=sections, name="20", sensitive=sensitive)
    fragment = UnitFile("/lib/wa.service", "[Service]\n")
    systemd_verify.verify_drop_in(
        "wa.service", fragment, "20", wanted.text or "", reveal=systemd_drop_in._revealer(wanted)
    )


# --- Restart ------------------------------------------------------------------------------------------------

STARTED = 1000.0
OLD, NEW = 500.0, 1500.0
SETTINGS = {
    "environment": {"Environment": {"A": "new"}},
    "umask": {"UMask": "0077"},
    "stop": {"KillSignal": "INT", "TimeoutStopSec": 5, "Restart": "always"},
    "sandbox": {"ReadWritePaths": "/x"},
}
RESTARTS = [
    # what is set, environment and umask of the process, (own, files, reload), what it lacks
    pytest.param("environment", {"A": "old"}, "0022", (NEW, NEW, NEW), ("A",), id="changed since the start"),
    pytest.param("environment", {}, "0022", (NEW, NEW, NEW), ("A",), id="not set in the process"),
    pytest.param("environment", {"A": "new"}, "0022", (NEW, NEW, NEW), (), id="has it already"),
    pytest.param("environment", {"A": "old"}, "0022", (OLD, OLD, NEW), ("A",), id="started between write and reload"),
    pytest.param(
        "environment", {"A": "old"}, "0022", (OLD, OLD, OLD), (), id="a wrapper sets it: another restart would not help"
    ),
    pytest.param(
        "environment", {"A": "old"}, "0022", (OLD, NEW, OLD), ("A",), id="environment file changed since the start"
    ),
    pytest.param("environment", {"A": "old"}, "0022", (math.inf, OLD, math.inf), ("A",), id="about to be written"),
    pytest.param("umask", {}, "0022", (NEW, NEW, NEW), ("UMask",), id="umask differs"),
    pytest.param("umask", {}, "0077", (NEW, NEW, NEW), (), id="umask is right"),
    pytest.param("umask", {}, "0022", (OLD, OLD, OLD), (), id="the process changed its umask itself"),
    pytest.param("stop", {}, "0022", (math.inf, NEW, math.inf), (), id="used when it is due"),
    pytest.param("sandbox", {}, "0022", (NEW, NEW, NEW), ("ReadWritePaths",), id="written since the start"),
    pytest.param("sandbox", {}, "0022", (OLD, NEW, NEW), (), id="other files and reloads do not matter"),
]


@pytest.mark.parametrize(("what", "environment", "umask", "moments", "lacks"), RESTARTS)
def test_lacking(
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    environment: dict[str, str],
    umask: str,
    moments: tuple[float, float, float],
    lacks: tuple[str, ...],
) -> None:
    monkeypatch.setattr(
        restart_needed,
        "process_environment",
        lambda _pid, names: {name: environment[name] for name in names if name in environment},
    )
    monkeypatch.setattr(restart_needed, "_umask_of", lambda _pid: umask)
    monkeypatch.setattr(restart_needed, "started_at", lambda _unit: STARTED)
    settings = read_sections({"Service": SETTINGS[what]})
    sources = Sources(name_parts("wa.service"), (PATH,), tuple(Placed(setting, PATH) for setting in settings), ())
    running = Unit("wa.service", {**dict.fromkeys(PROPERTIES, ""), "MainPID": str(os.getpid())})
    assert restart_needed.outdated_options(running, sources, settings, Moments(*moments)) == lacks


def test_a_unit_that_does_not_run_lacks_nothing() -> None:
    settings = read_sections({"Service": {"ReadWritePaths": "/x"}})
    stopped = Unit("wa.service", {**dict.fromkeys(PROPERTIES, ""), "MainPID": "0"})
    sources = Sources(name_parts("wa.service"), (), (), ())
    assert restart_needed.outdated_options(stopped, sources, settings, Moments(math.inf, math.inf, math.inf)) == ()


def test_sections_that_only_matter_for_the_next_start() -> None:
    settings = read_sections({"Unit": {"After": "x.target"}, "Install": {"WantedBy": "multi-user.target"}})
    running = Unit("wa.service", {**dict.fromkeys(PROPERTIES, ""), "MainPID": str(os.getpid())})
    sources = Sources(name_parts("wa.service"), (), (), ())
    assert restart_needed.outdated_options(running, sources, settings, Moments(math.inf, math.inf, math.inf)) == ()
