# SPDX-License-Identifier: GPL-3.0-or-later
# This package is private to the collection whatsapp_ops.sessions.
"""What a backend that runs uses: the one definition of "in use", and the watch on the files that it opens."""
