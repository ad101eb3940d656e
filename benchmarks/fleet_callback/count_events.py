# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts what AWX would store of a run: an event for each task, and two for each host that a task runs on."""

from __future__ import annotations

import json
import os
import typing as t

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: count_events
type: aggregate
short_description: Count tasks and events of a run
description: Writes them as JSON into the file that the variable COUNT_EVENTS names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "count_events"

    def __init__(self) -> None:
        super().__init__()
        self._tasks = self._events = 0

    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:
        self._tasks += 1
        self._events += 1

    def v2_playbook_on_handler_task_start(self, task: t.Any) -> None:
        self._tasks += 1
        self._events += 1

    def _one_more(self, *words: t.Any, **more: t.Any) -> None:
        self._events += 1

    v2_runner_on_start = v2_runner_on_ok = v2_runner_on_skipped = v2_runner_on_failed = v2_runner_on_unreachable = (
        _one_more
    )
    v2_runner_retry = v2_runner_item_on_ok = v2_runner_item_on_failed = v2_runner_item_on_skipped = _one_more
    v2_playbook_on_play_start = v2_playbook_on_include = v2_playbook_on_notify = v2_on_file_diff = _one_more

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        with open(os.environ["COUNT_EVENTS"], "w", encoding="ascii") as file:
            json.dump({"tasks": self._tasks, "events": self._events + 1}, file)
