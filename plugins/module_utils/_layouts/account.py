# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Open the directory of one account, safely and even if it is a symbolic link."""

from __future__ import annotations

import contextlib
import os
import typing as t

from .._fs.fdopen import DirFd, open_below, opened_below
from .links import is_link, open_linked


def open_account(root: DirFd, account: str) -> DirFd:
    """Return a descriptor of an account's directory; it may be a symbolic link that is safe to follow (links.py), but not below one.

    Raises OSError if it does not exist.
    """
    folder, _slash, name = account.rpartition("/")
    try:
        return open_below(root, account)
    except NotADirectoryError:
        with opened_below(root, folder or ".") as parent:
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
    folder, _slash, name = account.rpartition("/")
    try:
        with opened_below(root, folder or ".") as parent:
            return is_link(parent, name)
    except (FileNotFoundError, NotADirectoryError):
        return False
