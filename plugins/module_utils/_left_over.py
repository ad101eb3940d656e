# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Sees what a run that was killed left behind; _recover.py deals with it."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from ._area import COMPANIONS, INTENT, RESCUER, STAGING, read_document
from ._paths import opened_directory

# As _paths.py calls what it writes before it is renamed.
TEMPORARY = re.compile(r"\..+\.json\.[0-9a-f]{12}")


def is_interrupted(path: str) -> bool:
    """Whether a cutover to ``path`` ended half way."""
    intent = read_document(path, INTENT)
    return bool(intent) and not intent.get("committed")


def is_untidy(path: str, area: str) -> bool:
    """Whether something lies in the area (a path) that nothing will need any more, once nothing is left to publish."""
    with contextlib.suppress(FileNotFoundError), opened_directory(area) as opened:
        if read_document(path, INTENT) or any(left_over(opened)):
            return True
        with contextlib.suppress(FileNotFoundError), opened_directory(f"{area}/{STAGING}") as staging:
            return bool(os.listdir(staging))
    return False


def left_over(area: int) -> t.Iterator[str]:
    """Yield the names in an open area that no finished run leaves there."""
    return (name for name in os.listdir(area) if name in (COMPANIONS, RESCUER) or TEMPORARY.fullmatch(name))
