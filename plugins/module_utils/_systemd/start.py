# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Starts a unit that this collection has stopped. Never stops one."""

from __future__ import annotations

from .._core.errors import SessionsError, StartFailed
from .._proc.command import run
from .unit import read_unit


def start(unit: str, timeout: float) -> None:
    """Start ``unit`` regardless of its start limit, which repeated stops and starts reach. Raises StartFailed."""
    run(["systemctl", "reset-failed", "--", unit])
    try:
        done = run(["systemctl", "start", "--", unit], timeout=timeout)
    except SessionsError as error:
        raise StartFailed(
            f"{unit} did not start within {timeout:g} seconds; see 'systemctl status {unit}' on the host"
        ) from error
    if done.rc != 0:
        raise StartFailed(
            f"{unit} did not start (result {read_unit(unit).properties['Result']}); see 'systemctl status {unit}' on the host"
        )
