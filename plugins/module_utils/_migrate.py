# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_migrate: accounts from legacy paths to the sessions path, with the shortest interruption that is safe.

Copies are made while the backend runs. Only the difference is copied while it is stopped, then everything is put in place by renames
and the configuration is switched before the backend starts again. See _cutover.py and _rescue.py for what happens when it goes wrong.
"""

from __future__ import annotations

from ._migrate_plan import ACTIONS, Evidence, diff, plan, report, verify
from ._migrate_state import Params, State, observe, read_params
from ._migrate_steps import Step

__all__ = ["ACTIONS", "Params", "State", "Step", "apply", "diff", "observe", "plan", "read_params", "report", "verify"]


def apply(steps: tuple[Step, ...], state: State, params: Params) -> Evidence:
    """Carry the steps out."""
    from ._migrate_run import carry_out

    return carry_out(steps, state, state.params)
