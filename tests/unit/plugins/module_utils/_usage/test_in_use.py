# SPDX-License-Identifier: GPL-3.0-or-later
"""When a backend uses a path: decided by what was seen since its start, and by what leads somewhere while it runs."""

from __future__ import annotations

import os
import pathlib

import pytest

from accounts import put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc import procfs
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.control_groups import Processes
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage import in_use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.in_use import (
    ELSEWHERE,
    NOWHERE,
    UNKNOWN,
    USED,
    Known,
    Leads,
    Use,
    Verdict,
    leads_of,
    paths_in,
    verdict,
    verdict_of_leads,
    written_since,
)

PATH, OLD, OLDER = "/var/lib/wa/sessions", "/opt/app/current/auth", "/opt/app/auth"

SEEN: dict[str, tuple[dict[str, Use], Verdict]] = {
    "at the sessions path alone": ({PATH: Use(3), OLD: Use()}, Verdict(USED)),
    "at a former place alone": ({PATH: Use(), OLD: Use(1)}, Verdict(ELSEWHERE, (OLD,))),
    "at both": ({PATH: Use(9), OLD: Use(1)}, Verdict(ELSEWHERE, (OLD,))),
    "at two former places": ({PATH: Use(), OLD: Use(1), OLDER: Use(2)}, Verdict(ELSEWHERE, (OLDER, OLD))),
    "nowhere": ({PATH: Use(), OLD: Use()}, Verdict(NOWHERE)),
    "others looked into a former place": (
        {PATH: Use(1), OLD: Use(others=frozenset(("/system.slice/backup.service",)))},
        Verdict(USED),
    ),
    "others alone": ({PATH: Use(others=frozenset(("/x",))), OLD: Use()}, Verdict(NOWHERE)),
    "somebody who is gone looked into the sessions path": ({PATH: Use(unknown=1), OLD: Use()}, Verdict(UNKNOWN)),
    "somebody who is gone looked into a former place": ({PATH: Use(1), OLD: Use(unknown=5)}, Verdict(USED)),
    "events of a former place were lost": ({PATH: Use(1), OLD: Use(complete=False)}, Verdict(UNKNOWN)),
    "events of the sessions path were lost": ({PATH: Use(1, complete=False), OLD: Use()}, Verdict(USED)),
    "nothing, and events were lost": ({PATH: Use(complete=False), OLD: Use()}, Verdict(UNKNOWN)),
    "at a former place, and events were lost": (
        {PATH: Use(1), OLD: Use(1, complete=False)},
        Verdict(ELSEWHERE, (OLD,)),
    ),
    "the sessions path was not watched": ({OLD: Use()}, Verdict(NOWHERE)),
}


@pytest.mark.parametrize("case", SEEN)
def test_what_was_seen_decides(case: str) -> None:
    seen, expected = SEEN[case]
    assert verdict(seen, PATH) == expected


def places(*names: str) -> frozenset[str]:
    return frozenset(names)


RUNNING: dict[str, tuple[Leads, tuple[str, ...], Verdict]] = {
    "a variable": (Leads(environment=places(PATH), processes=1), (), Verdict(USED)),
    "a mount": (Leads(mounts=places(PATH), processes=1), (), Verdict(USED)),
    "open files": (Leads(open_files=places(PATH), processes=1), (), Verdict(USED)),
    "it stands in the sessions path": (Leads(working_directories=places(PATH), processes=1), (), Verdict(USED)),
    "open files elsewhere, whatever the variable says": (
        Leads(open_files=places(OLD), environment=places(PATH), processes=1),
        (),
        Verdict(ELSEWHERE, (OLD,)),
    ),
    "open files at both": (Leads(open_files=places(PATH, OLD), processes=2), (), Verdict(ELSEWHERE, (OLD,))),
    "newer keys elsewhere, whatever the variable says": (
        Leads(environment=places(PATH), processes=1),
        (OLD,),
        Verdict(ELSEWHERE, (OLD,)),
    ),
    "newer keys at the path itself": (Leads(environment=places(PATH), processes=1), (PATH,), Verdict(USED)),
    "another variable names a former place": (Leads(environment=places(PATH, OLD), processes=1), (), Verdict(USED)),
    "the program lies at a former place": (
        Leads(environment=places(PATH), working_directories=places(OLD), processes=1),
        (),
        Verdict(USED),
    ),
    "a variable that names a former place": (
        Leads(environment=places(OLD), processes=1),
        (),
        Verdict(ELSEWHERE, (OLD,)),
    ),
    "a volume at a former place": (Leads(mounts=places(OLD), processes=1), (), Verdict(ELSEWHERE, (OLD,))),
    "it stands at a former place": (
        Leads(working_directories=places(OLD), processes=1),
        (),
        Verdict(ELSEWHERE, (OLD,)),
    ),
    "nothing": (Leads(processes=1), (), Verdict(NOWHERE)),
    "no process": (Leads(), (), Verdict(UNKNOWN)),
    "not all could be read": (Leads(processes=1, complete=False), (), Verdict(UNKNOWN)),
    "enough could be read": (Leads(environment=places(PATH), processes=1, complete=False), (), Verdict(USED)),
}


@pytest.mark.parametrize("case", RUNNING)
def test_what_leads_somewhere_decides(case: str) -> None:
    leads, newer, expected = RUNNING[case]
    assert verdict_of_leads(leads, PATH, newer) == expected


@pytest.mark.parametrize(
    ("leads", "written", "expected"),
    [
        (Leads(processes=1), (PATH,), Verdict(USED)),
        (Leads(processes=1), (OLD,), Verdict(ELSEWHERE, (OLD,))),
        (Leads(environment=places(OLD), processes=1), (PATH,), Verdict(USED)),
        (Leads(environment=places(PATH), processes=1), (OLD,), Verdict(USED)),
        (Leads(open_files=places(OLD), processes=1), (PATH,), Verdict(ELSEWHERE, (OLD,))),
    ],
)
def test_keys_that_are_written_tell_where_nothing_else_does(
    leads: Leads, written: tuple[str, ...], expected: Verdict
) -> None:
    assert verdict_of_leads(leads, PATH, (), written) == expected


def test_keys_count_as_written_from_a_moment_on(tmp_path: pathlib.Path) -> None:
    baileys = layout_named("baileys")
    put_account(tmp_path / "new/wa1")
    with opened_directory(str(tmp_path / "new")) as root:
        written = (tmp_path / "new/wa1/creds.json").stat().st_ctime
        assert written_since({"new": (root, baileys)}, written - 1) == {"new"}
        assert written_since({"new": (root, baileys)}, written + 1) == frozenset()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/var/lib/wa", [("/var/lib/wa", "/")]),
        ("/var/lib//wa/./x/..", [("/var/lib/wa", "/")]),
        ("auth", [("/opt/app/auth", "/opt/app")]),
        ("./auth", [("/opt/app/auth", "/opt/app")]),
        ("../shared/auth", [("/opt/shared/auth", "/opt")]),
        (".", [("/opt/app", "/opt")]),
        ("..", [("/opt", "/")]),
        ("", []),
        ("file:/srv/wa/store.db?_fk=on", [("/opt/app/file:/srv/wa/store.db?_fk=on", "/opt/app"), ("/srv/wa", "/")]),
        ("sqlite:///srv/store.db", [("/opt/app/sqlite:/srv/store.db", "/opt/app"), ("/srv", "/")]),
        ("file:store.db", [("/opt/app/file:store.db", "/opt/app"), ("/opt/app", "/opt")]),
        ("x" * 5000, []),
    ],
)
def test_the_value_of_a_variable_names_paths(value: str, expected: list[tuple[str, str]]) -> None:
    assert [tuple(path) for path in paths_in(value, "/opt/app")] == expected


def test_without_a_working_directory_only_absolute_paths_are_named() -> None:
    assert [list(paths_in(value, "")) for value in ("auth", ".")] == [[], []]


def test_a_process_that_does_not_let_its_environment_be_read_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can have a filesystem of its own user stand for its memory, which never answers; see procfs.py."""

    def never(_pid: int, _name: str) -> bytes:
        raise SessionsError("the environ of the process could not be read in time")

    monkeypatch.setattr(in_use, "processes_of", lambda _groups: Processes((os.getpid(),), complete=True))
    assert leads_of(("/wa.service",), Known({}, {}, {})).complete
    monkeypatch.setattr(procfs, "process_file", never)
    looked = leads_of(("/wa.service",), Known({}, {}, {}))
    assert (looked.processes, looked.complete) == (1, False)
