# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""The job of session_report: one record of a host for reports and metrics."""
