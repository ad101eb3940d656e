# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports the built collection as Galaxy does when it is published, and fails for any warning.

    import_collection.py BUILT REPOSITORY

Galaxy refuses a collection without the address of its repository, which only the publisher knows. If galaxy.yml has
none, a copy of the collection is imported that has REPOSITORY as its address.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import typing as t
from pathlib import Path

from tree import ROOT

# How galaxy-importer begins what is more than progress.
LEVELS = ("WARNING: ", "ERROR: ", "CRITICAL: ")


def main(built: Path, repository: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, built.name)
        if add_repository(built, copy, repository):
            print(f"galaxy.yml has no repository, which the publisher has to set: {repository} stands in for it")
        imported = run_importer(copy)
        problems = complaints(imported.stdout)
        if imported.returncode or problems:
            print(*(problems or imported.stdout.splitlines()), sep="\n")
            return 1
        listed = content(Path(folder, "importer_result.json"), "playbook")
    own = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))
    if listed != own:
        print(f"Galaxy would list the playbooks {', '.join(listed)} instead of {', '.join(own)}")
        return 1
    print(f"imported: {len(listed)} playbooks, no warning")
    return 0


def add_repository(built: Path, copy: Path, repository: str) -> bool:
    """Copy the collection; the copy has a repository. Return whether ``built`` has none."""
    lacking = False
    with tarfile.open(built) as source, tarfile.open(copy, "w:gz") as target:
        for member in source:
            data = source.extractfile(member)
            if member.name == "MANIFEST.json" and data:
                manifest = json.load(data)
                lacking = not manifest["collection_info"].get("repository")
                if lacking:
                    manifest["collection_info"]["repository"] = repository
                text = json.dumps(manifest).encode()
                member.size = len(text)
                data = io.BytesIO(text)
            target.addfile(member, data)
    return lacking


def run_importer(collection: Path) -> subprocess.CompletedProcess[str]:
    """Run it away from the checkout, whose settings for ansible-lint Galaxy does not see either."""
    variables = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "GALAXY_IMPORTER_ANSIBLE_LOCAL_TMP": str(collection.parent / "tmp"),
    }
    return subprocess.run(
        [sys.executable, "-m", "galaxy_importer.main", collection.name],
        cwd=collection.parent,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def complaints(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith(LEVELS)]


def content(result: Path, kind: str) -> list[str]:
    contents: list[dict[str, t.Any]] = json.loads(result.read_text(encoding="utf-8"))["contents"]
    return sorted(entry["name"] for entry in contents if entry["content_type"] == kind)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
