# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""The job of session_audit: what on a host will lose accounts, found in one call that changes nothing."""
