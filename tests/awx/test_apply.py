# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions as code, applied with the modules of awx.awx: all of them arrive, and applying them again changes nothing."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

import pytest
import yaml
from controller import TOKEN, Controller, Server

import awx_definitions as awx
from tree import ROOT

ALERTS = "https://alerts.example.org/hook"


@pytest.fixture
def controller() -> t.Iterator[Controller]:
    """AWX with what apply.yml expects, and nothing else."""
    controller = Controller([f"playbooks/{path.name}" for path in (ROOT / "playbooks").glob("*.yml")])
    organization = controller.add("organizations", name="Default")["id"]
    for kind, name in (
        ("projects", "WhatsApp sessions"),
        ("inventories", "WhatsApp backends"),
        ("credentials", "WhatsApp hosts"),
    ):
        controller.add(kind, name=name, organization=organization)
    return controller


@pytest.fixture
def server(controller: Controller) -> t.Iterator[Server]:
    server = Server(controller)
    yield server
    server.close()


def apply(server: Server, folder: pathlib.Path, **settings: str | list[str]) -> int:
    """Apply the definitions; return how many tasks changed something."""
    command = [
        os.path.join(os.path.dirname(sys.executable), "ansible-playbook"),
        str(ROOT / "extensions" / "awx" / "apply.yml"),
    ]
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": os.environ["AWX_COLLECTIONS"],
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "CONTROLLER_HOST": server.url,
        "CONTROLLER_OAUTH_TOKEN": TOKEN,
    }
    options = ["--extra-vars", json.dumps(settings)]
    done = subprocess.run(
        [*command, *options],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    changed = re.search(r"changed=(\d+)", done.stdout)
    assert changed
    return int(changed[1])


def test_all_arrives_and_a_second_run_changes_nothing(
    controller: Controller, server: Server, tmp_path: pathlib.Path
) -> None:
    assert apply(server, tmp_path, sessions_alert_url=ALERTS) == 7
    held = awx.definitions(awx.playbooks())
    for kind, variable in (
        ("credential_types", "controller_credential_types"),
        ("notification_templates", "controller_notifications"),
        ("job_templates", "controller_templates"),
        ("workflow_job_templates", "controller_workflows"),
        ("schedules", "controller_schedules"),
    ):
        assert sorted(item["name"] for item in controller.items[kind].values()) == sorted(
            one["name"] for one in held[variable]
        )
    assert_surveys(controller, held)
    for workflow in held["controller_workflows"]:
        assert_workflow(controller, workflow)

    controller.changes.clear()
    assert apply(server, tmp_path, sessions_alert_url=ALERTS) == 0
    assert controller.changes == []


def test_another_organization_has_definitions_of_the_same_names(
    controller: Controller, server: Server, tmp_path: pathlib.Path
) -> None:
    apply(server, tmp_path, sessions_alert_url=ALERTS)
    number = controller.add("organizations", name="Messaging")["id"]
    controller.add("projects", name="WhatsApp sessions", organization=number)
    controller.add("inventories", name="Messaging hosts", organization=number)
    controller.add("credentials", name="Messaging key", organization=number)

    its = {
        "sessions_inventory": "Messaging hosts",
        "sessions_credentials": ["Messaging key"],
        "sessions_alert_url": ALERTS,
    }
    assert apply(server, tmp_path, sessions_organization="Messaging", **its) == 6

    for kind in ("job_templates", "workflow_job_templates", "notification_templates"):
        names = [item["name"] for item in controller.items[kind].values() if item["organization"] == number]
        assert len(names) == len(set(names)) == len(controller.items[kind]) / 2
    own = {item["id"] for item in controller.items["workflow_job_templates"].values() if item["organization"] == number}
    for node in controller.items["workflow_job_template_nodes"].values():
        runs = controller.items["job_templates"].get(node["unified_job_template"])
        assert runs is None or (runs["organization"] == number) == (node["workflow_job_template"] in own)


def assert_surveys(controller: Controller, held: dict[str, t.Any]) -> None:
    """Every template has its survey and its notification."""
    for number, item in controller.items["job_templates"].items():
        (template,) = (one for one in held["controller_templates"] if one["name"] == item["name"])
        assert controller.surveys[number] == yaml.safe_load(yaml.safe_dump(template["survey_spec"]))
        notified = controller.associated[f"{item['url']}notification_templates_error/"]
        assert [controller.items["notification_templates"][one]["name"] for one in notified] == ["WhatsApp sessions"]


def assert_workflow(controller: Controller, workflow: dict[str, t.Any]) -> None:
    """Every node runs what it should, and leads where it should."""
    nodes = workflow["simplified_workflow_nodes"]
    (number,) = (
        number
        for number, item in controller.items["workflow_job_templates"].items()
        if item["name"] == workflow["name"]
    )
    by_name = {
        item["identifier"]: item
        for item in controller.items["workflow_job_template_nodes"].values()
        if item["workflow_job_template"] == number
    }
    assert set(by_name) == {node["identifier"] for node in nodes}
    for node in nodes:
        item = by_name[node["identifier"]]
        kind = "workflow_approval_templates" if "approval_node" in node else "job_templates"
        runs = controller.items[kind][item["unified_job_template"]]
        assert runs["name"] == node.get("unified_job_template", node.get("approval_node", {}).get("name"))
        for when in ("success", "failure", "always"):
            leads = controller.associated.get(f"{item['url']}{when}_nodes/", [])
            assert leads == [by_name[name]["id"] for name in node.get(f"{when}_nodes", [])]
