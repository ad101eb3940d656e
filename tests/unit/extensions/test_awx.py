# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions for AWX: every playbook has a template, and every answer of a survey is a setting that its playbook accepts."""

from __future__ import annotations

import fnmatch
import pathlib
import typing as t

import pytest
import yaml

import awx_definitions as awx
import generate_awx as tool
from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._settings import complaint

EXTENSION = tool.EXTENSIONS / "awx"
PLAYBOOKS = awx.playbooks()
HELD = awx.definitions(PLAYBOOKS)
TEMPLATES: dict[str, dict[str, t.Any]] = {template["name"]: template for template in HELD["controller_templates"]}
QUESTIONS = [
    pytest.param(PLAYBOOKS[pathlib.Path(template["playbook"]).stem], question, id=f"{name}-{question['variable']}")
    for name, template in TEMPLATES.items()
    if template["job_type"] == "run"
    for question in template["survey_spec"]["spec"]
]
# What AWX sends for a question of each type, besides an empty text for one that was not answered.
ANSWERS: dict[str, list[t.Any]] = {"integer": [3], "float": [1, 0.5], "password": ["[a, b]"]}
LINES = {"list": ["/a\n/b"], "dict": ['{"a": 1}', "a: 1"], "raw": ["1, 10%", "a:b"]}


def test_every_playbook_has_a_template_and_a_twin_in_check_mode_if_it_changes_anything() -> None:
    for playbook in PLAYBOOKS.values():
        assert TEMPLATES[playbook.template]["playbook"] == f"playbooks/{playbook.name}.yml"
        twin = TEMPLATES[playbook.twin]
        assert twin["survey_spec"] == TEMPLATES[playbook.template]["survey_spec"]
        assert (twin["job_type"] == "check") is (playbook.name not in awx.READ_ONLY)


@pytest.mark.parametrize(("playbook", "question"), QUESTIONS)
def test_every_answer_is_accepted(playbook: awx.Playbook, question: dict[str, t.Any]) -> None:
    option = playbook.options[question["variable"]]
    answers = question.get("choices") or ANSWERS.get(question["type"]) or LINES.get(option["type"]) or ["text"]
    for answer in answers if question["required"] else ["", *answers]:
        assert complaint(question["variable"], answer, option) == ""
    assert question["required"] == bool(option.get("required"))
    assert "default" not in question, "AWX would pass it on, and hide the value of the inventory"


def test_no_survey_shows_a_secret_or_hides_what_the_inventory_says() -> None:
    for playbook in PLAYBOOKS.values():
        asked = {question["variable"]: question for question in awx.survey(playbook)["spec"]}
        assert not {"wa_service", "wa_sessions_path", "wa_health_url", "wa_restart_confirm"} & set(asked)
        for name, option in playbook.options.items():
            if option.get("no_log"):
                assert name not in asked or asked[name]["type"] == "password"


def test_every_setting_that_is_left_to_the_inventory_exists() -> None:
    names = {name for playbook in PLAYBOOKS.values() for name in playbook.options}
    lost = [name for name in awx.OF_THE_INVENTORY if not fnmatch.filter(names, f"wa_{name}")]
    assert [name for name in lost if not name.startswith("backup_")] == []


def test_secrets_come_from_credentials_in_a_form_that_is_accepted() -> None:
    injected = {}
    for kind in HELD["controller_credential_types"]:
        injected.update(kind["injectors"]["extra_vars"])
    headers = injected.pop("wa_health_headers")
    assert headers == injected.pop("wa_expected_headers", headers) == "{{ {header: key} | tojson }}"
    assert complaint("wa_health_headers", '{"x-api-key": "a\\u0026b"}', {"type": "dict"}) == ""
    assert injected == dict.fromkeys(("wa_backup_restic_repository", "wa_hook_before", "wa_hook_after"), "{{ value }}")
    password = awx.Playbook("backup", "", {"wa_backup_password": {"type": "str", "no_log": True}})
    (kind,) = awx.credential_types({"backup": password})
    assert kind["injectors"] == {"extra_vars": {"wa_backup_password": "{{ value }}"}}
    assert [entry["secret"] for entry in kind["inputs"]["fields"]] == [True]


@pytest.mark.parametrize("more", [(), ("audit",), ("backup",), ("audit", "backup", "report")])
def test_rollout_uses_the_playbooks_that_exist(more: tuple[str, ...]) -> None:
    known = PLAYBOOKS | {name: awx.Playbook(name, name, {}) for name in more}
    held = awx.definitions(known)
    names = {template["name"] for template in held["controller_templates"]}
    nodes = held["controller_workflows"][0]["simplified_workflow_nodes"]
    order = [node["identifier"] for node in nodes]
    assert [name for name in ("audit", "backup") if name in known] == order[: order.index("preview")]
    assert {entry["unified_job_template"] for entry in held["controller_schedules"]} <= names


@pytest.mark.parametrize("workflow", HELD["controller_workflows"], ids=lambda workflow: workflow["name"])
def test_nodes_of_workflows_run_templates_and_lead_to_later_nodes(workflow: dict[str, t.Any]) -> None:
    names = {template["name"] for template in HELD["controller_templates"]}
    nodes = workflow["simplified_workflow_nodes"]
    order = [node["identifier"] for node in nodes]
    for number, node in enumerate(nodes):
        assert node.get("unified_job_template") in names or "approval_node" in node
        following = [name for when in ("success", "failure", "always") for name in node.get(f"{when}_nodes", ())]
        assert all(name in order[number + 1 :] for name in following), "apply.yml creates the last node first"
    linked = {
        name for node in nodes for when in ("success", "failure", "always") for name in node.get(f"{when}_nodes", ())
    }
    assert set(order) - linked == {order[0]}


def test_what_verify_finds_damaged_is_recovered_and_nothing_else() -> None:
    nodes = HELD["controller_workflows"][1]["simplified_workflow_nodes"]
    assert nodes[0] == {
        "identifier": "verify",
        "unified_job_template": "WhatsApp sessions: verify",
        "failure_nodes": ["recover"],
    }
    assert nodes[1]["unified_job_template"] == "WhatsApp sessions: recover"


def test_files_are_what_the_playbooks_say(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["--check"]) == 0
    assert tool.main(["--check"], tmp_path) == 3
    assert "run `make readmes`" in capsys.readouterr().out
    assert tool.main([], tmp_path) == tool.main(["--check"], tmp_path) == 0


class Loader(yaml.SafeLoader):
    """Reads the tag with which Ansible leaves a template alone."""


Loader.add_constructor("!unsafe", Loader.construct_scalar)


def test_apply_hands_on_all_that_is_defined() -> None:
    (play,) = yaml.safe_load((EXTENSION / "apply.yml").read_text())
    held: dict[str, list[dict[str, t.Any]]] = yaml.load((EXTENSION / "definitions.yml").read_text(), Loader)
    handed_on = "\n".join(str(task) for task in play["tasks"])
    for variable, entries in held.items():
        assert f"{{{{ {variable} " in handed_on
        for key in {key for entry in entries for key in entry} - {"simplified_workflow_nodes"}:
            assert f"item.{key} " in handed_on or f"item.0.{key} " in handed_on
    for key in {key for node in held["controller_workflows"][0]["simplified_workflow_nodes"] for key in node}:
        assert f"item.1.{key} " in handed_on
