# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 in every phase of a cutover: the backend runs again within seconds, with all accounts, and the next run finishes."""

from __future__ import annotations

import os

import pytest
from hostkit import DROP_INS, PATH, Host, State, migration, striking

WHOLE = bool(os.environ.get("WA_EVERYWHERE"))
# Where to strike, as strace counts: renames put accounts and files in place, vfork starts a program such as systemctl.
EVERYWHERE = [
    *(("renameat2", number) for number in range(1, 4)),
    *(("syncfs", number) for number in range(1, 4)),
    *(("renameat", number) for number in range(1, 16)),
    *(("vfork", number) for number in range(1, 26)),
    *(("unlink", number) for number in range(1, 5)),
]
# Guard, stop, difference, publish, switch, commit, start, clearing up: one of each where a test run has no hour for it.
SOME = [
    *(("vfork", 6), ("vfork", 9), ("renameat", 3), ("syncfs", 2)),
    *(("renameat2", 1), ("renameat", 9), ("vfork", 13), ("unlink", 1)),
]


@pytest.mark.parametrize(("call", "number"), EVERYWHERE if WHOLE else SOME)
def test_killed(booted: Host, call: str, number: int) -> None:
    before, killed, after, second, end, third, still = booted.steps(
        *(
            ("reset",),
            migration(*striking(call, number)),
            ("well", 20),
            migration(),
            ("well", 20),
            migration(),
            ("look",),
        )
    )
    # Some calls are made by a process that copies, and the run reports its end. The long list goes on for longer than any run.
    is_struck = killed == {} or "a copying process was killed" in killed.get("msg", "")
    assert is_struck or WHOLE, f"{call} {number} does not kill the run: count its calls anew; it ended with {killed}"
    require_all_back(before, after)
    assert "failed" not in second, second
    require_converged(before, end)
    assert third["changed"] is False
    assert still["pid"] == end["pid"]


# Where the engine 'rename' differs, as the accounts are nowhere else: between two that are published, and when all are while the unit
# is still on its old path.
@pytest.mark.parametrize(("call", "number", "folder"), [("renameat2", 2, PATH), ("renameat", 1, DROP_INS)])
def test_killed_with_accounts_that_are_no_copies(booted: Host, call: str, number: int, folder: str) -> None:
    run = migration(engine="rename")
    struck = migration(*striking(call, number, folder), engine="rename")
    before, killed, after, second, end, third, still = booted.steps(
        *(("reset",), struck, ("well", 20), run, ("well", 20), run, ("look",))
    )
    assert killed == {}, "no kill: the run renames otherwise than it did"
    require_all_back(before, after)
    assert (after["sessions_path"], after["path"]) == (None, {})
    assert "failed" not in second, second
    require_converged(before, end)
    assert end["legacy"] == {}
    assert third["changed"] is False
    assert still["pid"] == end["pid"]


def require_all_back(before: State, now: State) -> None:
    """The backend runs with all accounts, on the old path if nothing was published, else on the new one."""
    assert now["well"], now
    assert now["needs_qr"] == 0
    assert now["sessions_path"] in (None, PATH)
    assert (now["legacy"] if now["sessions_path"] is None else now["path"]) == before["legacy"], now
    require_nothing_left(now)


def require_converged(before: State, now: State) -> None:
    """All accounts at the sessions path, and nothing of a cutover left."""
    assert now["well"], now
    assert (now["sessions_path"], now["path"], now["needs_qr"]) == (PATH, before["legacy"], 0)
    require_nothing_left(now)
    assert not now["staged"]
    assert "intent.json" not in now["control"]
    assert now["boot_units"] == []


def require_nothing_left(now: State) -> None:
    left = {name: now[name] for name in ("guarded", "busy", "rescuers") if now[name]}
    assert not left, left
