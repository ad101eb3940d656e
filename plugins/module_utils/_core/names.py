# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What the directories of our own are called, which are never accounts."""

from __future__ import annotations

# AREA_INSIDE, the work area inside a sessions path that is a mount of its own (see work_area.py), is never an account.
ASIDE = ".aside-"  # followed by a time: suffix of an untrusted directory in place of the work area

# Names of the work area (see work_area.py): they are or end with this.
AREA_INSIDE = ".whatsapp-ops"

HOME = "/var/lib/whatsapp-ops"
JOB_OPTIONS = "/etc/whatsapp-ops"  # of jobs that systemd runs, see _timer/job.py


def is_area(name: str) -> bool:
    """Return whether an entry of a sessions path is the work area, or an untrusted one that was renamed."""
    return name == AREA_INSIDE or name.startswith(AREA_INSIDE + ASIDE)
