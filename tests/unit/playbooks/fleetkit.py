# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that exist only as a folder: ssh is a script that runs commands here, Python one that answers as a module would."""

from __future__ import annotations

import ast
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import typing as t

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]

# Runs the last word as a command. A connection that is cut says so as ssh does, with 255, and once it is cut it stays so. Who looks at the
# progress is shown what was laid out for the first, second, ... look.
SSH = """#!/bin/sh
here={here}
[ ! -e "$here/cut" ] || exit 255
for word; do :; done
case $word in
*/progress-*)
    echo look >>"$here/looks"
    exec cat "$here/progress.$(wc -l <"$here/looks")"
esac
sh -c "$word"
status=$?
[ ! -e "$here/cut" ] || exit 255
exit "$status"
"""
# Notes which module was sent and its options, and answers what was laid out for its first, second, ... call, when all of its progress was
# looked at.
PYTHON = """#!/bin/sh
here={here}
cat >"$here/sent"
module=$(tr -c 'a-z_.' '\\n' <"$here/sent" | sed -n 's/.*sessions\\.plugins\\.modules\\.\\([a-z_]*\\)$/\\1/p' | head -n 1)
echo "$module" >>"$here/calls"
grep ANSIBLE_MODULE_ARGS "$here/sent" | sed -n "s/.*\\('{{\\"ANSIBLE_MODULE_ARGS\\".*}}'\\).*/\\1/p" >>"$here/options"
number=$(grep -cx "$module" "$here/calls")
[ ! -e "$here/$module.cuts" ] || touch "$here/cut"
if [ -e "$here/$module.shows" ]; then
    until [ "$(cat "$here/looks" 2>/dev/null | wc -l)" -ge "$(cat "$here/$module.shows")" ]; do sleep 0.02; done
fi
cat "$here/$module.$number" 2>/dev/null || cat "$here/$module" 2>/dev/null || echo '{{"changed": true}}'
"""

# By which ansible-core recognises a module in Python.
NEW_STYLE = "from ansible.module_utils.common.text.converters import to_text\n"

Answer = dict[str, t.Any]
PLAN: Answer = {
    "health": {"unit": {"name": "whatsapp-backend.service", "active": True, "container": ""}},
    "linked_accounts": 3,
    "migrate": {"path_made": False},
    "dir": {"owner": "whatsapp", "group": "whatsapp", "mode": "0750"},
    "stop": {"unit": "whatsapp-backend.service", "name": "10-graceful-stop", "sections": {}},
}
LEFT = {**PLAN, "todo": ["dir", "stop", "migrate"], "summary": "3 accounts linked, left to do: dir stop migrate"}
DONE = {**PLAN, "todo": [], "summary": "3 accounts linked, backend healthy, nothing left to do"}
MOVED: Answer = {"changed": True, "summary": "3 accounts moved, away for 0.6 s", "downtime_seconds": 0.6}


@functools.cache
def collections(place: pathlib.Path) -> pathlib.Path:
    """Return a path of collections in ``place`` with this one, whose modules are only their documentation.

    No code of a module runs here, and collecting what each imports is most of what a run of ansible-playbook costs.
    """
    path = pathlib.Path(tempfile.mkdtemp(prefix="collections-", dir=place))  # pytest removes it with its own
    sessions = path / "ansible_collections/whatsapp_ops/sessions"
    (sessions / "plugins/modules").mkdir(parents=True)
    for entry in (*REPOSITORY.iterdir(), *(REPOSITORY / "plugins").iterdir()):
        link = sessions / entry.relative_to(REPOSITORY)
        if not link.exists() and not entry.name.startswith("."):
            link.symlink_to(entry)
    for module in (REPOSITORY / "plugins/modules").glob("*.py"):
        documentation = module.read_text().partition("\nfrom ansible_collections.")[0]
        (sessions / "plugins/modules" / module.name).write_text(f"{documentation}\n{NEW_STYLE}")
    return path


class Fleet:
    """Hosts in the order in which they were added; each has work to do and does it, unless something else is said."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._hosts: dict[str, t.Mapping[str, t.Any]] = {}

    def add(
        self,
        name: str,
        *,
        cut_by: str = "",
        variables: t.Mapping[str, t.Any] | None = None,
        progress: t.Sequence[Answer] = (),
        **answers: Answer,
    ) -> None:
        """Add a host. ``answers``: by module and number of its call (``session_plan_2``); ``cut_by``: a module that never answers.

        ``variables``: what its inventory says about it besides. ``progress``: what session_migrate shows before it answers.
        """
        here = self._folder / name
        here.mkdir()
        for program, text in (("ssh", SSH), ("python", PYTHON)):
            (here / program).write_text(text.format(here=here))
            (here / program).chmod(0o755)
        laid = {"session_plan_1": LEFT, "session_plan_2": DONE, "session_health_1": {"healthy": True}}
        laid |= {"session_migrate_1": MOVED, **answers}
        for call, answer in laid.items():
            module, _line, number = call.rpartition("_")
            (here / f"{module}.{number}").write_text(json.dumps(answer))
        for number, shown in enumerate(progress, start=1):
            (here / f"progress.{number}").write_text(json.dumps(shown))
        if progress:
            (here / "session_migrate.shows").write_text(str(len(progress)))
        if cut_by:
            (here / f"{cut_by}.cuts").touch()
        self._hosts[name] = variables or {}

    def play(
        self, playbook: str, *options: str, environment: t.Mapping[str, str] | None = None, **settings: t.Any
    ) -> Played:
        """Run a playbook of the collection on all hosts; ``environment`` is what the operator's own has besides."""
        return self._run(f"whatsapp_ops.sessions.{playbook}", *options, environment=environment, **settings)

    def compose(self, *imports: tuple[str, t.Mapping[str, t.Any]], **settings: t.Any) -> Played:
        """Run a playbook of an operator's own that imports those of the collection, each with its variables."""
        plays = [
            {"ansible.builtin.import_playbook": f"whatsapp_ops.sessions.{name}", "vars": variables}
            for name, variables in imports
        ]
        return self.play_own(plays, **settings)

    def play_own(self, plays: list[dict[str, t.Any]], **settings: t.Any) -> Played:
        """Run a playbook of an operator's own."""
        playbook = self._folder / "site.yml"
        playbook.write_text(json.dumps(plays))
        return self._run(str(playbook), **settings)

    def _run(
        self, playbook: str, *options: str, environment: t.Mapping[str, str] | None = None, **settings: t.Any
    ) -> Played:
        inventory = self._folder / "inventory.json"
        hosts = {name: {**self._variables(self._folder / name), **more} for name, more in self._hosts.items()}
        inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        command = [
            *(os.path.join(os.path.dirname(sys.executable), "ansible-playbook"), playbook),
            *("--inventory", str(inventory), "--extra-vars", json.dumps(settings), *options),
        ]
        variables = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(collections(self._folder.parent)),
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_HOME": str(self._folder / "home"),
            "ANSIBLE_NOCOLOR": "1",
            **(environment or {}),
        }
        done = subprocess.run(
            command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )
        calls = {name: self._calls(name) for name in self._hosts}
        return Played(
            done.returncode, done.stdout + done.stderr, calls, {name: self._options(name) for name in self._hosts}
        )

    def _calls(self, name: str) -> list[str]:
        calls = self._folder / name / "calls"
        return calls.read_text().split() if calls.exists() else []

    def _options(self, name: str) -> list[dict[str, t.Any]]:
        noted = self._folder / name / "options"
        sent = map(ast.literal_eval, noted.read_text().splitlines()) if noted.exists() else ()
        return [_without_internals(json.loads(text)["ANSIBLE_MODULE_ARGS"]) for text in sent]

    @staticmethod
    def _variables(here: pathlib.Path) -> dict[str, t.Any]:
        return {
            "ansible_host": "nowhere.invalid",
            "ansible_become": False,
            "ansible_ssh_executable": str(here / "ssh"),
            "ansible_python_interpreter": str(here / "python"),
        }


def _without_internals(options: dict[str, t.Any]) -> dict[str, t.Any]:
    return {name: value for name, value in options.items() if not name.startswith("_ansible_")}


class Played(t.NamedTuple):
    """A finished run: its exit code, all that it printed, the modules that each host was sent, and the options of each."""

    rc: int
    output: str
    calls: dict[str, list[str]]
    options: dict[str, list[dict[str, t.Any]]]

    @property
    def untouched(self) -> list[str]:
        """The hosts that were looked at and nothing more."""
        return [name for name, calls in self.calls.items() if calls == ["session_plan"]]
