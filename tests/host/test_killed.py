# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 in every phase of a cutover: the backend runs again within seconds, with all accounts, and the next run finishes."""

from __future__ import annotations

import typing as t

import pytest
from hostkit import PATH, Host, Result, State

# Where to strike, as strace counts: renames put accounts and files in place, vfork (or clone) starts a program such as systemctl.
POINTS = [
    *(("renameat2", 1), ("renameat2", 2), ("renameat2", 3), ("syncfs", 1), ("syncfs", 2), ("syncfs", 3)),
    *(("renameat", number) for number in range(1, 16)),
    *(("vfork", number) for number in range(1, 22)),
]


@pytest.mark.parametrize(("call", "number"), POINTS)
def test_killed(host: Host, before: State, call: str, number: int) -> None:
    result = host.migrate(
        wrapper=f"strace -f -qqq -o /dev/null -e trace=?{call} -e inject=?{call}:signal=KILL:when={number}"
    )
    require_all_back(host, before, result)
    host.migrate()
    require_converged(host, before)


def require_all_back(host: Host, before: State, result: Result) -> State:
    """The backend runs with all accounts, on the old path if nothing was published, else on the new one."""
    now = host.well()
    assert now["well"], (result, now)
    assert now["needs_qr"] == 0
    assert now["sessions_path"] in (None, PATH)
    used = now["legacy"] if now["sessions_path"] is None else now["path"]
    assert used == before["legacy"], (result, now)
    return now


def require_converged(host: Host, before: State) -> None:
    """All accounts at the sessions path, nothing of a cutover left, and the next run changes nothing."""
    now = host.well()
    assert now["well"], now
    assert (now["sessions_path"], now["path"], now["needs_qr"]) == (PATH, before["legacy"], 0)
    left = {name: now[name] for name in ("guarded", "busy", "rescuers", "staged") if now[name]}
    assert not left, left
    assert "intent.json" not in now["area"]
    again: t.Any = host.migrate()
    assert again.get("changed") is False, again
    assert host.look()["pid"] == now["pid"]
