# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs session_migrate and shows the progress of a long migration."""

from __future__ import annotations

from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._progress import ReportingModule


class ActionModule(ReportingModule):
    """The module of the same name, with lines of progress."""
