# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Argument specs of the modules, each with its own name so that session_plan can nest them. Plain data, no Ansible imports."""

from __future__ import annotations

import typing as t

Spec = dict[str, dict[str, t.Any]]

SESSION_DIR: Spec = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "unit": {"type": "str"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw"},
    "allow_ephemeral": {"type": "bool", "default": False},
    "require_mount": {"type": "bool", "default": False},
    "min_free_bytes": {"type": "int"},
    "min_free_inodes": {"type": "int"},
    "recurse": {"type": "bool", "default": False},
}

SESSION_HEALTH: Spec = {
    "url": {"type": "str"},
    "expect": {"type": "dict", "default": {}},
    "at_least": {"type": "dict", "default": {}},
    "equal_keys": {"type": "dict", "default": {}, "no_log": False},
    "return_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "unit": {"type": "str"},
    "since": {"type": "str"},
    "signals": {"type": "dict"},
    "require": {"type": "dict", "default": {}},
    "forbid": {"type": "dict", "default": {}},
    "timeout": {"type": "float", "default": 60.0},
    "interval": {"type": "float", "default": 2.0},
    "headers": {"type": "dict", "default": {}, "no_log": True},
}
# Rules between the options of session_health, under AnsibleModule's names; suboptions take the same keys.
SESSION_HEALTH_RULES: dict[str, t.Any] = {
    "required_one_of": [["url", "unit"]],
}

_NAMES: dict[str, t.Any] = {"type": "list", "elements": "str", "default": []}
# The options that describe how accounts are stored.
LAYOUT: Spec = {
    "layout": {"type": "str", "default": "auto"},
    "custom": {
        "type": "dict",
        "options": {
            "markers": _NAMES,
            "origin": {"type": "str"},
            "names": _NAMES,
            "depth": {"type": "int", "default": 1},
            "folders": _NAMES,
            "exclude": _NAMES,
            "locks": _NAMES,
            "caches": _NAMES,
            "databases": _NAMES,
            "ignored": _NAMES,
            "companions": {"type": "list", "elements": "str"},
        },
    },
}

# Accepted findings.
EXCEPTIONS: dict[str, t.Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "id": {"type": "str", "required": True},
        "reason": {"type": "str", "required": True},
        "until": {"type": "str", "required": True},
    },
}

EXPECTED_FROM: Spec = {
    "url": {"type": "str", "required": True},
    "headers": {"type": "dict", "default": {}, "no_log": True},
    "names": {"type": "str", "default": "data.sessions.*.session_id"},
    "timeout": {"type": "float", "default": 10.0},
}

SESSION_INFO: Spec = {
    "path": {"type": "path", "required": True},
    **LAYOUT,
    "inspect": {"type": "str", "choices": ["structure", "metadata"], "default": "structure"},
    "sizes": {"type": "bool", "default": False},
    "expected": {"type": "list", "elements": "str"},
    "expected_are_all": {"type": "bool", "default": True},
    "expected_from": {"type": "dict", "options": EXPECTED_FROM},
    "show_accounts": {"type": "bool", "default": False},
}

SESSION_REPORT: Spec = {
    "path": {"type": "path", "required": True},
    "unit": {"type": "str"},
    **LAYOUT,
    "backup_path": {"type": "path"},
    "backup_max_age": {"type": "int", "default": 93600},
    "sizes": {"type": "bool", "default": True},
    "audit": {"type": "bool", "default": True},
    "exceptions": EXCEPTIONS,
    "history_days": {"type": "float", "default": 30},
    "show_accounts": {"type": "bool", "default": False},
}

SESSION_METRICS: Spec = {
    **{name: option for name, option in SESSION_REPORT.items() if name not in ("history_days", "show_accounts")},
    "directory": {"type": "path", "default": "/var/lib/prometheus/node-exporter"},
}

# The expected accounts have one source only.
SESSION_INFO_RULES: dict[str, t.Any] = {
    "mutually_exclusive": [["expected", "expected_from"]],
}

ENVIRONMENT_FILE: Spec = {
    "path": {"type": "path", "required": True},
    "values": {"type": "dict", "required": True},
}

SESSION_MIGRATE: Spec = {
    "src": {"type": "list", "elements": "path", "default": []},
    "path": {"type": "path", "required": True},
    "allow_foreign_owner": {"type": "bool", "default": False},
    "allow_empty": {"type": "bool", "default": False},
    "accept_left_behind": {"type": "list", "elements": "str", "default": []},
    "accounts": {"type": "list", "elements": "str", "default": []},
    "unit": {"type": "str"},
    **LAYOUT,
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw", "default": "0750"},
    "state": {"type": "str", "choices": ["staged", "migrated", "retired", "rolled_back"], "default": "migrated"},
    "on_conflict": {"type": "str", "choices": ["newest", "keep", "replace", "fail"], "default": "newest"},
    "engine": {"type": "str", "choices": ["native", "rsync", "rename"], "default": "native"},
    "tombstone": {"type": "str"},
    "switch": {
        "type": "dict",
        "options": {
            "overrides": {"type": "list", "elements": "dict", "default": []},
            "pre_stop_overrides": {"type": "list", "elements": "dict", "default": []},
            "environment_file": {"type": "dict", "options": ENVIRONMENT_FILE},
            "attach": {"type": "str", "choices": ["variable", "bind", "volume", "none", "auto"], "default": "variable"},
        },
    },
    "exclude_caches": {"type": "bool", "default": True},
    "verify": {"type": "str", "choices": ["checksum", "metadata"], "default": "checksum"},
    "unit_timeout": {"type": "int", "default": 120},
    "use_timeout": {"type": "float", "default": 0},
}
SESSION_BACKUP: Spec = {
    "path": {"type": "path", "required": True},
    "unit": {"type": "str"},
    **LAYOUT,
    "accounts": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["present", "pruned"], "default": "present"},
    "backup_path": {"type": "path"},
    "quiesce": {"type": "str", "choices": ["none", "freeze", "stop"], "default": "none"},
    "keep_days": {"type": "int", "default": 7},
    "keep_last": {"type": "int", "default": 3},
    "min_free_bytes": {"type": "int", "default": 0},
    "exclude_caches": {"type": "bool", "default": True},
    "unit_timeout": {"type": "int", "default": 120},
    "show_accounts": {"type": "bool", "default": False},
}
SESSION_RESTORE: Spec = {
    "path": {"type": "path", "required": True},
    "unit": {"type": "str"},
    **LAYOUT,
    "accounts": {"type": "list", "elements": "str", "default": []},
    "snapshot": {"type": "str", "default": "latest"},
    "state": {"type": "str", "choices": ["restored", "recovered"], "default": "restored"},
    "force": {"type": "bool", "default": False},
    "backup_path": {"type": "path"},
    "snapshot_path": {"type": "path"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "all_accounts": {"type": "bool", "default": False},
    "recover_interval": {"type": "int", "default": 3600},
    "recover_at_most": {"type": "int", "default": 3},
    "logout_patterns": {"type": "list", "elements": "str", "default": []},
    "unit_timeout": {"type": "int", "default": 120},
    "use_timeout": {"type": "float", "default": 0},
    "show_accounts": {"type": "bool", "default": False},
}
SESSION_ARCHIVE: Spec = {
    "path": {"type": "path", "required": True},
    **LAYOUT,
    "state": {"type": "str", "choices": ["imported", "exported"], "required": True},
    "src": {"type": "path"},
    "dest": {"type": "path"},
    "accounts": {"type": "list", "elements": "str", "default": []},
    "snapshot": {"type": "str", "default": "latest"},
    "backup_path": {"type": "path"},
    "show_accounts": {"type": "bool", "default": False},
}
SESSION_ARCHIVE_RULES: dict[str, t.Any] = {
    "required_if": [["state", "imported", ["src"]], ["state", "exported", ["dest", "accounts"]]],
}
GRACEFUL_STOP: Spec = {
    "unit": {"type": "str", "required": True},
    "name": {"type": "str", "default": "10-graceful-stop"},
    "signal": {"type": "str"},
    "mode": {"type": "str"},
    "timeout": {"type": "int"},
}

IN_FORCE: Spec = {
    "unit": {"type": "str", "required": True},
    "values": {"type": "dict", "required": True},
}

IN_USE: Spec = {
    "unit": {"type": "str", "required": True},
    "path": {"type": "path", "required": True},
}

SESSION_AUDIT: Spec = {
    "path": {"type": "path", "required": True},
    "unit": {"type": "str"},
    **LAYOUT,
    "src": {"type": "list", "elements": "path", "default": []},
    "exceptions": EXCEPTIONS,
    "backup_path": {"type": "path"},
    "backup_max_age": {"type": "int", "default": 93600},
    "min_free_bytes": {"type": "int", "default": 268435456},
    "min_free_inodes": {"type": "int", "default": 5000},
    "max_files": {"type": "int", "default": 20000},
    "max_restarts": {"type": "int", "default": 5},
    "scan_files": {"type": "int", "default": 200},
    "show_accounts": {"type": "bool", "default": False},
}

BACKUP_AGE: Spec = {
    "path": {"type": "path", "required": True},
    "backup_path": {"type": "path"},
    "max_age": {"type": "int", "default": 0},
}
MOMENT: Spec = {
    "window": {"type": "str"},
    "paths": {"type": "list", "elements": "path", "default": []},
    "layout": LAYOUT["layout"],
    "custom": {"type": "dict"},
    "quiet_seconds": {"type": "float", "default": 0},
    "quiet_timeout": {"type": "float", "default": 300},
    "quiet_required": {"type": "bool", "default": True},
}
SESSION_PLAN: Spec = {
    "dir": {"type": "dict"},
    "overrides": {"type": "list", "elements": "dict", "default": []},
    "migrate": {"type": "dict"},
    "info": {"type": "dict"},
    "health": {"type": "dict"},
    "environment_file": {"type": "dict", "options": ENVIRONMENT_FILE},
    "stop": {"type": "dict", "options": GRACEFUL_STOP},
    "in_force": {"type": "dict", "options": IN_FORCE},
    "in_use": {"type": "dict", "options": IN_USE},
    "expected_accounts": {"type": "int", "default": 0},
    "allow_stopped": {"type": "bool", "default": False},
    "backup": {"type": "dict", "options": BACKUP_AGE},
    "moment": {"type": "dict", "options": MOMENT},
}
# With neither, only the receipt could say where the accounts were.
SESSION_MIGRATE_RULES: dict[str, t.Any] = {
    "required_if": [["state", state, ["src", "unit"], True] for state in ("staged", "migrated", "retired")],
}

SYSTEMD_OVERRIDE: Spec = {
    "unit": {"type": "str", "required": True},
    "name": {"type": "str", "default": "override"},
    "sections": {"type": "dict"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "scope": {"type": "str", "choices": ["persistent", "runtime"], "default": "persistent"},
    "daemon_reload": {"type": "bool", "default": True},
    "validate": {"type": "bool", "default": True},
    "on_shadowed": {"type": "str", "choices": ["warn", "fail", "ignore"], "default": "warn"},
    "sensitive": {"type": "bool", "default": False},
    "backup": {"type": "bool", "default": False},
}
SESSION_RESTIC: Spec = {
    "path": {"type": "path", "required": True},
    "backup_path": {"type": "path"},
    "repository": {"type": "str", "required": True, "no_log": True},
    "password_file": {"type": "path", "required": True, "no_log": False},
    "environment_file": {"type": "path"},
    "state": {"type": "str", "choices": ["copied", "drilled", "fetched"], "default": "copied"},
    "from_host": {"type": "str"},
    "from_store": {"type": "path"},
    "keep_days": {"type": "int", "default": 7},
    "keep_last": {"type": "int", "default": 3},
    "check": {"type": "bool", "default": True},
    **LAYOUT,
}

SESSION_TIMER: Spec = {
    "job": {"type": "str", "required": True, "choices": ["backup", "metrics", "recover", "restic"]},
    "options": {"type": "dict", "default": {}},
    "name": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "on_calendar": {"type": "str"},
    "randomized_delay": {"type": "str"},
    "watch": {"type": "list", "elements": "path", "default": []},
    "settle": {"type": "str", "default": "2min"},
    "on_success": {"type": "str"},
    "on_failure": {"type": "str"},
}

SYSTEMD_OVERRIDE_RULES: dict[str, t.Any] = {
    "required_if": [["state", "present", ["sections"]]],
}
# A drop-in for a unit that is known from the surrounding options: its options and rules.
DROP_IN: tuple[Spec, dict[str, t.Any]] = ({**SYSTEMD_OVERRIDE, "unit": {"type": "str"}}, SYSTEMD_OVERRIDE_RULES)
# Nested options of session_migrate.
DROP_INS: dict[str, tuple[Spec, dict[str, t.Any]]] = {"switch.overrides": DROP_IN, "switch.pre_stop_overrides": DROP_IN}
# Nested options of session_plan. The order matters: migrate must come before its own drop-ins.
NESTED_IN_PLAN: dict[str, tuple[Spec, dict[str, t.Any]]] = {
    "dir": (SESSION_DIR, {}),
    "overrides": (SYSTEMD_OVERRIDE, SYSTEMD_OVERRIDE_RULES),
    "migrate": (SESSION_MIGRATE, SESSION_MIGRATE_RULES),
    **{f"migrate.{option}": drop_in for option, drop_in in DROP_INS.items()},
    "info": (SESSION_INFO, SESSION_INFO_RULES),
    "health": (SESSION_HEALTH, SESSION_HEALTH_RULES),
    "moment.custom": (LAYOUT["custom"]["options"], {}),
}
