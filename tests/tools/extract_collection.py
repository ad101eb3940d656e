# SPDX-License-Identifier: GPL-3.0-or-later
"""Extracts one collection from a package that contains many: extract_collection.py PACKAGE NAMESPACE/NAME TARGET."""

from __future__ import annotations

import sys
import zipfile


def main(package: str, collection: str, target: str) -> None:
    folder = f"ansible_collections/{collection}/"
    with zipfile.ZipFile(package) as archive:
        names = [name for name in archive.namelist() if name.startswith(folder)]
        if not names:
            sys.exit(f"{package} does not contain {collection}")
        archive.extractall(target, names)


if __name__ == "__main__":
    main(*sys.argv[1:])
