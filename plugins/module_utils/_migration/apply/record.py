# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Writes the receipt of a run: what the next one compares both sides of each account with."""

from __future__ import annotations

import os
import time
import typing as t

from ..._accounts.control_directory import write_document_at
from ..._accounts.receipts import Entry, Mark, document_of, mark_at
from ..._core.masking import account_key
from ..._fs.fdopen import DirFd, opened_directory
from ..._layouts.account import AccountRef
from ..pair import Account
from ..restoring import receipt_source
from ..survey import Survey
from .progress import Run


def write_receipt(
    run: Run, notes: t.Mapping[str, t.Any], published: t.Collection[str] = (), damaged: t.Collection[str] = ()
) -> None:
    """Write the receipt: each account now at the sessions path with the marks of both copies, and those left out as ``damaged``.

    ``notes``: what it keeps besides accounts. ``published``, ``damaged``: names of accounts.
    """
    written = dict(run.state.receipts)
    with opened_directory(run.params.path) as root:
        for account in run.survey.accounts:
            mark = account.legacy.mark
            source = receipt_source(account.root) if run.params.restores else account.root
            if account.name in published or account.decision.adopt:
                present = _present_mark(root, account, run.survey, account.name in published)
                written[account_key(account.name)] = Entry(source, mark, present, time.time())
            elif account.name in damaged:
                written[account_key(account.name)] = Entry(source, mark, mark, time.time(), damaged=True)
        document = {**document_of(run.params.path, written), "path_inode": os.fstat(root).st_ino, **notes}
    write_document_at(run.control, run.params.receipt, document)


def _present_mark(root: DirFd, account: Account, seen: Survey, is_published: bool) -> Mark:
    # Adopted accounts are recorded as they were judged: what the backend has written to them since counts as use.
    if account.present and not is_published and not account.is_inside:
        return account.present.mark
    return mark_at(AccountRef(root, account.name, seen.layout))
