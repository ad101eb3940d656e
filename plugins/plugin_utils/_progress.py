# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Runs a module that may take long, and shows meanwhile what it is doing: phases and counts.

The module is run as any other, so that its result, its cost and what happens when the connection drops stay what they are. A thread reads
the progress file on the host by a command of its own, a first time when the module has run for some seconds. Whatever goes wrong with
that only costs lines. Must never show text of a host other than words of a phase.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import json
import re
import secrets
import threading
import time
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.plugins.action.normal import ActionModule as RunModule
from ansible.utils.display import Display

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.progress import REQUESTED
from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._settings import is_given, read_setting

SETTING = "wa_progress"
_SECONDS = 5.0  # between two lines, unless the setting is given
_LONGEST = 60.0  # an hour of work is worth a line each minute
_SHARE = 0.1  # of the time that has passed: the longer it takes, the rarer the lines
_LARGEST = 4096  # bytes
_PATIENCE = 10.0  # seconds for the last look, if the module ends during one
_WORDS = re.compile("[a-z][a-z_ ]{0,39}")


class ReportingModule(RunModule):
    """Run the module of the task; show lines on the error output, so that the output of a callback stays what it is."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Return the result of the module. Check mode, ``async`` and ``no_log`` are run without lines."""
        pause = self._pause(task_vars or {})
        if not pause or self._task.async_val or self._task.check_mode or self._task.no_log:
            return self._as_usual(tmp, task_vars)
        name = str(self._task.delegate_to or (task_vars or {}).get("inventory_hostname", ""))
        number = secrets.token_hex(8)
        asked = {REQUESTED: number}
        self._task.environment.append(asked)
        try:
            with _Watch(self, name, number, pause).shown():
                return self._as_usual(tmp, task_vars)
        finally:
            self._task.environment.remove(asked)

    def _as_usual(self, tmp: str | None, task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        return result

    def _pause(self, variables: t.Mapping[str, t.Any]) -> float:
        """Return the seconds between two lines, 0 for no lines."""
        value = self._templar.template(variables.get(SETTING))
        try:
            pause = float(read_setting(value, "float")) if is_given(value) else _SECONDS
        except ValueError as error:
            raise AnsibleActionFail(
                f"{SETTING} is not {error}; nothing was changed: correct it and run again"
            ) from error
        return max(0.0, pause)


class _Watch:
    """Shows lines until the module has ended.

    What a worker process displays goes through a queue whose lock all workers share, and a process that ends while a thread of it holds
    that lock blocks all others forever. So the thread puts nothing in it but its lines, and none once the module has ended.
    """

    def __init__(self, action: ActionBase, name: str, number: str, pause: float) -> None:
        self._channel = _channel(action)
        self._name, self._pause = name, pause
        self._command = f"head -c {_LARGEST} /run/whatsapp-ops/progress-{number} 2>/dev/null"
        self._ended, self._showing = threading.Event(), threading.Lock()
        self._queue = Display()._final_q

    @contextlib.contextmanager
    def shown(self) -> t.Iterator[None]:
        """Show lines while the body runs."""
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(self._show,), daemon=True)
        if self._queue is not None:
            display: t.Any = Display()
            display._final_q = QueueOfOthers(self._queue, thread)
        thread.start()
        try:
            yield
        finally:
            with self._showing:
                self._ended.set()
            thread.join(_PATIENCE)

    def _show(self) -> None:
        begin, pause = time.monotonic(), self._pause
        while not self._ended.wait(pause):
            line = line_of(self._read())
            passed = time.monotonic() - begin
            with self._showing:
                if not self._ended.is_set():
                    self._display(f"{self._name}: {line} ({passed:.0f} s)")
            pause = max(self._pause, min(_LONGEST, passed * _SHARE))

    def _display(self, text: str) -> None:
        if self._queue is None:
            Display().display(text, stderr=True)
        else:
            self._queue.send_display("display", text, stderr=True)

    def _read(self) -> str:
        try:
            return str(self._channel._low_level_execute_command(self._command).get("stdout", ""))
        except Exception:  # the connection may be of any kind, and only lines are lost
            return ""


class QueueOfOthers:
    """The queue of a worker process, in which one ``thread`` displays nothing: a connection reports each command at -vvv.

    It stays in its place until the process ends, since the thread may outlive the module.
    """

    def __init__(self, queue: t.Any, thread: threading.Thread) -> None:
        self._queue, self._thread = queue, thread

    def send_display(self, *arguments: t.Any, **options: t.Any) -> None:
        """Display something, unless the thread wants to."""
        if threading.current_thread() is not self._thread:
            self._queue.send_display(*arguments, **options)

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._queue, name)


def _channel(action: ActionBase) -> ActionBase:
    """Return a second way to the host: a connection, and how it becomes root, keep the state of the current command."""
    channel = copy.copy(action)
    channel._connection = copy.copy(action._connection)
    channel._connection.become = copy.copy(action._connection.become)
    return channel


def line_of(printed: str) -> str:
    """Return what to show for the content of a progress file: numbers and plain words only, because the host may be compromised."""
    try:
        facts = json.loads(printed[printed.index("{") :][:_LARGEST])
        work, phase = (_word(facts[name]) for name in ("work", "phase"))
        counted = [_count(facts.get(f"{kind}"), facts.get(f"{kind}_total"), kind) for kind in ("accounts", "files")]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "examining the accounts"
    backend = [f"backend {facts['backend']}"] if facts.get("backend") in ("up", "down") else []
    return f"{work}: {', '.join([phase, *filter(None, counted), *backend])}"


def _word(value: t.Any) -> str:
    if not isinstance(value, str) or not _WORDS.fullmatch(value):
        raise ValueError
    return value


def _count(done: t.Any, total: t.Any, kind: str) -> str:
    if not done and not total:
        return ""
    return f"{int(done or 0):,} of {int(total):,} {kind}" if total else f"{int(done):,} {kind}"
