# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX stores of a job: the events of each playbook, as ansible-runner writes them, and the counts that the next step gets."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import typing as t

import ansible_runner
import pytest
from hostkit import PATH, Host
from playkit import HEALTH, environment

import awx_definitions as awx

# Per host and task, AWX stores two events, and one more per task for all hosts.
EVENTS_AT_MOST = 12
BYTES_AT_MOST = 1200  # of an event on average
BYTES_OF_A_HOST = 7200  # with three accounts, whose states are most of it
SECRETS = ("CANARY", "SessionEntry", "<Buffer", "PRIVATE KEY")
# The playbooks that one host is enough for, in an order in which each finds what it needs. test_move.py has the other one.
PLAYBOOKS = ("persist", "verify", "restart", "backup", "restore", "recover", "audit", "report", "rollback")
SETTINGS: dict[str, dict[str, t.Any]] = {"restore": {"wa_restore_accounts": ["15550100001"], "wa_restore_force": True}}


class Run(t.NamedTuple):
    """A finished run: its status, and the events in their order, each as the text that is stored."""

    status: str
    events: list[str]

    @property
    def artifacts(self) -> dict[str, t.Any]:
        """What the next step of a workflow gets."""
        (last,) = (event for event in map(json.loads, self.events) if event["event"] == "playbook_on_stats")
        artifacts: dict[str, t.Any] = last["event_data"]["artifact_data"]
        return artifacts

    @property
    def sizes(self) -> list[int]:
        """The characters of each event that AWX stores besides its columns: the data and the output."""
        held = map(json.loads, self.events)
        return [len(json.dumps(event["event_data"])) + len(event["stdout"]) for event in held]

    def of_hosts(self) -> list[dict[str, t.Any]]:
        """Return the events that are about one host."""
        return [event for event in map(json.loads, self.events) if event["event_data"].get("host")]


class Runner:
    """Runs playbooks as AWX does."""

    def __init__(self, host: Host, folder: pathlib.Path) -> None:
        self._host = host
        self._folder = folder

    def run(self, playbook: str, *options: str, names: t.Sequence[str] = (), **settings: t.Any) -> Run:
        """Run a playbook on the host; ``names``: under several names, as if it were several hosts."""
        folder = self._folder / f"{len(os.listdir(self._folder))}-{playbook}"
        programs = os.path.dirname(sys.executable)
        done = ansible_runner.run(
            private_data_dir=str(folder),
            ident="job",
            playbook=f"whatsapp_ops.sessions.{playbook}",
            inventory=str(self._inventory(folder, names or [self._host.name])),
            extravars={"wa_health_url": HEALTH, "wa_report_dir": str(folder / "report"), **settings},
            cmdline=" ".join(options),
            envvars={**environment(self._host), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
            quiet=True,
            timeout=300,
        )
        stored = (folder / "artifacts" / "job" / "job_events").glob("*.json")
        texts = [path.read_text(encoding="utf-8") for path in stored if "-partial" not in path.name]
        return Run(done.status, sorted(texts, key=lambda text: json.loads(text)["counter"]))

    def _inventory(self, folder: pathlib.Path, names: t.Sequence[str]) -> pathlib.Path:
        known = json.loads(self._host.lab("inventory", "--list"))
        reached = {**known["lab"]["vars"], **known["_meta"]["hostvars"][self._host.name]}
        folder.mkdir()
        inventory = folder / "hosts.json"
        inventory.write_text(json.dumps({"all": {"hosts": dict.fromkeys(names, reached)}}))
        return inventory


@pytest.fixture(scope="module")
def runner(booted: Host, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Runner]:
    booted.before = booted.reset()
    yield Runner(booted, tmp_path_factory.mktemp("runner"))
    booted.module("session_timer", job="backup", options={"path": PATH}, state="absent")
    booted.sh("rm -rf /etc/whatsapp-ops")


@pytest.fixture(scope="module")
def runs(runner: Runner) -> dict[str, Run]:
    """Each playbook, run once."""
    return {name: runner.run(name, **SETTINGS.get(name, {})) for name in PLAYBOOKS}


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_events_show_nothing_from_inside_a_session(
    runs: dict[str, Run], runner: Runner, booted: Host, playbook: str
) -> None:
    run = runs[playbook]
    assert run.status == "successful", "\n".join(json.loads(event)["stdout"] for event in run.events)
    counts = run.artifacts["wa_report"] if playbook == "report" else run.artifacts["whatsapp_ops"][playbook]
    assert counts["hosts"] == 1
    assert playbook == "report" or "hosts" in counts["text"]
    for event in run.events:
        assert not [
            secret
            for secret in (*SECRETS, *booted.before["legacy"])
            if secret in event and secret not in named(playbook)
        ]


def named(playbook: str) -> t.Sequence[str]:
    """Return the accounts that the operator named."""
    return t.cast("list[str]", SETTINGS.get(playbook, {}).get("wa_restore_accounts", []))


def test_a_host_without_changes_costs_few_and_small_events(runs: dict[str, Run], runner: Runner) -> None:
    assert runner.run("persist").status == "successful"  # the rollback was the last one
    one = runner.run("persist")
    three = runner.run("persist", names=["a", "b", "c"])
    for run in (one, three):
        assert (run.status, run.artifacts["whatsapp_ops"]["persist"]["todo"]) == ("successful", 0)
    assert len(one.of_hosts()) <= EVENTS_AT_MOST
    assert sum(one.sizes) / len(one.sizes) < BYTES_AT_MOST, one.sizes
    # What each further host adds: the beginning and the result of one call.
    assert len(three.events) - len(one.events) == 2 * 2
    assert (sum(three.sizes) - sum(one.sizes)) / 2 < BYTES_OF_A_HOST, three.sizes


def test_an_approver_reads_what_the_preview_found(runner: Runner, booted: Host) -> None:
    booted.reset()
    preview = runner.run("persist", "--check", "--diff")
    read: t.Any = preview.artifacts
    for key in awx.PREVIEWED.split("."):
        read = read[key]
    assert read == "1 of 1 hosts need changes, 3 accounts are linked"
