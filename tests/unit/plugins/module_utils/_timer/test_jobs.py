# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of jobs: each can be installed, with the options of its module, and says what it needs from the host."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import control_path
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import argument_specs
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._timer.bundle import program_for
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._timer.jobs import JOBS, name_of, nested_options

RESTIC: t.Final = {"repository": "sftp:vault:/srv", "password_file": "/etc/password"}

RECOVER: t.Final = {"state": "recovered"}


def test_the_option_job_has_all_jobs_of_the_table() -> None:
    assert argument_specs.SESSION_TIMER["job"]["choices"] == sorted(JOBS)


@pytest.mark.parametrize("job", JOBS)
def test_each_job_can_be_packed(job: str) -> None:
    name = JOBS[job].load().__name__.rpartition("module_utils.")[2]  # type: ignore[attr-defined]
    assert len(program_for(name)) > 10_000


def test_options_are_those_of_the_module_of_the_job() -> None:
    assert nested_options({"job": "backup"})["options"][0] is argument_specs.SESSION_BACKUP
    assert nested_options({"job": "restic"})["options"][0] is argument_specs.SESSION_RESTIC
    assert nested_options({"job": "backup", "state": "absent"}) == {}
    assert nested_options({"job": "other"}) == {}


def test_a_job_is_named_after_the_control_directory_of_its_path(tmp_path: pathlib.Path) -> None:
    path = f"{tmp_path}/sessions"
    assert name_of(path) == pathlib.Path(control_path(path)).name.lstrip(".")


@pytest.mark.parametrize(
    ("job", "options", "expected"),
    [
        ("backup", {}, {"mounts": ("/srv/wa",), "writes": (), "network": False, "holds": False}),
        ("backup", {"quiesce": "freeze"}, {"holds": True}),
        ("backup", {"backup_path": "/mnt/b"}, {"mounts": ("/srv/wa", "/mnt/b"), "writes": ("/mnt/b",)}),
        ("restic", RESTIC, {"mounts": (), "writes": (), "network": True, "holds": False}),
        (
            "restic",
            {**RESTIC, "repository": "/mnt/r"},
            {"mounts": ("/mnt/r",), "writes": ("/mnt/r",), "network": False},
        ),
        ("recover", RECOVER, {"mounts": ("/srv/wa",), "holds": True, "changes": ("/srv", "/etc/systemd/system")}),
        ("recover", {**RECOVER, "backup_path": "/mnt/b"}, {"mounts": ("/srv/wa", "/mnt/b"), "writes": ("/mnt/b",)}),
        ("restic", {**RESTIC, "repository": "local:/mnt/r"}, {"writes": ("/mnt/r",), "network": False}),
        ("restic", {**RESTIC, "backup_path": "/mnt/b"}, {"writes": ("/mnt/b",), "network": True}),
    ],
)
def test_what_a_job_needs(job: str, options: dict[str, t.Any], expected: dict[str, t.Any]) -> None:
    needs = JOBS[job].needs({"path": "/srv/wa", **options})
    assert {name: getattr(needs, name) for name in expected} == expected


@pytest.mark.parametrize("options", [{}, {"state": "restored", "accounts": ["wa1"]}])
def test_what_runs_by_itself_restores_only_what_is_certainly_lost(options: dict[str, t.Any]) -> None:
    with pytest.raises(SessionsError, match="set 'state: recovered'"):
        JOBS["recover"].needs({"path": "/srv/wa", **options})
