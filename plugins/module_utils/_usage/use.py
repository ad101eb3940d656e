# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Whether the running backend uses its sessions path, and whether a former path has newer keys. Reads only."""

from __future__ import annotations

import contextlib
import os
import typing as t

from .._accounts.receipts import RECEIPT, Entry, entries_in, mark_at
from .._accounts.work_area import known_document
from .._containers.service import read_service
from .._core.errors import SessionsError
from .._core.masking import account_key
from .._fs.fdopen import DirFd, normal_path, opened_directory
from .._layouts.account import AccountRef
from .._layouts.layout import Layout
from .._layouts.search import account_names
from .._systemd.unit import unit_name
from .in_use import ELSEWHERE, NOWHERE, Verdict, use_of


class Params(t.NamedTuple):
    """The unit, and the path that it should use."""

    unit: str
    path: str


class Seen(t.NamedTuple):
    """The observed use. ``use``: what the running backend uses, None if it is down. ``newer``: former paths with newer keys."""

    params: Params
    use: Verdict | None
    newer: tuple[str, ...]


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters."""
    return Params(unit_name(options["unit"]), normal_path(options["path"], "path"))


def observe(params: Params, layout: Layout) -> Seen:
    """Inspect the unit's processes and the paths that its accounts came from."""
    receipts = entries_in(known_document(params.path, RECEIPT))
    newer = newer_places(params.path, receipts, layout) if os.path.isdir(params.path) else ()
    unit = read_service(params.unit)
    if not unit.main_pid:
        return Seen(params, None, newer)
    former = [place for place in {entry.source for entry in receipts.values()} if place != params.path]
    return Seen(params, use_of(unit, params.path, former, layout, newer), newer)


def newer_places(path: str, receipts: t.Mapping[str, Entry], layout: Layout) -> tuple[str, ...]:
    """Return the paths that accounts came from and at which one was written to later than at ``path``."""
    found: dict[str, None] = {}
    with contextlib.ExitStack() as stack:
        former: dict[str, DirFd] = {}
        for place in {entry.source for entry in receipts.values()} - {path}:
            with contextlib.suppress(OSError, SessionsError):  # it was removed or retired
                former[place] = stack.enter_context(opened_directory(place))
        if not former:
            return ()
        root = stack.enter_context(opened_directory(path))
        for name in account_names(root, layout):
            entry = receipts.get(account_key(name))
            if entry is None or entry.damaged or entry.source not in former or entry.source in found:
                continue
            with contextlib.suppress(OSError):
                present = AccountRef(root, name, layout)
                if _is_newer(present._replace(root=former[entry.source]), present, entry):
                    found[entry.source] = None
    return tuple(found)


def _is_newer(former: AccountRef, present: AccountRef, entry: Entry) -> bool:
    mark = mark_at(former)
    return mark.differs_from(entry.legacy) and mark.changed_ns > mark_at(present).changed_ns


def complaint(seen: Seen, linked: int) -> str:
    """Return what is wrong with the use of the path, '' if nothing is. ``linked``: number of linked accounts; without any, none is used."""
    unit, path = seen.params
    if seen.newer:
        return (
            f"accounts in {', '.join(seen.newer)} have newer keys than in {path}, so {unit} or another program has kept using the former "
            "path; find out which program writes to it, then run the role persist"
        )
    return complaint_of(seen.use, unit, path) if linked else ""


def complaint_of(use: Verdict | None, unit: str, path: str) -> str:
    """Return what is wrong according to a verdict, '' if nothing is."""
    if use is None:
        return ""
    if use.state == ELSEWHERE:
        return f"{unit} uses {', '.join(use.where)} instead of {path}; check which directory its program uses, then run the role persist"
    if use.state == NOWHERE:
        return (
            f"neither open files, mounts nor the environment of {unit} show that it uses {path}; check which directory its program uses, "
            "then run the role persist"
        )
    return ""
