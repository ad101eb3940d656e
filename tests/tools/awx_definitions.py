# SPDX-License-Identifier: GPL-3.0-or-later
"""Derives the AWX definitions of this collection from the specs of its playbooks, in the shape that infra.aap_configuration reads.

A playbook that is added, and each of its settings, appear without a change of this file. Nothing is written here.
"""

from __future__ import annotations

import fnmatch
import itertools
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass

from generate_role_readme import markdown, paragraphs
from roles import load
from tree import ROOT

PREFIX = "WhatsApp sessions: "
ORGANIZATION = "{{ sessions_organization | default('Default') }}"
# By name and organization, because each organization may have one of this name.
NOTIFIED = "{{ ['WhatsApp sessions++' ~ sessions_organization | default('Default')] if sessions_alert_url | default('') else [] }}"
CANARY = "{{ sessions_canary | default('canary') }}"

# Where the artifacts of the preview have the sentence that an approver reads.
PREVIEWED = "whatsapp_ops.persist.text"

# Playbooks that change nothing, so that they need no twin in check mode and may run on a schedule.
READ_ONLY = ("audit", "report", "verify")
# When those run that a fleet needs regularly.
SCHEDULES = {
    "backup": ("each night", "DTSTART:20260101T013000Z RRULE:FREQ=DAILY;INTERVAL=1"),
    "verify": ("each morning", "DTSTART:20260101T043000Z RRULE:FREQ=DAILY;INTERVAL=1"),
    "audit": ("each Monday", "DTSTART:20260105T050000Z RRULE:FREQ=WEEKLY;INTERVAL=1;BYDAY=MO"),
    "report": ("each Monday", "DTSTART:20260105T053000Z RRULE:FREQ=WEEKLY;INTERVAL=1;BYDAY=MO"),
}
# These need a terminal.
NOT_IN_AWX = ("wa_restart_confirm",)
# What describes a host or its backend belongs in the inventory. AWX passes an unanswered question as an empty text, which
# would hide the value of the inventory, so surveys only ask for decisions about one run.
OF_THE_INVENTORY = """
    attach back_signal backup_* connected_key drop_in environment_file expected_* forbid health_* journal layout layout_custom
    legacy_paths mode move_address move_port progress quiet_seconds quiet_timeout require require_mount service sessions_path signals
    stop_* unit_timeout use_timeout variable window
""".split()

Spec = dict[str, t.Any]
TEXT = {"type": "text", "max": 1024}
LINES = {"type": "textarea", "max": 8192}
QUESTIONS: dict[str, Spec] = {
    "bool": {"type": "multiplechoice", "choices": ["", "true", "false"]},
    "int": {"type": "integer"},
    "float": {"type": "float"},
    "list": LINES,
    "dict": LINES,
}


@dataclass(frozen=True)
class Playbook:
    name: str
    title: str
    options: dict[str, Spec]

    @property
    def template(self) -> str:
        return PREFIX + self.name

    @property
    def twin(self) -> str:
        """The template that shows what this one would change; itself if it changes nothing."""
        return self.template if self.name in READ_ONLY else f"{self.template} (check)"


def playbooks() -> dict[str, Playbook]:
    """Return the playbooks of the collection by name."""
    found = {}
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        entry = load(ROOT / "playbooks" / "argument_specs" / path.name)["argument_specs"][path.stem]
        found[path.stem] = Playbook(path.stem, entry["short_description"], entry["options"])
    return found


def definitions(known: dict[str, Playbook]) -> Spec:
    """Return the variables of the data file."""
    return {
        "controller_credential_types": list(credential_types(known)),
        "controller_notifications": [notification()],
        "controller_templates": [template for playbook in known.values() for template in templates(playbook)],
        "controller_workflows": list(workflows(known)),
        "controller_schedules": [schedule(known[name], *when) for name, when in SCHEDULES.items() if name in known],
    }


def credential_types(known: dict[str, Playbook]) -> Iterator[Spec]:
    """Yield a type for each secret setting: its value then comes from a credential, never from a survey."""
    secrets = {
        name: option for playbook in known.values() for name, option in playbook.options.items() if is_secret(option)
    }
    for name, option in sorted(secrets.items()):
        words = name.removeprefix("wa_").replace("_", " ")
        common = {"name": PREFIX + words, "description": described(option), "kind": "cloud"}
        if option["type"] == "dict":
            fields = [field("header", "Name of the header"), field("key", "API key", secret=True)]
            value = "{{ {header: key} | tojson }}"
        else:
            fields, value = [field("value", words.capitalize(), secret=True)], "{{ value }}"
        required = [entry["id"] for entry in fields]
        yield common | {"inputs": {"fields": fields, "required": required}, "injectors": {"extra_vars": {name: value}}}


def field(name: str, label: str, secret: bool = False) -> Spec:
    return {"id": name, "label": label, "type": "string"} | ({"secret": True} if secret else {})


def is_secret(option: Spec) -> bool:
    return bool(option.get("no_log")) and option["type"] in ("dict", "str")


def notification() -> Spec:
    return {
        "name": "WhatsApp sessions",
        "description": "Posts failed jobs, and workflows that wait for approval.",
        "organization": ORGANIZATION,
        "notification_type": "webhook",
        "notification_configuration": {
            "url": "{{ sessions_alert_url | default('') }}",
            # AWX adds what is omitted here, and would then report a change each time.
            "http_method": "POST",
            "disable_ssl_verification": False,
            "username": "",
            "password": "",
            "headers": {"Content-Type": "application/json"},
        },
        "state": "{{ 'present' if sessions_alert_url | default('') else 'absent' }}",
    }


def templates(playbook: Playbook) -> Iterator[Spec]:
    """Yield the job template of a playbook and its twin in check mode."""
    common: Spec = {
        "organization": ORGANIZATION,
        "project": "{{ sessions_project | default('WhatsApp sessions') }}",
        "playbook": f"playbooks/{playbook.name}.yml",
        "inventory": "{{ sessions_inventory | default('WhatsApp backends') }}",
        "credentials": "{{ sessions_credentials | default(['WhatsApp hosts']) }}",
        "ask_limit_on_launch": "wa_move_from" not in playbook.options,
        "job_slice_count": 1,
        "survey_enabled": True,
        "survey_spec": survey(playbook),
        "notification_templates_error": NOTIFIED,
    }
    yield {"name": playbook.template, "description": playbook.title, "job_type": "run"} | common
    if playbook.twin != playbook.template:
        text = f"{playbook.title}: shows what would change, and changes nothing"
        yield {"name": playbook.twin, "description": text, "job_type": "check", "diff_mode": True} | common


def survey(playbook: Playbook) -> Spec:
    asked = {name: option for name, option in playbook.options.items() if is_asked(name, option)}
    first_required = sorted(asked.items(), key=lambda item: not item[1].get("required"))
    return {
        "name": playbook.template,
        "description": f"{playbook.title}. What describes a host or its backend is in the inventory.",
        "spec": [question(name, option) for name, option in first_required],
    }


def is_asked(name: str, option: Spec) -> bool:
    of_the_inventory = any(fnmatch.fnmatchcase(name, f"wa_{pattern}") for pattern in OF_THE_INVENTORY)
    return not of_the_inventory and name not in NOT_IN_AWX and not is_secret(option)


def question(name: str, option: Spec) -> Spec:
    """Return one question. It has no default, so that an unanswered one is not passed on."""
    form = QUESTIONS.get(option["type"], TEXT)
    if option.get("choices"):
        form = {"type": "multiplechoice", "choices": ["", *map(str, option["choices"])]}
    if option.get("no_log"):
        form = {"type": "password", "max": 8192}
    if option.get("required") and "max" in form:
        form = {**form, "min": 1}  # AWX accepts an empty text as an answer
    return {
        "question_name": name.removeprefix("wa_").replace("_", " ").capitalize(),
        "question_description": described(option),
        "variable": name,
        "required": bool(option.get("required")),
        **form,
    }


def described(option: Spec) -> str:
    return " ".join(markdown(text).replace("`", "") for text in paragraphs(option.get("description")))


def schedule(playbook: Playbook, when: str, rule: str) -> Spec:
    return {
        "name": f"{playbook.template}, {when}",
        "unified_job_template": playbook.template,
        "organization": ORGANIZATION,
        "rrule": rule,
    }


def workflows(known: dict[str, Playbook]) -> Iterator[Spec]:
    """Yield the workflow that introduces persist to a fleet, and the one that recovers what verify finds damaged."""
    text = "Persist on canary hosts, verify, ask for approval, then the other hosts; rolls back what fails"
    yield workflow("rollout", text, rollout(known))
    if "recover" in known:
        text = "Verify, restore accounts that are certainly damaged or lost if that fails, and verify again"
        yield workflow("verify and recover", text, recovery(known))


def workflow(name: str, text: str, steps: Iterator[Spec]) -> Spec:
    return {
        "name": PREFIX + name,
        "description": text,
        "organization": ORGANIZATION,
        "notification_templates_error": NOTIFIED,
        "notification_templates_approvals": NOTIFIED,
        "simplified_workflow_nodes": list(steps),
    }


def rollout(known: dict[str, Playbook]) -> Iterator[Spec]:
    """Yield the nodes. It uses the playbooks that exist."""
    persist, verify, rollback = (known[name] for name in ("persist", "verify", "rollback"))
    begin = [name for name in ("audit", "backup") if name in known]
    for name, following in itertools.pairwise([*begin, "preview"]):
        # Findings of an audit are what this rollout is about; without a backup, nothing is changed.
        yield node(name, known[name].template, **{"always" if name == "audit" else "success": following})
    yield node("preview", persist.twin, success="canary")
    yield node("canary", persist.template, CANARY, success="verify_canary")
    yield node("verify_canary", verify.template, CANARY, success="approve", failure="rollback_canary")
    yield node("rollback_canary", rollback.template, CANARY)
    seen = f"The artifact {PREVIEWED} of the job preview has the counts in one sentence."
    yield approval("approve", "Continue with all hosts?", seen, success="rest")
    yield node("rest", persist.template, success="verify")
    yield node("verify", verify.template, failure="approve_rollback")
    yield approval("approve_rollback", "Roll back all hosts?", "At least one host failed.", success="rollback")
    yield node("rollback", rollback.template)


def recovery(known: dict[str, Playbook]) -> Iterator[Spec]:
    verify, recover = known["verify"], known["recover"]
    yield node("verify", verify.template, failure="recover")
    yield node("recover", recover.template, success="verify_again")
    yield node("verify_again", verify.template)


def node(name: str, template: str, limit: str = "", **following: str) -> Spec:
    return (
        {"identifier": name, "unified_job_template": template} | ({"limit": limit} if limit else {}) | links(following)
    )


def approval(name: str, title: str, text: str, **following: str) -> Spec:
    return {"identifier": name, "approval_node": {"name": title, "description": text, "timeout": 86400}} | links(
        following
    )


def links(following: dict[str, str]) -> Spec:
    return {f"{when}_nodes": [name] for when, name in following.items()}
