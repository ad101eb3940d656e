# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a test host: starts a real unit for each sandbox and says whether it could write, and what the collection thought.

Standard input: JSON ``[[properties, path], ...]``. Output: JSON, per case ``{"wrote", "writable", "wrote_with_lines"}``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import typing as t

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.service import read_service
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import sandbox

JAIL = "/opt/jail"
LISTS = (
    "ReadWritePaths ReadOnlyPaths InaccessiblePaths TemporaryFileSystem BindPaths BindReadOnlyPaths "
    "StateDirectory CacheDirectory LogsDirectory"
).split()


class Case:
    """One sandbox and the file that its unit tries to write."""

    def __init__(self, number: int, properties: dict[str, str], path: str) -> None:
        self.unit = f"wa-sandbox-{number}.service"
        self.path = path
        self.file = os.path.join(path, f"written-{number}")
        self.lines = [line for name, value in properties.items() for line in as_lines(name, value)]


def main() -> None:
    cases = [Case(number, properties, path) for number, (properties, path) in enumerate(json.load(sys.stdin))]
    furnish_jail()
    for case in cases:
        for wanted in (case.path, *(place for line in case.lines for place in places(line))):
            os.makedirs(wanted, exist_ok=True)
    wrote = started(cases)
    verdicts = [sandbox.verdict(read_service(case.unit).properties, case.path) for case in cases]
    for case, verdict in zip(cases, verdicts, strict=False):
        case.lines += verdict.lines
    wrote_with_lines = started(cases)
    for case in cases:
        os.unlink(f"/run/systemd/system/{case.unit}")
    results = zip(wrote, verdicts, wrote_with_lines, strict=False)
    print(
        json.dumps(
            [{"wrote": one, "writable": verdict.writable, "wrote_with_lines": two} for one, verdict, two in results]
        )
    )


def as_lines(name: str, value: str) -> list[str]:
    if name not in LISTS:
        return [f"{name}={value}"]
    return [f'{name}="{item}"' if " " in item else f"{name}={item}" for item in sandbox._items({name: value}, name)]


def places(line: str) -> t.Iterator[str]:
    """Directories that a line names: they have to exist, or the unit does not start."""
    name, _mark, value = line.partition("=")
    if name.endswith("Paths"):
        yield from (place for place in value.strip('"').lstrip("-+").split(":") if place.startswith("/"))


def started(cases: list[Case]) -> list[bool]:
    """Start all units, each of which writes one file; per case, whether that file then lies on the host."""
    for case in cases:
        command = 'ExecStart=/usr/bin/touch "{}"'.format(case.file.replace("%", "%%"))
        with open(f"/run/systemd/system/{case.unit}", "w", encoding="utf-8") as target:
            target.write("\n".join(["[Service]", "Type=oneshot", command, *case.lines, ""]))
    units = [case.unit for case in cases]
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "start", *units], check=False, capture_output=True, timeout=120)
    subprocess.run(["systemctl", "reset-failed", *units], check=False, capture_output=True)
    return [removed(case.file) for case in cases]


def removed(file: str) -> bool:
    try:
        os.unlink(file)
    except FileNotFoundError:
        return False
    return True


def furnish_jail() -> None:
    """Put touch and its libraries where RootDirectory= looks for them."""
    listed = subprocess.run(["ldd", "/usr/bin/touch"], check=True, capture_output=True, text=True).stdout
    libraries = [word for word in listed.split() if word.startswith("/")]
    for file in ("/usr/bin/touch", *libraries):
        target = JAIL + file
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(file, target)


if __name__ == "__main__":
    main()
