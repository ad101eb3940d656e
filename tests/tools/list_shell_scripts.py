# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the shell scripts of this repository, one a line, for shellcheck."""

from __future__ import annotations

from tree import files, is_shell_script

if __name__ == "__main__":
    for path in files():
        if is_shell_script(path):
            print(path)
