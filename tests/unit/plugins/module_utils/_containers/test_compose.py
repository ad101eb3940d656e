# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a service of Docker Compose, as Compose 2.26 was heard to say it, and when root does not have its files read."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers import compose
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.command_lines import (
    Mounted,
    lasting_mount_over,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.compose import (
    Compose,
    compose_service,
    found_files,
    is_changed,
    next_line,
    properties_of,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.inspect import Box
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.command import Completed

ID = "7" * 64
HASH = "5" * 64
LABELS = {
    "com.docker.compose.project": "shop",
    "com.docker.compose.service": "bot",
    "com.docker.compose.oneoff": "False",
    "com.docker.compose.config-hash": HASH,
    "com.docker.compose.project.working_dir": "/srv/shop",
    "com.docker.compose.project.config_files": "/srv/shop/compose.yaml",
}
CONFIG = {
    "name": "shop",
    "services": {
        "bot": {
            "volumes": [
                {"type": "bind", "source": "/srv/a", "target": "/app/a", "bind": {"create_host_path": True}},
                {"type": "bind", "source": "/srv/b", "target": "/app/b", "read_only": True, "bind": {}},
                {"type": "volume", "source": "accounts", "target": "/app/c", "volume": {}},
                {"type": "volume", "source": "accounts", "target": "/app/d", "volume": {"subpath": "x"}},
                {"type": "volume", "target": "/app/e", "volume": {}},
                {"type": "tmpfs", "target": "/app/f"},
            ]
        }
    },
    "volumes": {"accounts": {"name": "shop_accounts"}},
}


def box(**changed: t.Any) -> Box:
    return Box("docker", ID, "shop-bot-1", 0, False, False, (), "", (), LABELS)._replace(**changed)


def service(directory: pathlib.Path, *files: str) -> Compose:
    return Compose("shop", "bot", str(directory), tuple(f"{directory}/{file}" for file in files), (), HASH, box())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Have Docker answer by what it is asked; every question is kept."""
    questions: list[list[str]] = []

    def run_for_lines(argv: t.Sequence[str], take: t.Callable[[bytes], None], **_limits: t.Any) -> Completed:
        questions.append(list(argv))
        if "ps" in argv:
            take(f"{ID}\n".encode())
        take(f"bot {HASH}\n".encode() if "--hash" in argv else json.dumps(CONFIG).encode())
        return Completed(tuple(argv), 0, "", "")

    monkeypatch.setattr(compose, "run_for_lines", run_for_lines)
    programs = tmp_path_factory.mktemp("programs")
    (programs / "docker").touch()
    monkeypatch.setattr(compose, "SEARCH_PATH", str(programs))
    monkeypatch.setattr(compose, "inspected", lambda _engine, _name: box())
    return questions


@pytest.fixture
def project(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A project of root's alone; directories above that of a test are nobody's business here."""
    monkeypatch.setattr(compose, "untrusted_writer", lambda _way, _trusted: None)
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    (tmp_path / "compose.yaml").chmod(0o644)
    return tmp_path


def test_a_service(asked: list[list[str]]) -> None:
    found = compose_service("bot")
    assert found is not None
    assert found[:6] == ("shop", "bot", "/srv/shop", ("/srv/shop/compose.yaml",), (), HASH)
    assert "label=com.docker.compose.service=bot" in asked[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"com.docker.compose.oneoff": "True"},  # of `docker compose run`
        {"com.docker.compose.project": ""},
        {"com.docker.compose.service": "-bot"},
        {"com.docker.compose.project.working_dir": "srv"},
    ],
)
def test_what_is_no_service(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, changed: t.Mapping[str, str]
) -> None:
    monkeypatch.setattr(compose, "inspected", lambda _engine, _name: box(labels={**LABELS, **changed}))
    assert compose_service("bot") is None


def test_a_name_that_two_containers_have(asked: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "_boxes", lambda _condition: [box(), box(name="shop-bot-2")])
    with pytest.raises(SessionsError, match=r"2 containers .*shop-bot-1, shop-bot-2"):
        compose_service("bot")


def test_a_name_that_docker_would_read_otherwise(asked: list[list[str]]) -> None:
    assert compose_service("--all") is None
    assert asked == []


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"status": "exited", "exit_code": 0}, "inactive"),
        ({"status": "exited", "exit_code": 137}, "inactive"),  # Docker ends so who does not end in time
        ({"status": "exited", "exit_code": 1}, "failed"),
        ({"status": "created"}, "inactive"),
        ({"status": "restarting", "exit_code": 1}, "activating"),
        ({"status": "running", "pid": os.getpid()}, "active"),
    ],
)
def test_its_state_in_the_words_of_systemd(changed: dict[str, t.Any], state: str) -> None:
    shown = properties_of(service(pathlib.Path("/srv/shop"))._replace(box=box(**changed)))
    assert (shown["ActiveState"], shown["MainPID"]) == (state, str(changed.get("pid", 0)))
    assert ("InvocationID" in shown) == (state == "active")


def test_what_the_next_container_mounts(asked: list[list[str]], project: pathlib.Path) -> None:
    line = next_line(service(project, "compose.yaml"))
    assert line.makes_anew
    assert line.mounts == (
        Mounted("/srv/a", "/app/a"),
        Mounted("/srv/b", "/app/b", passing=False),
        Mounted("shop_accounts", "/app/c"),
        Mounted("shop_accounts", "/app/d", passing=False),
        Mounted("", "/app/e"),
        Mounted("", "/app/f"),
    )
    assert [bool(lasting_mount_over(line, f"/app/{name}")) for name in "abcdef"] == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]
    assert "--file" not in asked[0]  # Compose merges the override by itself only then


def test_files_that_compose_does_not_find_are_named(asked: list[list[str]], project: pathlib.Path) -> None:
    (project / "bot.yaml").write_text("services: {}\n")
    (project / "bot.yaml").chmod(0o644)
    next_line(service(project, "bot.yaml"))
    assert asked[0][asked[0].index("--file") + 1] == f"{project}/bot.yaml"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("include:\n  - other.yaml\n", "includes other files"),
        ("services:\n  bot:\n    extends:\n      file: other.yaml\n", "includes other files"),
    ],
)
def test_a_project_that_brings_in_other_files(
    asked: list[list[str]], project: pathlib.Path, text: str, why: str
) -> None:
    (project / "compose.yaml").write_text(text)
    with pytest.raises(SessionsError, match=why):
        next_line(service(project, "compose.yaml"))
    assert asked == []


@pytest.mark.parametrize("file", ["compose.yaml", ".env"])
def test_a_file_that_others_can_write(asked: list[list[str]], project: pathlib.Path, file: str) -> None:
    (project / file).touch()
    (project / file).chmod(0o666)
    with pytest.raises(SessionsError, match="make root the only owner"):
        next_line(service(project, "compose.yaml"))
    assert asked == []


def test_a_file_that_is_gone(asked: list[list[str]], project: pathlib.Path) -> None:
    with pytest.raises(SessionsError, match="cannot be read"):
        next_line(service(project, "gone.yaml"))


def test_whether_it_would_be_made_of_something_else(asked: list[list[str]], project: pathlib.Path) -> None:
    here = service(project, "compose.yaml")
    assert not is_changed(here)
    assert is_changed(here._replace(config="6" * 64))


@pytest.mark.parametrize(
    ("there", "made_of", "override"),
    [
        (["compose.yaml"], ["compose.yaml"], "compose.override.yaml"),
        (["compose.yml"], ["compose.yml"], "compose.override.yml"),
        (["docker-compose.yml"], ["docker-compose.yml"], "docker-compose.override.yml"),
        (["docker-compose.yaml"], ["docker-compose.yaml"], "docker-compose.override.yaml"),
        (["compose.yaml", "docker-compose.yml"], ["docker-compose.yml"], ""),  # which it does not find any more
        (["compose.yaml", "docker-compose.override.yml"], ["compose.yaml"], ""),
        (["compose.yaml", "compose.override.yml"], ["compose.yaml", "compose.override.yml"], ""),
        (["compose.yaml", "more.yaml"], ["compose.yaml", "more.yaml"], ""),
        (["bot.yaml"], ["bot.yaml"], ""),
    ],
)
def test_the_file_that_compose_merges_by_itself(
    tmp_path: pathlib.Path, there: list[str], made_of: list[str], override: str
) -> None:
    for name in there:
        (tmp_path / name).touch()
    wanted = f"{tmp_path}/{override}" if override else ""
    assert service(tmp_path, *made_of).override == wanted
    if wanted:
        pathlib.Path(wanted).touch()
        assert found_files(str(tmp_path)) == (f"{tmp_path}/{made_of[0]}", wanted)
        made = service(tmp_path, *made_of, override)
        assert service(tmp_path, *made_of).finds_its_files and made.finds_its_files
        pathlib.Path(wanted).unlink()
        assert made.finds_its_files and made.read == (f"{tmp_path}/{made_of[0]}",)
