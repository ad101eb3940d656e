# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""The job of session_migrate as far as it looks and decides. Nothing in this package itself changes a host; _migration.apply does."""
