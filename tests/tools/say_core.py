# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints in one line on which ansible-core a check runs, and if that is not the requested one.

    say_core.py [oldest | newest]

Run by the Python of an environment. On a machine without a Python that the oldest or the newest release supports, the
pins choose the nearest release that its Python can run.
"""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path

PINS = Path(__file__).resolve().parents[1] / "requirements"


def main(which: str = "") -> None:
    print(sentence(which, version("ansible-core"), platform.python_version()))


def sentence(which: str, installed: str, python: str) -> str:
    runs = f"ansible-core {installed} on Python {python}"
    if not which or installed == wanted(which):
        return f"core: {which}{': ' if which else ''}{runs}"
    return f"core: {which}: {runs} instead of {wanted(which)}, for which this machine has no Python"


def wanted(which: str) -> str:
    """The oldest or the newest release that is pinned."""
    return pinned("-oldest")[0] if which == "oldest" else pinned("")[-1]


def pinned(suffix: str) -> list[str]:
    text = (PINS / f"constraints{suffix}.txt").read_text(encoding="utf-8")
    return sorted(
        re.findall(r"^ansible-core==(\S+)", text, re.MULTILINE), key=lambda text: [*map(int, text.split("."))]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
