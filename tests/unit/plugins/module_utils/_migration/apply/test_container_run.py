# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a cutover out of a container that fails, or whose container ends meanwhile."""

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.handling import Handling
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.inspect import Box
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.recognise import Container
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.view import Root
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import first_layout
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import container_run
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.container_run import (
    Parts,
    cut_over,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.guard import Cutover, Stopwatch
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.proof import Start
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.switch import Switch
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.open_watch import UseWatch

PATH = "/var/lib/bot/sessions"


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, with nothing held and mounting that fails."""
    told: list[str] = []

    def mount(*_given: object) -> None:
        raise SessionsError("cannot mount")

    for name in ("rescuer_armed", "held_frozen", "held_still"):
        monkeypatch.setattr(container_run, name, lambda *_given: contextlib.nullcontext())
    monkeypatch.setattr(container_run, "payload_groups", lambda _box: ("/bot",))
    for name in ("require_whole", "require_still", "_require_next_start"):
        monkeypatch.setattr(container_run, name, lambda *_given: None)
    monkeypatch.setattr(container_run, "mount_over", mount)
    monkeypatch.setattr(container_run, "daemon_reload", lambda: None)
    monkeypatch.setattr(container_run, "_restart", lambda *_given: told.append("restarted"))

    def prove(_start: object, _watch: object, but: str) -> tuple[str, ...]:
        told.append(f"proved that it is not {but[:1]}")
        return ("a warning",)

    monkeypatch.setattr(container_run, "prove_container", prove)
    return told


@pytest.mark.parametrize(
    ("gone", "committed", "then"),
    [
        (False, True, ["published", "taken back"]),
        (False, False, ["published", "taken back"]),
        (True, True, ["published", "watched", "restarted", "proved that it is not 7"]),
        (True, False, ["published"]),
    ],
)
def test_what_is_taken_back(done: list[str], gone: bool, committed: bool, then: list[str]) -> None:
    """Nothing of a container that has ended: the copies are the last ones."""
    box = Box("podman", "7" * 64, "bot", 4321, False, True, (), "/u", (), {})
    root = Root("/app/auth", "layer", "/u/app/auth", (1, 2), False, (0, 0))
    handling = Handling(Container("bot.service", "podman", None, box, ""), root)
    unit = Unit("bot.service", dict.fromkeys(PROPERTIES, ""))

    def watched() -> contextlib.nullcontext[None]:
        done.append("watched")
        return contextlib.nullcontext()

    parts = Parts(
        publish=lambda: done.append("published"),
        undo_moves=lambda: done.append("taken back"),
        is_gone=lambda: gone,
        is_committed=lambda: committed,
        watched=watched,
        start=lambda: Start("bot.service", PATH, (), first_layout(), Switch((), None), True, 1, 0),
    )
    expected = contextlib.nullcontext() if gone and committed else pytest.raises(SessionsError, match="cannot mount")
    with expected:
        assert cut_over(Cutover(unit, "/nowhere", 1, Stopwatch()), handling, PATH, parts) == ("a warning",)
    assert done == then


@pytest.mark.parametrize("watched", [True, False])
@pytest.mark.parametrize("has_accounts", [True, False])
def test_nothing_is_called_seen_that_could_not_be_watched(
    monkeypatch: pytest.MonkeyPatch, watched: bool, has_accounts: bool
) -> None:
    def no_groups(_box: Box) -> tuple[str, ...]:
        raise SessionsError("its control group is not known")

    monkeypatch.setattr(
        container_run, "_running", lambda *_given: Box("docker", "8" * 64, "bot", 7, False, False, (), "", (), {})
    )
    monkeypatch.setattr(container_run, "payload_groups", no_groups)
    start = Start("bot", PATH, (), first_layout(), Switch((), None), has_accounts, 1, 1)
    warnings = container_run.prove_container(start, UseWatch.__new__(UseWatch) if watched else None)
    assert [PATH in warning and "could not be watched" in warning for warning in warnings] == [True] * has_accounts
