# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Accounts that a switch of the backend would leave behind, found by the survey. They are refused in switch_refusals.py."""

from __future__ import annotations

import os
import typing as t

from .._core.errors import SessionsError
from .._core.masking import masked
from .._fs.fdopen import DirFd, real_path
from .._layouts.account import opened_account
from .._layouts.layout import LINKED

if t.TYPE_CHECKING:
    from .conflicts import CopyState

_INTO_PATH = "it is a link into the sessions path, which has that account under another name"
_OTHER_NAME = "another legacy path has the same directory under another name"


class LeftBehind(t.NamedTuple):
    """A possible account, the legacy path where it stays, and why. ``is_link``: it is a symbolic link that is not followed;
    ``is_twin``: another legacy path has an account of that name, which is migrated.
    """

    name: str
    root: str
    why: str
    is_link: bool = False
    is_twin: bool = False

    @property
    def label(self) -> str:
        """Its name in reports."""
        return masked(self.name)


class Clash(t.NamedTuple):
    """A name that two legacy paths use for two different linked devices."""

    name: str
    one: str
    other: str

    @property
    def label(self) -> str:
        """Its name in reports."""
        return masked(self.name)


def left_twin(name: str, first: CopyState, second: CopyState, places: tuple[str, str]) -> LeftBehind | None:
    """Return the account of a second legacy path with the same name as left behind; None if it is a copy of the first.

    ``places``: the two legacy paths.
    """
    if second.state not in (*LINKED, "unknown", "corrupt") or (first.devices and second.devices):
        return None
    why = f"{places[0]} has an account of that name, too, and "
    why += (
        "this one is damaged" if second.state == "corrupt" else "it is unknown whether both are the same linked device"
    )
    return LeftBehind(name, places[1], why, is_twin=True)


def at_path_already(root: DirFd, name: str, path: str) -> bool:
    """Return whether a linked account of a legacy path leads to the account of that name at the sessions path."""
    try:
        with opened_account(root, name) as account:
            return real_path(account) == f"{os.path.realpath(path)}/{name}"
    except OSError:
        return False


class Directories:
    """Tracks the real directories of accounts in all legacy paths, so that no device is migrated under two names."""

    def __init__(self, path: str, *, several: bool) -> None:
        self.path, self.several = os.path.realpath(path), several
        self.names: dict[tuple[int, int], str] = {}

    def why_not(self, root: DirFd, name: str, linked: bool) -> str:
        """Return why an account must not be migrated; '' if it may."""
        if not (linked or self.several):
            return ""
        try:
            with opened_account(root, name) as account:
                status, real = os.fstat(account), real_path(account)
        except (OSError, SessionsError):
            return ""  # the error is reported when it is copied
        if linked and f"{real}/".startswith(f"{self.path}/"):
            return _INTO_PATH
        return "" if self.names.setdefault((status.st_dev, status.st_ino), name) == name else _OTHER_NAME
