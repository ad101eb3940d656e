# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""Container engines and Docker Compose: which container a unit or service runs, and where its program keeps accounts."""
