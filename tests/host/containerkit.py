# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with Podman and Docker, and backends in containers on it: an image without a registry, units, and how their accounts are."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import time
import typing as t

import ansible
from hostkit import REPOSITORY, SECONDS, Host

PACKAGES = ("docker.io", "docker-cli", "docker-compose", "podman", "crun")
# What container engines do to the kernel, and nspawn keeps from hosts by default.
SYSTEM_CALLS = ("@keyring", "bpf")
UNIT = "wabot.service"
CONTAINER = "wabot"
PROJECT = "/srv/bot"
COMPOSED = "bot-wabot-1"
OVERRIDE = f"{PROJECT}/compose.override.yaml"
PATH = "/var/lib/wabot/sessions"
INSIDE = "/app/auth_info_baileys"
QUADLET = "/etc/containers/systemd/wabot.container"
DROP_IN = f"{QUADLET}.d/20-sessions.conf"
RUN = (
    f"run --rm --name {CONTAINER} --network none -w /app -v /srv/program.py:/app/program.py:ro {{}} "
    "localhost/base:1 /usr/bin/python3 /app/program.py"
)
# An image of the host's own programs: there is no registry. Programs of the engines are left out, they are large.
IMAGE = """
mkdir -p /etc/containers
printf '[containers]\\nkeyring = false\\n' >/etc/containers/containers.conf
for tree in /sys/fs/cgroup/*; do
    mount -o remount,rw "$tree" 2>/dev/null || mount -o remount,bind,rw "$tree" 2>/dev/null || true
done
podman image exists localhost/base:1 || {
    tar -C / -c --exclude='usr/share/*' --exclude=usr/bin/docker* --exclude=usr/sbin/dockerd --exclude=usr/bin/podman \
        --exclude=usr/bin/containerd* --exclude=usr/bin/ctr --exclude=usr/libexec --exclude=usr/lib/systemd \
        usr bin lib lib64 sbin etc/passwd etc/group | podman import --quiet - localhost/base:1
    podman save localhost/base:1 | docker load
}
"""
CLEAN = f"""
systemctl stop {UNIT} 2>/dev/null
podman rm --force --ignore {CONTAINER} systemd-{CONTAINER} >/dev/null 2>&1
docker rm --force --volumes {CONTAINER} {COMPOSED} >/dev/null 2>&1
docker volume rm accounts bot_accounts >/dev/null 2>&1
podman volume rm accounts >/dev/null 2>&1
rm -rf {QUADLET}* /etc/systemd/system/{UNIT}* /var/lib/wabot /var/lib/.wabot* /var/lib/whatsapp-ops /run/whatsapp-ops /srv/accounts \
    {PROJECT}
mkdir /srv/accounts
systemctl daemon-reload
systemctl reset-failed 2>/dev/null
true
"""

State = dict[str, t.Any]


class Engines(Host):
    """One throw-away host with both engines."""

    def boot(self) -> None:
        self._left = _groups_of_docker()
        packages = pathlib.Path(ansible.__file__).parents[1]
        views = [f"--bind-ro={REPOSITORY}:/repository", f"--bind-ro={packages}:/controller"]
        extra = [word for package in PACKAGES for word in ("--with", package)]
        allowed = [word for call in SYSTEM_CALLS for word in ("--system-call", call)]
        self.lab("up", *extra, *allowed, self.name, self.suite, *views)
        self.lab("wait", self.name)
        self.sh(IMAGE)
        self.put("/srv/program.py", (REPOSITORY / "tests" / "host" / "container_program.py").read_text())

    def destroy(self) -> None:
        """Remove the host, and the control groups that Docker made on the machine itself."""
        self.lab("destroy")
        for group in _groups_of_docker() - self._left:
            for directory, _below, _files in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)

    def quadlet(self, *lines: str) -> State:
        """Start the backend as a Quadlet, with more lines below [Container]."""
        self.sh(CLEAN)
        text = "\n".join(
            (
                *("[Container]", "Image=localhost/base:1", "Exec=/usr/bin/python3 /app/program.py"),
                *("Volume=/srv/program.py:/app/program.py:ro", "WorkingDir=/app", "Network=none", *lines, ""),
            )
        )
        self.put(QUADLET, text)
        return self.started("podman")

    def unit(self, engine: str, options: str = "") -> State:
        """Start the backend as a unit that runs an engine's client."""
        self.sh(CLEAN)
        self.write_unit(engine, options)
        return self.started(engine)

    def write_unit(self, engine: str, options: str) -> None:
        line = RUN.format(options)
        self.put(
            f"/etc/systemd/system/{UNIT}",
            f"[Service]\nExecStart=/usr/bin/{engine} {line}\nExecStop=/usr/bin/{engine} stop {CONTAINER}\n",
        )

    def compose(self, *volumes: str, lines: t.Sequence[str] = (), file: str = "compose.yaml") -> State:
        """Start the backend as a service of Docker Compose, with more volumes and other lines."""
        self.sh(CLEAN)
        self.write_project(*volumes, lines=lines, file=file)
        self.up(f"--file {file}" if file != "compose.yaml" else "")
        return self.running("compose")

    def write_project(self, *volumes: str, lines: t.Sequence[str] = (), file: str = "compose.yaml") -> None:
        named = [f"'{volume}'" for volume in ("/srv/program.py:/app/program.py:ro", *volumes)]
        service = [
            *("image: localhost/base:1", "command: [/usr/bin/python3, /app/program.py]", "working_dir: /app"),
            *("network_mode: none", "restart: unless-stopped", f"volumes: [{', '.join(named)}]", *lines),
        ]
        top = "\nvolumes:\n  accounts:\n" if any(volume.startswith("accounts:") for volume in volumes) else "\n"
        self.put(f"{PROJECT}/{file}", "\n    ".join(("services:\n  wabot:", *service)) + top)

    def up(self, options: str = "", *more: str) -> None:
        """What an operator does who deploys the project."""
        self.sh(f"cd {PROJECT} && docker compose {options} up --detach {' '.join(more)} 2>&1")

    def started(self, engine: str) -> State:
        self.sh(f"systemctl daemon-reload && systemctl start {UNIT}")
        return self.running(engine)

    def running(self, engine: str, but: str = "") -> State:
        """Wait until a container (another one than ``but``) has saved its account; return how that is."""
        deadline = time.monotonic() + SECONDS
        while True:
            now = self.now(engine)
            if now.get("saved", 0) > 2 and now["container"] != but:
                return now
            assert time.monotonic() < deadline, now
            time.sleep(0.1)

    def going_on(self, engine: str) -> State:
        """Wait until the program saves its account: one that is held still does not."""
        first = self.running(engine)
        deadline = time.monotonic() + SECONDS
        while (now := self.running(engine))["saved"] == first["saved"]:
            assert time.monotonic() < deadline, now
        return now

    def now(self, engine: str) -> State:
        """Say which container runs, and what its program sees of its account."""
        name = COMPOSED if engine == "compose" else CONTAINER
        if engine == "podman" and "ExecStart=" not in self.sh(f"cat /etc/systemd/system/{UNIT}", may_fail=True):
            name = f"systemd-{CONTAINER}"
        engine = "podman" if engine == "podman" else "docker"
        told = self.sh(
            f"{engine} inspect --format '{{{{.Id}}}} {{{{.State.Pid}}}}' {name} && "
            f"cat /proc/$({engine} inspect --format '{{{{.State.Pid}}}}' {name})/root{INSIDE}/main/creds.json",
            may_fail=True,
        ).split("\n", 1)
        with contextlib.suppress(ValueError, IndexError):
            seen = json.loads(told[1])
            kept = ("identity", "starts", "stops", "saved")
            return {"container": told[0].split()[0], **{name: seen[name] for name in kept}}
        return {"container": ""}


def require_same(before: State, now: State, stops: int) -> None:
    """The account is the one that it was, and has what the program wrote at each of its stops."""
    assert now["identity"] == before["identity"]
    assert now["stops"] == before["stops"] + stops
    assert now["saved"] > before["saved"]


def _groups_of_docker() -> set[str]:
    """The control groups at the top of the machine that Docker calls its own: it makes them outside of the host's."""
    return {str(path) for path in pathlib.Path("/sys/fs/cgroup").glob("*/docker")}


def lost_with_container(host: Engines) -> list[str]:
    """Audit the backend; return what the finding says that is lost with its container, nothing if there is no such finding."""
    audited = host.module("session_audit", path=PATH, unit="wabot")
    assert not audited["changed"], audited
    found = {one["id"]: [evidence["what"] for evidence in one["evidence"]] for one in audited["findings"]}
    assert "container_unknown" not in found, found
    return found.get("container_without_volume", [])
