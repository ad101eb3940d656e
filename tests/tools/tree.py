# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the files of the work tree, committed or not, except ignored ones."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files(*patterns: str) -> Iterator[Path]:
    """Yield regular files, relative to the root; links are skipped, so that no file appears twice."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in sorted(filter(None, listed.split("\0"))):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            yield Path(name)


def first_lines(path: Path, count: int) -> list[str]:
    with (ROOT / path).open(encoding="utf-8", errors="replace") as lines:
        return [line.rstrip("\n") for _, line in zip(range(count), lines, strict=False)]


def is_shell_script(path: Path) -> bool:
    shebang = "".join(first_lines(path, 1))
    return shebang.startswith("#!") and shebang.split()[-1].rsplit("/", 1)[-1] in ("sh", "bash")
