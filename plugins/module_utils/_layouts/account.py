# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Name one account, and open its directory: safely, and even if it is a symbolic link."""

from __future__ import annotations

import contextlib
import os
import typing as t

from .._fs.fdopen import DirFd, open_below, opened_parent
from .links import is_link, open_linked

if t.TYPE_CHECKING:
    from .layout import Layout


class AccountRef(t.NamedTuple):
    """Which account is meant: its name below an open directory, and the layout of its files."""

    root: DirFd
    name: str
    layout: Layout

    def opened(self) -> t.ContextManager[DirFd]:
        """Open its directory and close it afterwards; see open_account."""
        return opened_account(self.root, self.name)

    @property
    def sidecars(self) -> tuple[str, ...]:
        """The paths of its parts elsewhere below the root."""
        return self.layout.sidecars_of(self.name)


def open_account(root: DirFd, account: str) -> DirFd:
    """Return a descriptor of an account's directory; it may be a symbolic link that is safe to follow (links.py), but not below one.

    Raises OSError if it does not exist.
    """
    try:
        return open_below(root, account)
    except NotADirectoryError:
        with opened_parent(root, account) as (parent, name):
            if not is_link(parent, name):
                raise
            return open_linked(root, parent, name)


@contextlib.contextmanager
def opened_account(root: DirFd, account: str) -> t.Iterator[DirFd]:
    """Open an account's directory and close it afterwards; see open_account."""
    descriptor = open_account(root, account)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_linked(root: DirFd, account: str) -> bool:
    """Return whether the account's entry below an open root is a symbolic link."""
    try:
        with opened_parent(root, account) as (parent, name):
            return is_link(parent, name)
    except (FileNotFoundError, NotADirectoryError):
        return False
