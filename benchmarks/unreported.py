# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs session_migrate without reports of its progress, for comparison. Arguments of the module on stdin, as Ansible gives them."""

from __future__ import annotations

import contextlib

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import progress

if __name__ == "__main__":
    # Before anything imports it by name. Without it around them, the other functions do nothing.
    setattr(progress, "reported", lambda *_arguments: contextlib.nullcontext())  # noqa: B010
    from ansible_collections.whatsapp_ops.sessions.plugins.modules import session_migrate

    session_migrate.main()
