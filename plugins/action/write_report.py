# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the report of a fleet on the controller, from what session_report returned for each host."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import tempfile
import time
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._report_document import (
    VERSION,
    answer_of,
    document_of,
)
from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._report_page import page_of, verdict_of

_DATA, _PAGE = "report.json", "report.html"
_LARGEST = 1 << 30  # bytes: ten thousand hosts with twenty accounts each have about 0.1 GB
_MODE = 0o640


class ActionModule(ActionBase):
    """Write report.json and report.html in one run on the controller."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("directory", "variable", "title", "backup_max_age", "history_days"))
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Return the totals. Fails if the directory cannot be written."""
        result: dict[str, t.Any] = {**super().run(tmp, task_vars), "changed": True}
        variables, given = task_vars or {}, self._task.args
        directory = pathlib.Path(os.path.expanduser(str(given["directory"]))).absolute()
        previous, warning = _previous(directory / _DATA)
        hosts = [str(name) for name in variables.get("ansible_play_hosts_all") or ()]
        answers = {name: answer_of(variables["hostvars"].raw_get(name).get(given["variable"])) for name in hosts}
        document = document_of(
            answers,
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            str(given.get("title") or "WhatsApp sessions"),
            {"max_age": _number(given, "backup_max_age", 93600), "days": _number(given, "history_days", 30)},
            previous,
        )
        page = page_of(document)
        if not self._task.check_mode:
            _write(directory, {_DATA: json.dumps(document, separators=(",", ":")), _PAGE: page})
        totals = {**document["totals"], "page": str(directory / _PAGE)}
        message = f"{verdict_of(totals)['text']} {totals['page']}"
        return {**result, "totals": totals, "msg": message, **({"warnings": [warning]} if warning else {})}


def _number(given: t.Mapping[str, t.Any], name: str, default: float) -> float:
    try:
        number = float(given.get(name, default))
    except (TypeError, ValueError):
        number = -1.0
    if number < 0:
        raise AnsibleActionFail(f"{name} is not a number of at least 0; correct it and run again")
    return number


def _previous(path: pathlib.Path) -> tuple[dict[str, t.Any] | None, str]:
    """Return the document of the last run, None if there is none, and a warning if the file cannot be used."""
    warning = f"{path} is not a report of this release, so the new report shows no growth"
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        document = json.loads(content) if len(content) <= _LARGEST else {}
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, RecursionError):
        return None, warning
    if not isinstance(document, dict) or document.get("version") != VERSION:
        return None, warning
    return document, ""


def _write(directory: pathlib.Path, contents: t.Mapping[str, str]) -> None:
    """Write all files, each by a rename, so that a reader never sees half of one."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=f".{name}.")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    os.fchmod(file.fileno(), _MODE)
                    file.write(content)
                os.replace(temporary, directory / name)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise
    except OSError as error:
        raise AnsibleActionFail(
            f"cannot write the report to {directory}: {error.strerror}; set wa_report_dir to a directory that you can write"
        ) from error
