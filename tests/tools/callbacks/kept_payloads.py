# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps what ansible-playbook builds of each module for the next run.

In each run, Ansible collects the source of a module and of all that it imports, which takes a second of CPU time for a module of
this collection. The tests start hundreds of playbooks with the same modules. What Ansible builds is not changed: its own cache,
which it removes at the end of a run, is a link to a directory that stays.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import typing as t

from ansible import constants, release
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: kept_payloads
type: aggregate
short_description: Keeps the payloads of modules for the next run of the tests
description:
  - Links Ansible's cache of payloads to a directory in E(KEPT_PAYLOADS) that is named by the source of the collection.
"""

PLUGINS = pathlib.Path(__file__).resolve().parents[3] / "plugins"


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "kept_payloads"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, _playbook: t.Any) -> None:
        kept = pathlib.Path(os.environ["KEPT_PAYLOADS"], _digest_of_source())
        kept.mkdir(parents=True, exist_ok=True)
        own = constants.DEFAULT_LOCAL_TMP  # type: ignore[attr-defined] # set when the configuration is read
        pathlib.Path(own, "ansiballz_cache").symlink_to(kept)


def _digest_of_source() -> str:
    """Return another name after each change of a module or of what modules import."""
    digest = hashlib.sha256(release.__version__.encode())
    for path in sorted(PLUGINS.glob("module*/**/*.py")):
        digest.update(f"{path}:{path.stat().st_mtime_ns}:{path.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]
