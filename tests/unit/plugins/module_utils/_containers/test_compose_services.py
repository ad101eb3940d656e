# SPDX-License-Identifier: GPL-3.0-or-later
"""What is decided about a service of Docker Compose, how it is started, and what is said where the operator has to do something."""

from __future__ import annotations

import contextlib
import json
import pathlib
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers import compose_services
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.command_lines import Line, Mounted
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.compose import Compose
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.compose_services import (
    brought,
    way_back,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.handling import WayBack, handling_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.inspect import Box, BoxMount
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.recognise import Container
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.view import Root
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.compose_rollback import (
    starts_back,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.compose_run import starts_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.rescue import run_all, start_of

ID = "7" * 64
PATH = "/var/lib/bot/sessions"
INSIDE = "/app/auth"
ROOT = Root(INSIDE, "layer", f"/u{INSIDE}", (1, 2), False, (1000, 1000))


def container(directory: pathlib.Path, *mounts: Mounted, running: tuple[BoxMount, ...] = ()) -> Container:
    box = Box("docker", ID, "shop-bot-1", 4321, False, False, running, "/u", (), {}, policy="always")
    compose = Compose("shop", "bot", str(directory), (f"{directory}/compose.yaml",), (), "5" * 64, box)
    line = Line("docker", "up", box.name, "", mounts, ("bot",))
    return Container("bot.service", "docker", line, box, "", compose=compose)


@pytest.fixture
def project(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    monkeypatch.setattr(compose_services, "follow_no_link_below", lambda _path: None)
    monkeypatch.setattr(compose_services, "is_changed", lambda _compose: False)
    monkeypatch.setattr(compose_services, "roots_of", lambda _box, _layout: (ROOT,))
    return tmp_path


def refused(one: Container, trouble: str = "") -> str:
    with pytest.raises(SessionsError) as refusal:
        brought(one, ROOT, PATH, "head", trouble)
    return str(refusal.value)


def test_the_override_file(project: pathlib.Path) -> None:
    written = brought(container(project), ROOT, PATH, "head", "")
    assert written is not None
    assert written[0] == f"{project}/compose.override.yaml"
    assert f'source: "{PATH}"' in written[1] and f'target: "{INSIDE}"' in written[1]
    assert "create_host_path: false" in written[1]  # a missing sessions path must not become an empty one


def test_a_project_that_mounts_it_already(project: pathlib.Path) -> None:
    assert brought(container(project, Mounted(PATH, INSIDE)), ROOT, PATH, "head", "") is None


def test_a_project_that_mounts_something_else(project: pathlib.Path) -> None:
    told = refused(container(project, Mounted("/srv/other", "/app")))
    assert "has /srv/other at /app instead" in told and f"'{PATH}:{INSIDE}' to 'volumes' of bot" in told


def test_an_override_file_that_is_there(project: pathlib.Path) -> None:
    (project / "docker-compose.override.yml").touch()
    assert "has an override file already" in refused(container(project))


def test_a_project_that_changed_since(project: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose_services, "is_changed", lambda _compose: True)
    assert "they take from a shell, have changed" in refused(container(project))


def test_a_trouble_comes_with_steps_that_lose_nothing(project: pathlib.Path) -> None:
    told = refused(container(project), "it is paused")
    stop, copy, up = (told.index(words) for words in ("docker stop shop-bot-1", "docker cp -a", " up -d bot"))
    assert "because it is paused" in told
    assert stop < copy < up


def mounted(path: str = PATH) -> tuple[BoxMount, ...]:
    return (BoxMount("bind", path, INSIDE, "", writable=True),)


@pytest.mark.parametrize(
    ("running", "planned", "done"),
    [
        (True, False, True),
        (False, True, False),  # what is in the layer of the one that is stopped would be gone with the next one
        (False, False, False),
    ],
)
def test_a_container_that_is_stopped(project: pathlib.Path, running: bool, planned: bool, done: bool) -> None:
    one = container(project, *([Mounted(PATH, INSIDE)] if planned else []), running=mounted() if running else ())
    compose = t.cast("Compose", one.compose)
    stopped = compose._replace(box=compose.box._replace(pid=0, status="exited"))
    one = one._replace(box=stopped.box, compose=stopped)
    expected = contextlib.nullcontext() if done else pytest.raises(SessionsError, match="or start it, and run again")
    with expected:
        assert handling_of(one, PATH, None).root is None


def test_the_way_back(project: pathlib.Path) -> None:
    file, text = t.cast("tuple[str, str]", brought(container(project), ROOT, PATH, "head", ""))
    pathlib.Path(file).write_text(text)
    handling = way_back(container(project, running=mounted()), PATH, None)
    assert handling.back == WayBack(file, INSIDE)


@pytest.mark.parametrize(
    ("trouble", "changed", "why"), [("it is paused", False, "paused"), ("", True, "have changed since")]
)
def test_no_way_back_into_another_container(
    project: pathlib.Path, monkeypatch: pytest.MonkeyPatch, trouble: str, changed: bool, why: str
) -> None:
    """It has to be the same but for the mount."""
    file, text = t.cast("tuple[str, str]", brought(container(project), ROOT, PATH, "head", ""))
    pathlib.Path(file).write_text(text)
    monkeypatch.setattr(compose_services, "is_changed", lambda _compose: changed)
    with pytest.raises(SessionsError, match=why):
        way_back(container(project, running=mounted())._replace(trouble=trouble), PATH, None)


def test_no_way_back_from_where_the_accounts_are_in_the_layer(project: pathlib.Path) -> None:
    """There is nothing to be done."""
    handling = way_back(container(project), PATH, None)
    assert (handling.root, handling.back) == (None, None)


@pytest.mark.parametrize("text", [None, "services: {}\n"])
def test_no_way_back_without_the_file_that_persist_wrote(project: pathlib.Path, text: str | None) -> None:
    if text is not None:
        (project / "compose.override.yaml").write_text(text)
    with pytest.raises(SessionsError, match="so its accounts stay in place"):
        way_back(container(project, running=mounted()), PATH, None)


def test_no_way_back_from_another_path(project: pathlib.Path) -> None:
    file, text = t.cast("tuple[str, str]", brought(container(project), ROOT, PATH, "head", ""))
    pathlib.Path(file).write_text(text)
    with pytest.raises(SessionsError, match="so its accounts stay in place"):
        way_back(container(project, running=mounted("/srv/other")), PATH, None)


@pytest.mark.parametrize(
    ("committed", "active", "anew", "then"),
    [
        (False, True, True, ["update --restart=always", "start"]),
        (False, False, True, ["update --restart=always"]),
        (True, True, True, ["compose"]),
        (True, True, False, ["update --restart=always", "start"]),
    ],
)
def test_how_it_is_started(
    project: pathlib.Path, tmp_path: pathlib.Path, committed: bool, active: bool, anew: bool, then: list[str]
) -> None:
    """The container that is there, and a new one only once all is published."""
    intent = tmp_path / "intent.json"
    intent.write_text(json.dumps({"committed": committed}))
    compose = t.cast("Compose", container(project).compose)
    commands = start_of(starts_of(compose, active, anew), str(intent))
    assert [" ".join(words[1:])[: len(start)] for words, start in zip(commands, then, strict=True)] == then


def test_how_it_is_started_on_the_way_back(project: pathlib.Path, tmp_path: pathlib.Path) -> None:
    starts = starts_back(t.cast("Compose", container(project).compose))
    former = start_of(starts, str(tmp_path / "none"))
    assert former[-1][-4:] == ["up", "--detach", "--no-deps", "bot"]
    (tmp_path / "intent.json").write_text('{"committed": true}')
    assert start_of(starts, str(tmp_path / "intent.json")) == [["docker", "start", "shop-bot-1"]]


def test_what_counts_is_the_last_command() -> None:
    """The first ones may be about a container that is gone by then."""
    assert run_all([["false"], ["true"]], 5) == ""
    assert run_all([["true"], ["sh", "-c", "echo why >&2; exit 3"]], 5) == "why"
    assert "none-of-that-name" in run_all([["none-of-that-name"]], 5)
