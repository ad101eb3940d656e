# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Explains why the plain count of a directory differs from the number of its accounts, so that neither number misleads."""

from __future__ import annotations

import collections
import contextlib
import typing as t

from .._layouts.account import AccountRef
from .._layouts.layout import Layout
from .._layouts.registry import LAYOUTS
from .._layouts.search import Found, count_below, too_deep

if t.TYPE_CHECKING:
    from .._fs.fdopen import DirFd


def why_counts_differ(
    root: DirFd, layout: Layout, path: str, count: int, found: t.Sequence[Found], states: t.Mapping[str, str]
) -> str | None:
    """Return a sentence about the open directory ``root``; None if its plain ``count`` equals the number of accounts ``found`` in it.

    ``states``: the known states of accounts, by name.
    """
    accounts = [one for one in found if not one.left]
    if count == len(accounts):
        return None
    why: dict[str, int] = collections.defaultdict(int)
    why["are symbolic links, which the count does not follow"] = sum(one.linked for one in accounts)
    why["are symbolic links that are not followed when listing accounts either"] = sum(bool(one.left) for one in found)
    if not any(character in "".join(layout.counted) for character in "*?"):
        counted = {one.name: _counted_in(AccountRef(root, one.name, layout)) for one in accounts if not one.linked}
        for name, number in counted.items():
            state = states.get(name, "")
            why["contain no counted file and are damaged"] += number == 0 and state == "corrupt"
            why["contain no counted file because their credentials are stored elsewhere"] += (
                number == 0 and state == "unknown"
            )
            why["contain no counted file and are not linked"] += number == 0 and state in ("pending", "fresh")
            why["are counted below another account, where no account is expected"] += max(0, number - 1)
        why["are counted in a directory where no account is expected"] = max(0, count - sum(counted.values()))
    reasons = [f"{number} {reason}" for reason, number in why.items() if number]
    if not reasons:
        return None
    return (
        f"the plain count in {path} ({' and '.join(layout.counted)}) is {count}, but {len(accounts)} accounts are listed: "
        f"{', '.join(reasons)}"
    )


def why_too_deep(root: DirFd, layout: Layout, path: str, *, any_layout: bool) -> str:
    """Return a sentence about accounts that lie too deep in the open directory ``root``; '' if there are none.

    ``any_layout``: no account was found, so the layout is unknown and all are tried.
    """
    for one in LAYOUTS.values() if any_layout else (layout,):
        number = too_deep(root, one)
        if number:
            return (
                f"{number} account(s) of the layout {one.name} seem to lie more than {one.depth} level(s) below {path}, deeper than "
                "accounts are searched for, so they are neither judged nor compared: name the directory that contains them, or describe "
                "them (layout=custom with custom.depth)"
            )
    return ""


def _counted_in(account: AccountRef) -> int:
    levels = 0 if account.name == "." else account.name.count("/") + 1
    with contextlib.suppress(OSError), account.opened() as directory:
        return count_below(directory, account.layout, levels)
    return 0
