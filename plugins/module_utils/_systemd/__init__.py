# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""Units, their files, drop-ins and journal, as systemd itself reads them. Knows nothing of sessions."""
