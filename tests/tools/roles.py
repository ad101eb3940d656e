# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the roles of this collection."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tree import ROOT


@dataclass(frozen=True)
class Role:
    name: str
    defaults: dict[str, t.Any]
    entry_points: dict[str, dict[str, t.Any]]

    @property
    def readme(self) -> Path:
        return ROOT / "roles" / self.name / "README.md"


def roles() -> Iterator[Role]:
    for folder in sorted((ROOT / "roles").glob("*/")):
        specs = load(folder / "meta" / "argument_specs.yml").get("argument_specs", {})
        yield Role(folder.name, load(folder / "defaults" / "main.yml"), specs)


def load(path: Path) -> dict[str, t.Any]:
    """Return the content of a YAML file; empty if it does not exist."""
    if not path.exists():
        return {}
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
