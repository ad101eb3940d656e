# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What systemd runs: one job of the collection with the options in a file. Never prints names of accounts or files, or any content.

Prints one line of counts, or one sentence about what went wrong. The exit code says which, so a failure is the state of the unit.
"""

from __future__ import annotations

import sys
import typing as t

from .._core.bounded_json import parsed_json
from .._core.errors import SessionsError
from .._core.job import Job, execute
from .._core.printable import printable
from .._core.unforeseen import unforeseen
from .._fs.files import read_held

DONE, FAILED = 0, 1


class Loader(t.Protocol):
    """What ``_core/zip_imports.py`` is here for."""

    def loaded(self) -> None:
        """Report that all code is loaded."""


def main(job: Job, loader: Loader) -> int:
    """Run ``job`` with the options in the file that the command line names; return the exit code."""
    loader.loaded()
    try:
        outcome = execute(job, _options(sys.argv[1]), check_mode=False)
    except SessionsError as error:
        return _failed(str(error))
    except Exception as error:
        return _failed(unforeseen(error))
    sys.stdout.write(f"{counts(outcome.report.values) or 'done'}\n")
    return DONE


def counts(values: t.Mapping[str, t.Any]) -> str:
    """Return the numbers among the return values of a job, and in its ``counts``, in one line."""
    counted = {**values, **(values.get("counts") or {})}
    numbers = {name: value for name, value in counted.items() if isinstance(value, (int, float))}
    return " ".join(f"{name}={int(value) if isinstance(value, bool) else value}" for name, value in numbers.items())


def _options(path: str) -> dict[str, t.Any]:
    """Read the options. Raises SessionsError if another user than root could have written them."""
    held = read_held(path)
    if held is None:
        raise SessionsError(f"the options of this job are missing: {path} does not exist; run session_timer again")
    if held.status.st_uid != 0 or held.status.st_mode & 0o077:
        raise SessionsError(f"{path} is not private to root, so its options are not trusted; run session_timer again")
    try:
        options = parsed_json(held.content)
    except (ValueError, RecursionError) as error:
        raise SessionsError(f"{path} is damaged; run session_timer again") from error
    if not isinstance(options, dict):
        raise SessionsError(f"{path} is damaged; run session_timer again")
    return options


def _failed(message: str) -> int:
    sys.stderr.write(f"{printable(message)}\n")
    return FAILED
