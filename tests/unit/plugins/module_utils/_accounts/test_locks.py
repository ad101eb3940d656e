# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks of browsers: which of them keep nobody out any more, and who still uses the account all the same."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.locks import (
    locked_accounts,
    remove_locks,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.chromium import lock_of_profile
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import DAMAGED
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from layouts import put_lock, put_profile
from striker import striking

WWEBJS = layout_named("wwebjs")
NAME = "session-one"


@pytest.fixture
def account(tmp_path: pathlib.Path) -> pathlib.Path:
    put_profile(tmp_path / NAME, "paired")
    put_lock(tmp_path / NAME, "stale")
    return tmp_path / NAME


def names(account: pathlib.Path) -> tuple[str, ...]:
    return locked_accounts(str(account.parent), WWEBJS)


def test_what_nobody_uses_is_unlocked(account: pathlib.Path) -> None:
    assert names(account) == (NAME,)
    remove_locks(str(account.parent), (NAME,), WWEBJS)
    assert list(account.glob("Singleton*")) == []
    assert names(account) == ()


HOLDERS: dict[str, t.Callable[[pathlib.Path], dict[str, t.Any]]] = {
    "by its working directory": lambda account: {"cwd": account},
    "by an open file": lambda account: {"stdin": (account / "Default/Cookies").open("rb")},
    "by an open directory": lambda account: {"stdin": os.open(account, os.O_RDONLY)},
}


@pytest.mark.parametrize("how", HOLDERS)
def test_what_somebody_holds_stays_locked(account: pathlib.Path, how: str) -> None:
    """In a container a browser has another host name, and a number that means nothing here."""
    with subprocess.Popen(["sleep", "600"], **HOLDERS[how](account)) as holder:
        try:
            assert names(account) == ()
            remove_locks(str(account.parent), (NAME,), WWEBJS)
            assert len(list(account.glob("Singleton*"))) == 3
        finally:
            holder.kill()
    assert names(account) == (NAME,)


def test_a_lock_that_cannot_be_read_any_more_is_damaged(account: pathlib.Path) -> None:
    """Something else took its place since it was looked at."""

    def replace() -> None:
        (account / "SingletonLock").unlink()
        (account / "SingletonLock").write_text("")

    with opened_directory(str(account)) as opened, striking("readlink", "SingletonLock", replace):
        assert lock_of_profile(opened) == DAMAGED


def test_a_lock_that_is_gone_by_then_is_none(account: pathlib.Path) -> None:
    with (
        opened_directory(str(account)) as opened,
        striking("readlink", "SingletonLock", (account / "SingletonLock").unlink),
    ):
        assert lock_of_profile(opened) == ""
