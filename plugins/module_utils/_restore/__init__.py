# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""Snapshots back to the sessions path: what is restored and why, the job of session_restore, and archives of snapshots."""
