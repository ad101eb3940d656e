# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies the files that ansible-test checks to a path of the form .../ansible_collections/NAMESPACE/NAME.

ansible-test requires such a path and resolves links. It checks the shipped files and the unit tests; the test hosts,
backends and the demonstration are excluded and have separate linters.

    copy_tree.py TARGET
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tree import ROOT, files

WANTED = (
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "changelogs",
    "docs",
    "galaxy.yml",
    "meta",
    "playbooks/*.yml",  # the folders below, too: git lets * match a slash
    "plugins",
    "roles",
    "tests/config.yml",
    "tests/sanity/ignore-*.txt",
    "tests/unit",
)


def main(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    for path in files(*WANTED):
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
