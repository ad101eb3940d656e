# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""Other processes: programs that are run, children with limits, what /proc says about a process."""
