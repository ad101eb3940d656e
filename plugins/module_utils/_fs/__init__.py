# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""Safe work on files and directories by descriptor, where another user may change them at the same time."""
