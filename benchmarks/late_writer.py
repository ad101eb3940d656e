# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs session_migrate with a backend that writes at the worst moment: after the last live copy, right before the stop.

The run behaves as with a unit: it knows that nothing writes after the stop.

late_writer.py ROOT NUMBER   (arguments of the module on standard input, as Ansible gives them)
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
import typing as t

import trees

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import progress
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import run as apply_run
from ansible_collections.whatsapp_ops.sessions.plugins.modules import session_migrate

_STOPPING = 0.1  # seconds; no unit stops faster


def main(root: str, number: str) -> None:
    cut_over, stage_in = apply_run.cut_over, progress.stage_in

    def write_and_cut_over(*arguments: t.Any) -> None:
        trees.change(pathlib.Path(root), int(number))
        time.sleep(_STOPPING)
        cut_over(*arguments)

    def stage_in_stopped(*arguments: t.Any) -> t.Any:
        return dataclasses.replace(stage_in(*arguments), stopped=True)

    setattr(apply_run, "cut_over", write_and_cut_over)  # noqa: B010
    setattr(progress, "stage_in", stage_in_stopped)  # noqa: B010
    del sys.argv[1:]  # the module has its own arguments
    session_migrate.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
