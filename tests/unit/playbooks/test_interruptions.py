# SPDX-License-Identifier: GPL-3.0-or-later
"""A hook is called once before an interruption and once after it, and the moment for it is checked before anything is changed."""

from __future__ import annotations

import http.server
import json
import pathlib
import threading
import typing as t

import pytest
from fleetkit import DONE, LEFT, PLAN, Answer, Fleet

SECRET = "token-of-the-hook"
FAILED: Answer = {"failed": True, "msg": "the backend was not healthy"}
# What a restart reads of a host whose backend runs with its accounts.
RESTARTABLE: Answer = {
    **PLAN,
    "todo": [],
    "in_force": [{"as_wanted": True, "running": True, "file": "/etc/wa/env", "line": 1}],
    "info": {"exists": True, "linked": 3, "total": 3, "linked_accounts": 3, "accounts": []},
    "health": {
        "unit": {"name": "wa.service", "active": True, "container": "", "needs_reload": False},
        "facts": {},
        "cursor": "c",
    },
}
CLOSED = {"moment": {"problem": "it is 12:00 UTC on this host, outside of the maintenance window 22:00-05:00"}}


class Hook:
    """A web server that notes what is posted to it."""

    def __init__(self) -> None:
        self.posted: list[dict[str, t.Any]] = []
        self.statuses: list[int] = []
        noted = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                noted.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(noted.statuses.pop(0) if noted.statuses else 200)
                self.end_headers()

            def log_message(self, *args: t.Any) -> None:
                """Print nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._serving = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._serving.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/{SECRET}"

    @property
    def settings(self) -> dict[str, str]:
        return {"wa_hook_before": self.url, "wa_hook_after": self.url}

    @property
    def events(self) -> list[str]:
        return [f"{post['playbook']} {post['event']}" for post in self.posted]

    def close(self) -> None:
        if self._serving.is_alive():
            self._server.shutdown()
            self._serving.join()
        self._server.server_close()


@pytest.fixture
def hook() -> t.Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    return Fleet(tmp_path)


def test_a_rollout_is_reported_once_before_and_once_after_with_counts_only(fleet: Fleet, hook: Hook) -> None:
    for name in "abc":
        fleet.add(name)
    fleet.add("d", session_plan_1=DONE)
    played = fleet.play("persist", "-vvv", wa_serial="1 2", **hook.settings)
    assert played.rc == 0, played.output
    assert hook.events == ["persist before", "persist after"]
    before, after = (post["counts"] for post in hook.posted)
    assert (before["hosts"], before["todo"], before["linked"]) == (4, 3, 12)
    assert (after["done"], after["failed"], after["untouched"]) == (3, 0, 0)
    assert all(isinstance(number, (int, float)) for post in hook.posted for number in post["counts"].values())
    assert hook.posted[0]["text"].startswith("whatsapp_ops persist, before the interruption: 3 of 4 hosts need changes")
    assert SECRET not in played.output


def test_nothing_is_reported_where_nothing_is_interrupted(fleet: Fleet, hook: Hook) -> None:
    fleet.add("a")
    assert fleet.play("persist", "--check", **hook.settings).rc == 0
    fleet.add("b", session_plan_1=FAILED)
    assert fleet.play("persist", **hook.settings).rc != 0
    assert fleet.play("persist", "--limit", "c", **hook.settings).rc != 0
    assert hook.posted == []


def test_a_hook_that_fails_before_the_interruption_keeps_all_as_it_was(fleet: Fleet, hook: Hook) -> None:
    for name in "ab":
        fleet.add(name)
    hook.statuses = [503]
    played = fleet.play("persist", "-vvv", wa_max_fail_percentage=100, **hook.settings)
    assert played.rc != 0
    assert played.untouched == ["a", "b"]
    assert "the hook of wa_hook_before failed, so nothing was changed: the answer had the status 503" in played.output
    assert SECRET not in played.output
    assert hook.events == ["persist before"]


def test_a_hook_that_fails_after_the_interruption_is_only_reported(fleet: Fleet, hook: Hook) -> None:
    fleet.add("a")
    hook.statuses = [200, 500]
    played = fleet.play("persist", **hook.settings)
    assert played.rc == 0, played.output
    assert "the hook of wa_hook_after failed after the interruption: the answer had the status 500" in played.output


def test_a_hook_that_does_not_answer_has_failed(fleet: Fleet, hook: Hook) -> None:
    fleet.add("a")
    hook.close()
    played = fleet.play("persist", wa_hook_before=hook.url)
    assert played.rc != 0
    assert played.untouched == ["a"]
    assert "so nothing was changed: there was no answer" in played.output


def test_a_rollout_that_stops_is_reported_with_how_far_it_came(fleet: Fleet, hook: Hook) -> None:
    fleet.add("a")
    fleet.add("b", session_plan_2=FAILED)
    fleet.add("c", cut_by="session_migrate")
    fleet.add("d")
    played = fleet.play("persist", wa_serial="1 2", **hook.settings)
    assert played.rc != 0
    assert hook.events == ["persist before", "persist after"]
    counts = hook.posted[1]["counts"]
    assert (counts["done"], counts["failed"], counts["untouched"]) == (1, 2, 1)


def test_failures_that_are_allowed_do_not_end_the_report_early(fleet: Fleet, hook: Hook) -> None:
    fleet.add("a", session_plan_2=FAILED)
    fleet.add("b")
    fleet.add("c")
    fleet.play("persist", wa_serial="2", wa_max_fail_percentage=50, **hook.settings)
    assert hook.events == ["persist before", "persist after"]
    assert (hook.posted[1]["counts"]["done"], hook.posted[1]["counts"]["failed"]) == (2, 1)


def test_a_hook_may_be_a_file_of_tasks(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    note = {
        "name": "Note",
        "ansible.builtin.copy": {"content": "{{ wa_hook | to_json }}", "dest": f"{tmp_path}/{{{{ wa_hook.event }}}}"},
    }
    tasks = tmp_path / "hook.yml"
    tasks.write_text(json.dumps([note]))
    for name in "ab":
        fleet.add(name)
    played = fleet.play("persist", wa_hook_before=str(tasks), wa_hook_after=str(tasks))
    assert played.rc == 0, played.output
    assert json.loads((tmp_path / "before").read_text())["counts"]["todo"] == 2
    assert json.loads((tmp_path / "after").read_text())["counts"]["done"] == 2
    assert played.output.count("TASK [Note]") == 2


def test_a_task_of_a_hook_that_fails_is_named(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    tasks = tmp_path / "hook.yml"
    tasks.write_text(json.dumps([{"name": "Tell the desk", "ansible.builtin.fail": {"msg": "nobody is there"}}]))
    fleet.add("a")
    fleet.add("b")
    played = fleet.play("persist", wa_hook_before=str(tasks))
    assert played.rc != 0
    assert played.untouched == ["a", "b"]
    assert "so nothing was changed: the task Tell the desk failed" in played.output


@pytest.mark.parametrize("playbook", ["restart", "rollback", "restore", "recover", "move"])
def test_each_playbook_that_interrupts_calls_the_hook_first(fleet: Fleet, hook: Hook, playbook: str) -> None:
    plan = {**RESTARTABLE, "todo": ["migrate"], "steps": {"migrate": True}, "summary": ""}
    for name in "ab":
        fleet.add(
            name,
            session_plan_1={**plan, **MOVABLE} if playbook == "move" else plan,
            session_restore_1={**plan, "steps": ["x"]},
        )
    hook.statuses = [500]
    accounts = {"wa_restore_accounts": ["1"]} if playbook == "restore" else {}
    played = fleet.play(playbook, wa_move_from="a", wa_move_to="b", **accounts, **hook.settings)
    assert hook.events[0] == f"{playbook} before", played.output
    assert "so nothing was changed: the answer had the status 500" in played.output
    assert {len(calls) for calls in played.calls.values()} == {1}


MOVABLE: Answer = {
    "dir": {"owner": "wa", "group": "wa"},
    "info": {
        **RESTARTABLE["info"],
        "path": "/srv/wa",
        "control": {"path": "/var/lib/whatsapp-ops/wa", "same_mount": True},
    },
}


def test_a_restart_looks_at_the_window_first_and_waits_for_a_quiet_moment(fleet: Fleet) -> None:
    fleet.add("a", session_plan_1=RESTARTABLE, session_plan_2=RESTARTABLE)
    quiet = {"wa_window": "22:00-05:00 UTC", "wa_quiet_seconds": "5", "wa_quiet_required": "no"}
    played = fleet.play("restart", wa_sessions_path="/srv/wa", **quiet)
    first, again, moment = (options.get("moment") for options in played.options["a"][:3])
    assert first == again == {"window": "22:00-05:00 UTC"}
    assert moment["window"] == "22:00-05:00 UTC"
    assert moment["paths"] == ["/srv/wa"]
    assert (float(moment["quiet_seconds"]), float(moment["quiet_timeout"]), moment["quiet_required"]) == (5, 300, False)
    assert "custom" not in moment


@pytest.mark.parametrize("settings", [{}, {"wa_window": "22:00-05:00", "wa_outside_window": "yes"}])
def test_without_a_window_nothing_is_waited_for(fleet: Fleet, settings: dict[str, str]) -> None:
    fleet.add("a", session_plan_1=RESTARTABLE, session_plan_2=RESTARTABLE)
    played = fleet.play("restart", **settings)
    assert not [options for options in played.options["a"] if "moment" in options]


def test_a_restart_outside_of_the_window_is_refused_and_check_mode_goes_on(fleet: Fleet) -> None:
    fleet.add("a", session_plan_1=RESTARTABLE)
    fleet.add("b", session_plan_1={**RESTARTABLE, **CLOSED})
    played = fleet.play("restart", wa_window="22:00-05:00")
    assert played.rc != 0
    assert played.untouched == ["a", "b"]
    said = " ".join(played.output.split())
    assert (
        "outside of the maintenance window 22:00-05:00, so whatsapp-backend was not restarted; run again inside of it"
        in said
    )


@pytest.mark.parametrize(("playbook", "place"), [("persist", "/opt/old"), ("rollback", "/srv/wa")])
def test_accounts_that_are_moved_are_quiet_where_they_are(fleet: Fleet, playbook: str, place: str) -> None:
    plan = {**LEFT, "migrate": {"path_made": False, "src": ["/opt/old"]}}
    busy = {"failed": True, "msg": "accounts were written to all the time; raise 'quiet_timeout'"}
    fleet.add("a", session_plan_1=plan, session_plan_2=busy)
    played = fleet.play(
        playbook,
        wa_sessions_path="/srv/wa",
        wa_quiet_seconds=5,
        wa_layout_custom={"markers": ["x"]},
        wa_layout="custom",
    )
    assert played.rc != 0
    assert played.calls["a"][:2] == ["session_plan", "session_plan"]
    assert "session_migrate" not in played.calls["a"]
    assert "moment" not in played.options["a"][0]
    moment = played.options["a"][1]["moment"]
    assert place in moment["paths"]
    assert (moment["layout"], moment["custom"]) == ("custom", {"markers": ["x"]})
    assert "'quiet_timeout' is wa_quiet_timeout" in played.output
