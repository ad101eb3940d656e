# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""Snapshots of accounts: the store, how one is taken, how long it is kept, and the job of session_backup."""
