# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Detects what a killed run left behind; recover.py cleans it up."""

from __future__ import annotations

import os
import re
import typing as t

from .control_directory import INTENT, existing_control, read_document_at
from .work_area import COMPANIONS, existing_area, known_document, opened_staging

if t.TYPE_CHECKING:
    from .._fs.fdopen import DirFd

# The names of temporary files in fdopen.py.
TEMPORARY = re.compile(r"\..+\.json\.[0-9a-f]{12}")


def is_interrupted(path: str) -> bool:
    """Return whether a cutover to ``path`` was interrupted."""
    intent = known_document(path, INTENT)
    return bool(intent) and not intent.get("committed")


def is_untidy(path: str) -> bool:
    """Return whether the control directory or the area has files that are not needed once nothing is left to publish."""
    with existing_control(path) as control:
        if control is None:
            return False
        if read_document_at(control, INTENT) or any(left_over(control)):
            return True
        with existing_area(path, control) as area, opened_staging(path, control) as staging:
            return area is not None and (any(left_over(area)) or (staging is not None and bool(os.listdir(staging))))


def left_over(directory: DirFd) -> t.Iterator[str]:
    """Yield the names in an open control directory or area that a finished run never leaves."""
    return (name for name in os.listdir(directory) if name == COMPANIONS or TEMPORARY.fullmatch(name))
