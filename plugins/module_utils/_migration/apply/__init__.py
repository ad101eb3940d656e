# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""The part of a migration that changes a host: staging, cutover, publishing, undoing, retiring."""
