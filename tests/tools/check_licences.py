# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that every file that can contain a comment states its licence in its first lines."""

from __future__ import annotations

import sys
from pathlib import Path

from tree import files, first_lines

TAG = "SPDX-License-Identifier: GPL-3.0-or-later"

SOURCES = {
    ".cfg",
    ".conf",
    ".cs",
    ".css",
    ".html",
    ".ini",
    ".j2",
    ".js",
    ".mjs",
    ".py",
    ".rst",
    ".service",
    ".sh",
    ".timer",
    ".toml",
    ".ts",
    ".txt",
    ".yaml",
    ".yml",
}

# Written by tools, or recorded from real tools and replayed byte for byte.
GENERATED = ("changelogs/changelog.yaml",)
RECORDED = ("recorded", "fixtures")


def lacks_licence(path: Path) -> bool:
    return is_source(path) and not any(TAG in line for line in first_lines(path, 8))


def is_source(path: Path) -> bool:
    if str(path) in GENERATED or set(RECORDED) & set(path.parts):
        return False
    if path.suffix in SOURCES or path.name == "Makefile":
        return True
    return any(line.startswith("#!") for line in first_lines(path, 1))


if __name__ == "__main__":
    without = [path for path in files() if lacks_licence(path)]
    for path in without:
        print(f"{path}:1: has no line '{TAG}' near its top")
    sys.exit(bool(without))
