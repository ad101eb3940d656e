# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""What every other package needs, and what knows nothing of WhatsApp, systemd or disks: errors, jobs, limits, masking."""
