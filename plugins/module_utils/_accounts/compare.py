# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Compare two copies of an account to resolve a conflict: which was written last, and whether they are equal."""

from __future__ import annotations

import os
import typing as t

from .._fs.copy_tree import measure, same_content
from .._fs.patterns import name_matcher
from .._layouts.account import open_account, opened_account
from .._layouts.layout import OF_A_PROGRAM, Layout
from .._layouts.sqlite import same_stores, store_patterns
from .extras import measure_entries, same_entries

if t.TYPE_CHECKING:
    from .._fs.fdopen import DirFd


def newest_ns(root: DirFd, name: str, layout: Layout) -> int:
    """Return when a file of the account ``name`` in the open ``root`` was last written, in ns; 0 if the account is gone."""
    try:
        directory = open_account(root, name)
    except FileNotFoundError:
        return 0  # removed since it was listed
    try:
        parts = measure_entries(root, layout.sidecars_of(name))
        return max(parts.newest_ns, measure(directory, layout.volatile_matcher, _cache_test(layout)).newest_ns)
    finally:
        os.close(directory)


def same_account(root: DirFd, target: DirFd, name: str, layout: Layout) -> bool:
    """Return whether the account ``name`` is equal in both open roots, ignoring locks and caches."""
    with opened_account(root, name) as one, opened_account(target, name) as other:
        apart = name_matcher((*layout.volatile, *OF_A_PROGRAM, *store_patterns(layout)))
        return (
            same_content(one, other, apart, _cache_test(layout))
            and (not layout.databases or same_stores(one, other, layout))
            and same_entries(root, target, layout.sidecars_of(name), layout.volatile_matcher)
        )


def _cache_test(layout: Layout) -> t.Callable[[str], t.Any] | None:
    return layout.cache_matcher if layout.caches else None
