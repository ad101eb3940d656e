# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Where the accounts at a path came from, according to receipts; rollback.py uses this for rollbacks. Reads only.

In a receipt, ``origins`` maps each legacy path to its relative path below the unit's working directory, "" if it was not below it.
``switched`` is described in rollback.py, ``closed`` in mount_points.py.
"""

from __future__ import annotations

import os
import typing as t

from .._accounts.receipts import RECEIPT, Entry, entries_in
from .._accounts.work_area import known_document

if t.TYPE_CHECKING:
    from .._systemd.unit import Unit
    from .sources import Source

Document = t.Mapping[str, t.Any]


def notes_for(receipt: Document, sources: t.Iterable[Source], unit: Unit | None) -> dict[str, t.Any]:
    """Return what the next receipt keeps of this one, with ``sources`` added to ``origins``."""
    home = f"{os.path.realpath(unit.working_directory)}/" if unit and unit.working_directory.startswith("/") else None
    origins = {
        source.path: source.path[len(home) :] if home and source.path.startswith(home) else "" for source in sources
    }
    kept = {name: dict(receipt.get(name, {})) for name in ("origins", "switched", "closed")}
    return {**kept, "origins": {**kept["origins"], **origins}}


def mirrored(sources: t.Iterable[Source], path: str) -> dict[str, Entry]:
    """Return the entries of accounts that came from ``path`` in the receipts of ``sources``, which may be sessions paths themselves."""
    real = os.path.realpath(path)
    return {
        key: entry.mirror(source.path)
        for source in sources
        for key, entry in entries_in(receipt_of(source.path)).items()
        if entry.source == real and not entry.damaged
    }


def ancestors(receipts: t.Mapping[str, Entry], sources: t.Iterable[Source], path: str) -> dict[str, Entry]:
    """Return the last common generation of each account, in whichever direction it was migrated last."""
    found = dict(receipts)
    for key, entry in mirrored(sources, path).items():
        if key not in found or found[key].time < entry.time:
            found[key] = entry
    return found


def receipt_of(path: str) -> Document:
    """Read the receipt of a path; an empty document if there is none."""
    return known_document(path, RECEIPT)
