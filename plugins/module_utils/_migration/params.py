# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Options of session_migrate as typed parameters. Looks at nothing."""

from __future__ import annotations

import typing as t

from .._accounts.receipts import RECEIPT
from .._core.errors import SessionsError
from .._fs.fdopen import normal_path
from .._fs.modes import Mode, read_directory_mode
from .._layouts.layout import Layout
from .._layouts.registry import chosen_layout
from .._systemd.unit import unit_name
from .pair import Choice
from .restoring import RESTORES, WAYS
from .switch import Switch, read_switch


class Params(t.NamedTuple):
    """Options of session_migrate, with normalised paths.

    ``sources``: empty to find them from the unit. ``layout``: None to recognise it. ``accounts``: empty for all. ``mode``: for ``path``
    if it is created. ``accept_left_behind``: accounts, as they are reported. ``back``: this is a rollback, see known.py.
    ``restored``: this is the rollback of a failed run, which has stopped the backend itself. ``lost``: see restoring.py.
    """

    sources: tuple[str, ...]
    path: str
    unit: str | None
    layout: Layout | None
    owner: str | None
    group: str | None
    mode: Mode
    state: str
    on_conflict: str
    engine: str
    switch: Switch
    exclude_caches: bool
    checksum: bool
    unit_timeout: float
    use_timeout: float = 0.0
    accounts: frozenset[str] = frozenset()
    tombstone: str = ""
    allow_foreign_owner: bool = False
    allow_empty: bool = False
    accept_left_behind: frozenset[str] = frozenset()
    back: bool = False
    restored: bool = False
    lost: frozenset[str] = frozenset()

    @property
    def restores(self) -> bool:
        """Whether the sources are snapshots of accounts, see restoring.py."""
        return self.on_conflict in WAYS

    @property
    def receipt(self) -> str:
        """The name of the document that records what this run did, in the control directory."""
        return RESTORES if self.restores else RECEIPT

    @property
    def choice(self) -> Choice:
        """The options about accounts."""
        return Choice(self.on_conflict, self.accounts, self.accept_left_behind, self.lost)


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters. Raises SessionsError for values that are invalid on every host."""
    path = normal_path(options["path"], "path")
    unit = unit_name(options["unit"]) if options.get("unit") else None
    layout = chosen_layout(options)
    rolled_back, sources = options.get("state") == "rolled_back", options.get("src") or ()
    if rolled_back and len(sources) > 1:
        raise SessionsError("'src' names several paths, but accounts can be rolled back to one only; name that one")
    if not sources and unit is None and not rolled_back:
        raise SessionsError("neither 'src' nor 'unit' is given; name the legacy path, or the unit to find it from")
    return Params(
        sources=tuple(normal_path(source, "src") for source in sources),
        path=path,
        unit=unit,
        layout=layout,
        owner=options.get("owner"),
        group=options.get("group"),
        mode=read_directory_mode(options.get("mode") or "0750"),
        state=options.get("state") or "migrated",
        on_conflict=options.get("on_conflict") or "newest",
        engine=options.get("engine") or "native",
        switch=read_switch(options.get("switch"), unit),
        exclude_caches=options.get("exclude_caches") is not False,
        checksum=(options.get("verify") or "checksum") == "checksum",
        unit_timeout=float(options.get("unit_timeout") or 120),
        use_timeout=float(options.get("use_timeout") or 0),
        accounts=_named_accounts(options),
        tombstone=_tombstone(options),
        allow_foreign_owner=bool(options.get("allow_foreign_owner")),
        allow_empty=bool(options.get("allow_empty")),
        accept_left_behind=frozenset(map(str, options.get("accept_left_behind") or ())),
    )


def _named_accounts(options: t.Mapping[str, t.Any]) -> frozenset[str]:
    accounts = frozenset(options.get("accounts") or ())
    if accounts and options.get("state") in ("retired", "rolled_back"):
        raise SessionsError(
            f"state={options['state']} handles whole paths, but 'accounts' names single accounts; leave out one of the two"
        )
    return accounts


def _tombstone(options: t.Mapping[str, t.Any]) -> str:
    text = str(options.get("tombstone") or "")
    if len(text.encode()) > 1024 or any(ord(character) < 32 for character in text):
        raise SessionsError("'tombstone' is too long or contains a control character; give one sentence")
    return text
