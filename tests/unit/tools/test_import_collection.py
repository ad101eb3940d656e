# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate that imports the built collection as Galaxy does."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import typing as t
from pathlib import Path

import pytest

import import_collection

REPOSITORY = "https://repository.example.invalid"
PLAYBOOKS = [path.name for path in (import_collection.ROOT / "playbooks").glob("*.yml")]


@pytest.fixture
def build(tmp_path: Path) -> t.Callable[..., Path]:
    """``build(repository)``: a built collection, as far as the gate looks into it."""

    def build(repository: str | None) -> Path:
        built = tmp_path / "ns-name-1.0.0.tar.gz"
        texts = {"MANIFEST.json": json.dumps({"collection_info": {"repository": repository}}), "README.md": "read"}
        with tarfile.open(built, "w:gz") as archive:
            for name, text in texts.items():
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
        return built

    return build


def read(collection: Path, name: str) -> str:
    with tarfile.open(collection) as archive:
        data = archive.extractfile(name)
        assert data
        return data.read().decode()


@pytest.mark.parametrize(
    ("own", "imported", "lacking"), [(None, REPOSITORY, True), ("https://own.invalid", "https://own.invalid", False)]
)
def test_only_a_repository_that_is_missing_is_stood_in_for(
    build: t.Callable[..., Path], tmp_path: Path, own: str | None, imported: str, lacking: bool
) -> None:
    copy = tmp_path / "copy.tar.gz"
    assert import_collection.add_repository(build(own), copy, REPOSITORY) is lacking
    assert json.loads(read(copy, "MANIFEST.json")) == {"collection_info": {"repository": imported}}
    assert read(copy, "README.md") == "read"


@pytest.mark.parametrize(
    ("status", "printed", "playbooks", "passes"),
    [
        (0, "Loading role persist\nImporter processing completed successfully\n", PLAYBOOKS, True),
        (0, "WARNING: No changelog found.\n", PLAYBOOKS, False),
        (0, "ERROR: Timeout on call to ansible-lint\n", PLAYBOOKS, False),
        (1, "ERROR: The import failed\n", PLAYBOOKS, False),
        (1, "Traceback\n", PLAYBOOKS, False),
        (0, "Loading playbook spec.yml\n", [*PLAYBOOKS, "spec.yml"], False),
        (0, "Loading\n", PLAYBOOKS[1:], False),
    ],
)
def test_every_warning_fails_and_so_does_a_playbook_too_many(
    build: t.Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    printed: str,
    playbooks: list[str],
    passes: bool,
) -> None:
    def importer(collection: Path) -> subprocess.CompletedProcess[str]:
        contents = [{"name": name, "content_type": "playbook"} for name in playbooks]
        contents.append({"name": "persist", "content_type": "role"})
        Path(collection.parent, "importer_result.json").write_text(json.dumps({"contents": contents}))
        return subprocess.CompletedProcess([], status, printed)

    monkeypatch.setattr(import_collection, "run_importer", importer)
    assert (import_collection.main(build(None), REPOSITORY) == 0) is passes
    said = capsys.readouterr().out
    assert f"{REPOSITORY} stands in for it" in said
    if status or not printed.startswith("Loading"):
        assert printed in said
