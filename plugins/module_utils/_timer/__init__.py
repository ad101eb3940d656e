# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""Jobs that systemd runs on a host, without Ansible: their program, options and units."""
