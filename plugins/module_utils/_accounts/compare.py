# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Compare two copies of an account to resolve a conflict: which was written last, and whether they are equal."""

from __future__ import annotations

import os
import typing as t

from .._fs.patterns import name_matcher
from .._fs.walk_tree import measure, same_content
from .._layouts.account import AccountRef, open_account, opened_account
from .._layouts.layout import OF_A_PROGRAM, Layout
from .._layouts.sqlite import same_stores, store_patterns
from .entries import measure_entries, same_entries

if t.TYPE_CHECKING:
    from .._fs.fdopen import DirFd


def newest_ns(account: AccountRef) -> int:
    """Return when a file of an account was last written, in ns; 0 if the account is gone."""
    root, name, layout = account
    try:
        directory = open_account(root, name)
    except FileNotFoundError:
        return 0  # removed since it was listed
    try:
        parts = measure_entries(root, account.sidecars)
        return max(parts.newest_ns, measure(directory, layout.volatile_matcher, _cache_test(layout)).newest_ns)
    finally:
        os.close(directory)


def same_account(account: AccountRef, target: DirFd) -> bool:
    """Return whether an account is equal to that of its name in the open directory ``target``, ignoring locks and caches."""
    layout = account.layout
    with account.opened() as one, opened_account(target, account.name) as other:
        apart = name_matcher((*layout.volatile, *OF_A_PROGRAM, *store_patterns(layout)))
        return (
            same_content(one, other, apart, _cache_test(layout))
            and (not layout.databases or same_stores(one, other, layout))
            and same_entries(account.root, target, account.sidecars, layout.volatile_matcher)
        )


def _cache_test(layout: Layout) -> t.Callable[[str], t.Any] | None:
    return layout.cache_matcher if layout.caches else None
