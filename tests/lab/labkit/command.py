# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs other programs with argument lists; errors state what failed and why."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence


class LabError(Exception):
    """An error that users see as one sentence, without a traceback."""


def run(argv: Sequence[object]) -> str:
    """Run a program and return its output."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed: run tests/lab/prepare first") from error
    if done.returncode:
        raise LabError(f"'{' '.join(words[:6])}' failed with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def succeeds(argv: Sequence[object]) -> bool:
    words = [str(word) for word in argv]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def until(condition: Callable[[], bool], seconds: float, interval: float = 0.02) -> bool:
    """Poll until the condition holds; return whether it did within the time limit."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
