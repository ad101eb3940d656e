# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""How each WhatsApp library keeps accounts on disk, one file per family of libraries, and the one table of all of them."""
