# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""Copies of a backup store on another machine, in a repository of restic, and the drill that proves that they can be restored."""
