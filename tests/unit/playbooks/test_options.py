# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that each call is sent: what is predicted is what is done, and every call is given what an operator has set."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible.parsing.dataloader import DataLoader
from fleetkit import DONE, LEFT, MOVED, REPOSITORY, Answer, Fleet, Played

DESCRIBED: t.Final = {"wa_layout": "custom", "wa_layout_custom": {"markers": ["creds.json"]}}
# Settings other than the defaults, and what has another meaning in a template, a unit file or YAML.
SETTINGS: t.Final = {
    "wa_service": "shop",
    "wa_sessions_path": "/srv/100%/{x}",
    "wa_legacy_paths": "/opt/one\n/opt/two",
    "wa_health_url": "http://127.0.0.1:1/health",
    "wa_health_headers": {"X-Api-Key": "yes"},
    "wa_allow_foreign_owner": "yes",
    "wa_retire": True,
    "wa_mode": "0700",
    "wa_variable": "AUTH_DIR",
    **DESCRIBED,
}
UNHEALTHY: Answer = {"failed": True, "msg": "the backend was not healthy", "healthy": False}
SWITCHED: Answer = {**MOVED, "src": ["/opt/one", "/opt/two"], "steps": ["publish", "switch"]}


def run(folder: pathlib.Path, playbook: str, answers: dict[str, Answer], **settings: t.Any) -> list[dict[str, t.Any]]:
    """Return the options of the calls of one host, in their order."""
    fleet = Fleet(folder)
    fleet.add("a", **answers)
    played: Played = fleet.play(playbook, **settings)
    assert len(played.options["a"]) == len(played.calls["a"]) > 0, played.output
    return played.options["a"]


def text(value: t.Any) -> t.Any:
    """Values as the modules read them: a number and its text are the same."""
    if isinstance(value, dict):
        return {name: text(item) for name, item in value.items()}
    return [text(item) for item in value] if isinstance(value, list) else str(value)


def test_persist_checks_does_and_checks_the_same(tmp_path: pathlib.Path) -> None:
    answers = {
        "session_plan_1": {**LEFT, "todo": ["migrate"]},
        "session_plan_2": UNHEALTHY,
        "session_migrate_1": SWITCHED,
    }
    before, done, after, back, _health = run(tmp_path, "persist", answers, **SETTINGS)

    asked = before["migrate"]
    assert asked["src"] == ["/opt/one", "/opt/two"]
    assert (asked["state"], asked["custom"], before["dir"]["mode"]) == ("retired", {"markers": ["creds.json"]}, "0700")
    service = asked["switch"]["overrides"][0]["sections"]["Service"]
    assert (service["Environment"], service["UMask"]) == ({"AUTH_DIR": "/srv/100%%/{x}"}, "0077")
    assert asked["switch"]["environment_file"] == {"path": "/etc/shop/env", "values": {"AUTH_DIR": "/srv/100%/{x}"}}
    assert before["health"]["headers"] == {"X-Api-Key": "yes"}
    for name in ("dir", "stop", "migrate", "info", "health"):
        assert after[name] == before[name]
    assert (str(before["expected_accounts"]), str(after["expected_accounts"])) == ("0", "3")

    stops = done["switch"].pop("pre_stop_overrides")
    assert stops == [LEFT["stop"]]
    assert text(done) == text(asked)
    # The way back is not watched: the backend ran on that path before. What the switch was is in the receipt.
    del done["switch"], done["use_timeout"]
    assert text(back) == {**text(done), "src": ["/opt/one"], "state": "rolled_back"}


def test_rollback_checks_does_and_checks_the_same(tmp_path: pathlib.Path) -> None:
    answers = {"session_plan_1": {**LEFT, "todo": ["migrate"]}, "session_plan_2": DONE}
    before, done, after = run(tmp_path, "rollback", answers, wa_rollback_path="/opt/one", **SETTINGS)

    assert (done["src"], done["state"]) == (["/opt/one"], "rolled_back")
    assert text(done) == text(before["migrate"])
    assert after["migrate"] == before["migrate"]
    assert after["health"]["url"] == SETTINGS["wa_health_url"]


def test_what_is_not_set_is_not_sent(tmp_path: pathlib.Path) -> None:
    """Null would be a value: an account described by nothing, a headerless page."""
    before, done, _after = run(tmp_path, "persist", {"session_plan_1": {**LEFT, "todo": ["migrate"]}})
    for options in (before["migrate"], before["info"], done):
        assert "custom" not in options
    assert before["migrate"]["src"] == []


@pytest.mark.parametrize("playbook", ["persist", "verify", "restart", "rollback", "move"])
def test_every_call_is_told_how_accounts_are_stored(tmp_path: pathlib.Path, playbook: str) -> None:
    fleet = Fleet(tmp_path)
    for host in "ab":
        fleet.add(host, session_plan_1={**LEFT, "todo": ["migrate"]})
    played = fleet.play(playbook, wa_move_from="a", wa_move_to="b", **DESCRIBED)
    described = [
        options
        for call in played.options["a"]
        for options in (call, call.get("migrate"), call.get("info"))
        if options and "layout" in options
    ]
    assert described, played.output
    for options in described:
        assert (options["layout"], options["custom"]) == ("custom", {"markers": ["creds.json"]})


def session_migrate(task_file: str, register: str) -> dict[str, t.Any]:
    """Return the options of a task of the role move, by the name of its result, as they are written."""

    def tasks(items: list[dict[str, t.Any]]) -> t.Iterator[dict[str, t.Any]]:
        for item in items:
            yield item
            for part in ("block", "rescue", "always"):
                yield from tasks(item.get(part, []))

    written = DataLoader().load_from_file(str(REPOSITORY / "roles" / "move" / "tasks" / task_file))
    (found,) = (task for task in tasks(written) if task.get("register") == register)
    options: dict[str, t.Any] = found["whatsapp_ops.sessions.session_migrate"]
    return options


def test_a_move_predicts_what_it_does() -> None:
    assert session_migrate("carry_out.yml", "move_leaving") == session_migrate("transfer.yml", "move_taken")
    asked, published = (
        session_migrate(file, register)
        for file, register in (("copy_ahead.yml", "move_asked"), ("publish.yml", "move_published"))
    )
    # Before the transfer the announced accounts are those that are to leave.
    assert {**asked, "accounts": None} == {**published, "accounts": None}
