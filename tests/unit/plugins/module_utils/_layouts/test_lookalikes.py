# SPDX-License-Identifier: GPL-3.0-or-later
"""Which accounts are copies of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.lookalikes import (
    Candidate,
    copies_among,
    devices_shared,
)

PHONE = "971505760056"


def named(*names: str) -> dict[str, str]:
    return copies_among([Candidate(name, (), 0) for name in names])


@pytest.mark.parametrize(
    "copy",
    [
        *("x-backup", "x_backup", "x.bak", "x.BAK", "x_old", "x copy", "x copy 2", "x (copy)", "x (1)", "x~", "x-orig"),
        *(
            "x-backup-2",
            "x-backup-20251005",
            "x-backup-1707340001234",
            "x.old.bak",
            "x - Copy (3)",
            "x_before_update"[:8],
        ),
        *("x-20251005", "x_2025-10-05", "x.2025-10-05T12:30:00Z", "x-20251005-1230", "x-2025.10.05_12-30"),
        *("backup-x", "backup_of_x", "Copy of x", "old.x", "bak-x", "backup-x-1707340001234", "backup-x-20251005"),
    ],
)
def test_names_that_say_so(copy: str) -> None:
    assert named("x", copy) == {copy: "x"}
    assert named(f"t/{copy}", "t/x", "x") == {f"t/{copy}": "t/x"}
    assert named("y", copy) == {}


@pytest.mark.parametrize(
    "other",
    ["x-2", "x2", "x-1707340001234", f"x-{PHONE}", "x-main", "backup", "x-backupper", "x-20251399", "xold", "x1.2"],
)
def test_names_that_do_not(other: str) -> None:
    assert named("x", other) == {}


def test_what_a_gateway_would_start() -> None:
    assert named("session-shop", "session-shop-backup", "session-shop.bak", "session-2", "session") == {
        "session-shop-backup": "session-shop",
        "session-shop.bak": "session-shop",
    }


def test_one_device_in_several_places() -> None:
    accounts = [
        Candidate("a", ("1",), 5),
        Candidate("b", ("1", "2"), 9),
        Candidate("c", ("3",), 1),
        Candidate("d", (), 1),
    ]
    assert copies_among(accounts) == {"a": "b"}
    assert [[account.name for account in group] for group in devices_shared(accounts)] == [["a", "b"]]


def test_a_name_says_more_than_a_time() -> None:
    accounts = [Candidate("wa1", ("1",), 5), Candidate("wa1-backup", ("1",), 9), Candidate("other", ("1",), 1)]
    assert copies_among(accounts) == {"wa1-backup": "wa1", "other": "wa1"}


def test_copies_of_copies_where_all_names_say_so() -> None:
    accounts = [Candidate(name, ("1",), 0) for name in ("x", "x-backup", "x-backup-old")]
    assert set(copies_among(accounts)) == {"x-backup", "x-backup-old"}


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=20), st.sampled_from(["", "1", "2"]), st.integers(0, 3)), max_size=8
    )
)
def test_of_every_device_one_account_is_left_that_is_no_copy(drawn: list[tuple[str, str, int]]) -> None:
    accounts = [
        Candidate(name, (device,) if device else (), newest)
        for name, (device, newest) in {name: (device, newest) for name, device, newest in drawn}.items()
    ]
    told = copies_among(accounts)
    assert set(told) <= {account.name for account in accounts} >= set(told.values())
    assert all(name != original for name, original in told.items())
    for group in devices_shared(accounts):
        assert len({account.name for account in group} - set(told)) <= 1


@pytest.mark.parametrize("length", [100, 255])
def test_long_names_take_no_time(length: int) -> None:
    assert named("x", "x" + "-old" * (length // 4)) == {"x" + "-old" * (length // 4): "x"}
    named("x", "backup-" * (length // 7))
    named("x", "-" * length, "~" * length, "x" + "-20251005" * (length // 9))
