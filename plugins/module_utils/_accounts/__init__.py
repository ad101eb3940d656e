# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""Accounts at rest, and what is written down about them: receipts, locks, the work area, displaced copies."""
