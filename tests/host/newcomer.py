# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment of somebody who has ansible-core, the built collection and an inventory, and nothing else. Never sees the checkout."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import typing as t

from hostkit import REPOSITORY, Host

FENCE = re.compile(r"^```shell\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECONDS = 300
# Only from the environment of the run: no setting of Ansible, no path of Python.
KEPT = ("HOME", "LC_ALL", "LANG", "TERM")


def commands(page: pathlib.Path) -> list[str]:
    """Return the commands of the shell blocks of a page in their order, without comments."""
    lines = [line for block in FENCE.findall(page.read_text(encoding="utf-8")) for line in block.splitlines()]
    return [command for command in (shlex.join(shlex.split(line, comments=True)) for line in lines) if command]


class Newcomer:
    """A directory with an inventory and the built collection, and the programs of ansible-core."""

    def __init__(self, folder: pathlib.Path, hosts: t.Mapping[str, Host]) -> None:
        self.folder = folder
        self._programs = programs_of_ansible_core(folder / "venv")
        (folder / "inventory").write_text(inventory(hosts))
        self._run("ansible-galaxy", "collection", "build", "--output-path", str(folder), str(REPOSITORY))

    def run(self, command: str) -> str:
        """Run a command as it is in the documentation; return what it printed."""
        return self._run("bash", "-c", command)

    def _run(self, *words: str) -> str:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        place = {
            "PATH": f"{self._programs}:/usr/sbin:/usr/bin:/sbin:/bin",
            "ANSIBLE_HOME": str(self.folder / "home"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**kept, **place},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{shlex.join(words)} ended with {done.returncode}:\n{output}"
        return output


def inventory(hosts: t.Mapping[str, Host]) -> str:
    """Return the inventory of docs/first-steps.md for hosts of the lab. A host beside the first one has no account yet."""
    known = json.loads(next(iter(hosts.values())).lab("inventory", "--list"))
    lines = ["[whatsapp]"]
    for number, (name, host) in enumerate(hosts.items()):
        reached = {**known["lab"]["vars"], "ansible_host": known["_meta"]["hostvars"][host.name]["ansible_host"]}
        del reached["ansible_python_interpreter"]
        if number:
            reached["wa_allow_empty"] = "true"
        lines.append(" ".join([name, *(f"{key}={shlex.quote(value)}" for key, value in reached.items())]))
    return "\n".join(lines) + "\n"


def programs_of_ansible_core(venv: pathlib.Path) -> pathlib.Path:
    """Make an environment that has ansible-core and what it requires, linked from this one; return the folder of its programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)
    packages = next(venv.glob("lib/python*/site-packages"))
    for distribution in map(importlib.metadata.distribution, required("ansible-core", set())):
        for part in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (packages / part).exists():  # _yaml, which two may have
                (packages / part).symlink_to(str(distribution.locate_file(part)))
    for program in ("ansible-galaxy", "ansible-playbook"):
        module = program.removeprefix("ansible-")
        (venv / "bin" / program).write_text(f"#!{venv}/bin/python\nfrom ansible.cli.{module} import main\nmain()\n")
        (venv / "bin" / program).chmod(0o755)
    return venv / "bin"


def required(name: str, known: set[str]) -> set[str]:
    """Return the names of the distributions that one requires here, with itself."""
    if name in known:
        return known
    known.add(name)
    for text in importlib.metadata.distribution(name).requires or ():
        needed = re.match(r"[\w.-]+", text)
        assert needed
        if "extra ==" not in text and is_installed(needed[0]):
            required(needed[0], known)
    return known


def is_installed(name: str) -> bool:
    """Whether a requirement is there: one for another release of Python or another system is not."""
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
