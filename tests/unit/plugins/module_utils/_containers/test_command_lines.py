# SPDX-License-Identifier: GPL-3.0-or-later
"""Which container a command line of an engine starts, and what it mounts."""

from __future__ import annotations

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.command_lines import (
    Line,
    Mounted,
    lasting_mount_over,
    parse_line,
)

ANONYMOUS = "a" * 64


def parsed(text: str) -> Line:
    line = parse_line(text.split())
    assert line is not None
    return line


@pytest.mark.parametrize(
    ("text", "engine", "verb", "name", "tail"),
    [
        (
            "/usr/bin/docker run --rm --name bot base:1 node app.js",
            "docker",
            "run",
            "bot",
            ("base:1", "node", "app.js"),
        ),
        ("/usr/bin/docker run --rm --name=bot base:1 --name=other", "docker", "run", "bot", ("base:1", "--name=other")),
        ("docker container run -it --name bot base", "docker", "run", "bot", ("base",)),
        ("docker --host unix:///run/docker.sock run --name bot base", "docker", "run", "bot", ("base",)),
        ("docker -D run -d -e A=1 --env-file /etc/a -p 80:80 --name bot base", "docker", "run", "bot", ("base",)),
        ("-/usr/bin/docker run -eA=1 -p=80:80 --init --name bot base", "docker", "run", "bot", ("base",)),
        (
            "podman run --replace --rm --cgroups=split -d --sdnotify=conmon --name bot -- base x",
            "podman",
            "run",
            "bot",
            ("base", "x"),
        ),
        ("docker start -a bot", "docker", "start", "bot", ("bot",)),
        ("docker start --detach-keys ctrl-x -a bot", "docker", "start", "bot", ("bot",)),
        ("docker compose -f a.yml up", "docker", "compose", "", ("up",)),
        ("/usr/local/bin/docker-compose up", "docker", "compose", "", ("up",)),
        ("docker run base --rm --name late", "docker", "run", "", ("base", "--rm", "--name", "late")),
        ("docker run --name", "docker", "run", "", ()),
        ("docker", "docker", "", "", ()),
    ],
)
def test_lines(text: str, engine: str, verb: str, name: str, tail: tuple[str, ...]) -> None:
    line = parsed(text)
    assert (line.engine, line.verb, line.name, line.tail) == (engine, verb, name, tail)


@pytest.mark.parametrize("text", ["", "/usr/bin/node app.js", "/usr/bin/dockerd --debug", "/bin/sh -c docker"])
def test_what_runs_no_engine(text: str) -> None:
    assert parse_line(text.split()) is None


def test_the_file_that_tells_the_id() -> None:
    assert parsed("podman run --cidfile=/run/bot.cid --rm base").cidfile == "/run/bot.cid"


@pytest.mark.parametrize(
    ("options", "mounts"),
    [
        ("-v /srv/a:/app/auth", [Mounted("/srv/a", "/app/auth")]),
        ("-v/srv/a:/app/auth:Z", [Mounted("/srv/a", "/app/auth")]),
        ("-dv /srv/a/:/app//auth/:ro,z", [Mounted("/srv/a", "/app/auth", passing=False)]),
        ("-v /srv/a:/app/auth:O,upperdir=/u,workdir=/w", [Mounted("/srv/a", "/app/auth", passing=False)]),
        ("-v /srv/a:/app/auth:rw,Z", [Mounted("/srv/a", "/app/auth")]),
        ("--mount type=bind,src=/srv/a,dst=/app/auth,readonly", [Mounted("/srv/a", "/app/auth", passing=False)]),
        ("--mount type=bind,src=/srv/a,dst=/app/auth,ro=true", [Mounted("/srv/a", "/app/auth", passing=False)]),
        ("--mount type=bind,src=/srv/a,dst=/app/auth,ro=false", [Mounted("/srv/a", "/app/auth")]),
        ("--mount type=volume,src=a,dst=/b,volume-subpath=c", [Mounted("a", "/b", passing=False)]),
        ("--volume=accounts:/app/auth", [Mounted("accounts", "/app/auth")]),
        ("-v /app/auth", [Mounted("", "/app/auth")]),
        ("--mount type=bind,source=/srv/a,target=/app/auth", [Mounted("/srv/a", "/app/auth")]),
        ("--mount=type=volume,src=accounts,dst=/app/auth", [Mounted("accounts", "/app/auth")]),
        ("--mount type=tmpfs,destination=/app/auth", [Mounted("", "/app/auth")]),
        ("--tmpfs /app/auth", []),
        ("-v /srv/a:/app/auth --name x -v b:/b", [Mounted("/srv/a", "/app/auth"), Mounted("b", "/b")]),
    ],
)
def test_mounts(options: str, mounts: list[Mounted]) -> None:
    assert list(parsed(f"docker run {options} base -v /not:/this").mounts) == mounts


@pytest.mark.parametrize(
    ("options", "path", "source"),
    [
        ("-v /srv/a:/app", "/app/auth", "/srv/a"),
        ("-v /srv/a:/app/auth", "/app/auth", "/srv/a"),
        ("-v /srv/a:/app/authentic", "/app/auth", None),
        ("-v /srv/a:/app -v /app/auth", "/app/auth", None),
        ("-v /app -v accounts:/app/auth", "/app/auth/main", "accounts"),
        (f"-v {ANONYMOUS}:/app/auth", "/app/auth", None),
        ("-v /srv/a:/app/auth:ro", "/app/auth", None),
        ("-v /srv/a:/app -v /srv/b:/app/auth:O", "/app/auth", None),
        ("", "/app/auth", None),
    ],
)
def test_the_mount_that_lasts(options: str, path: str, source: str | None) -> None:
    """The one that is mounted deepest counts, and a volume without a name goes with its container."""
    found = lasting_mount_over(parsed(f"docker run {options} base"), path)
    assert (found.source if found else None) == source
