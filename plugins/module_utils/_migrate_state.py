# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What session_migrate looks at: parameters and state. Nothing is written from here."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ._area import area_path, can_rename, opened_staging, read_document
from ._errors import SessionsError
from ._identity import Identity, identity_of
from ._layouts import Layout, chosen_layout
from ._left_over import is_interrupted, is_untidy
from ._locks import locked_accounts
from ._masking import masked
from ._mode import Mode, read_directory_mode
from ._one_look import one_look
from ._paths import normal_path, opened_directory
from ._receipts import RECEIPT, Entry, entries_in
from ._sources import Source, directories_of, found_sources, layout_of, named_sources, values_in_use
from ._survey import Survey, survey
from ._switch import Switch, SwitchState, observe_switch, read_switch
from ._tombstone import is_tombstone, is_tombstone_at
from ._unit import Unit, read_unit, unit_identity, unit_name
from ._way_back import ancestors, notes_for, origin_of, private_receipt, switch_back

if t.TYPE_CHECKING:
    from ._astray import Astray
    from ._retire import Retirement


class Params(t.NamedTuple):
    """Options of session_migrate. Paths are normalised; ``sources`` empty: find them from the unit; ``layout`` None: recognise it;
    ``accounts`` empty: all. ``mode``: of ``path`` where it has to be made.
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
    accounts: frozenset[str] = frozenset()
    tombstone: str = ""


class State(t.NamedTuple):
    """What is there now.

    ``params``: as they are carried out, see ``_way_back.py``. ``area``: the path of staging and receipt. ``notes``: what the next receipt
    keeps beside accounts. ``elsewhere``: sources that 'rename' cannot move from. ``locked``: accounts at the sessions
    path with a lock that nobody holds. ``retirable``: what 'retired' puts out of use. ``astray``: accounts that the backend would lose
    sight of. ``idle``: those of several sources that were found which the backend does not use.
    """

    unit: Unit | None
    params: Params
    identity: Identity
    sources: tuple[Source, ...]
    in_use: frozenset[str] | None
    survey: Survey
    staged: frozenset[str]
    receipts: t.Mapping[str, Entry]
    receipt_inode: int
    switch: SwitchState
    interrupted: bool
    untidy: bool
    area: str
    elsewhere: tuple[str, ...]
    notes: t.Mapping[str, t.Any]
    locked: tuple[str, ...] = ()
    retirable: tuple[Retirement, ...] = ()
    astray: Astray | None = None
    idle: tuple[Source, ...] = ()


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Make the typed parameters; raise SessionsError for what no host could accept."""
    path = normal_path(options["path"], "path")
    unit = unit_name(options["unit"]) if options.get("unit") else None
    layout = chosen_layout(options)
    rolled_back, sources = options.get("state") == "rolled_back", options.get("src") or ()
    if rolled_back and len(sources) > 1:
        raise SessionsError("'src' names several paths, and accounts can be brought back to one only; name that one")
    if not sources and unit is None and not rolled_back:
        raise SessionsError(
            "neither 'src' nor 'unit' is given; name the legacy path, or the unit that it can be found from"
        )
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
        accounts=_named_accounts(options),
        tombstone=_tombstone(options),
    )


def _named_accounts(options: t.Mapping[str, t.Any]) -> frozenset[str]:
    accounts = frozenset(options.get("accounts") or ())
    if accounts and options.get("state") in ("retired", "rolled_back"):
        raise SessionsError(
            f"state={options['state']} is about whole paths, and 'accounts' names some accounts of them; leave one of the two out"
        )
    return accounts


def _tombstone(options: t.Mapping[str, t.Any]) -> str:
    text = str(options.get("tombstone") or "")
    if text and options.get("engine") != "rename":
        raise SessionsError(
            "'tombstone' takes the place of accounts that are moved away, and only engine=rename moves them away; set it, or leave it out"
        )
    if len(text.encode()) > 1024 or any(ord(character) < 32 for character in text):
        raise SessionsError("'tombstone' is too long or holds a control character; give one sentence")
    return text


def observe(params: Params) -> State:
    """Look at unit, legacy paths, sessions path, receipt and configuration."""
    try:
        with one_look():
            return _observed(params)
    except OSError as error:  # its text may name a file inside an account
        raise SessionsError(
            f"cannot look at {params.path} or the legacy path: {error.strerror}; mend that, or run as root (become)"
        ) from error


def _observed(params: Params) -> State:
    unit = read_unit(params.unit) if params.unit else None
    back = params.state == "rolled_back"
    if back:
        params = _turned_round(params, unit)
    identity = _identity(params, unit, (*params.sources, params.path))
    _require_directory_or_nothing(params.path)
    if params.sources:
        sources = named_sources(params.sources, params.path, (identity.uid,))
    else:
        sources = found_sources(unit, params.path, params.layout, (identity.uid,)) if unit else ()
    receipt = read_document(params.path, RECEIPT)
    receipts = entries_in(receipt)
    layout = layout_of(sources, params.path, params.layout)
    identity = _identity(params, unit, (*directories_of(sources, layout), params.path))
    # Asked while the backend runs and kept: once it is stopped nothing tells any more which copy it used.
    in_use = values_in_use(unit.main_pid) if unit and unit.main_pid else None
    known = ancestors(receipts, sources, params.path)
    seen = survey(sources, params.path, layout, known, params.on_conflict, in_use, only=params.accounts)
    if back:
        _require_none_moved_away(sources, seen, params.path)
    if layout.databases and seen.to_publish and params.engine != "rename":
        _require_sqlite()
    switch = observe_switch(params.switch, unit)
    area = area_path(params.path)
    return State(
        unit=unit,
        params=params,
        identity=identity,
        sources=sources,
        in_use=in_use,
        survey=seen,
        staged=_staged(params.path, seen),
        receipts=receipts,
        receipt_inode=int(receipt.get("path_inode", 0)),
        switch=switch,
        interrupted=is_interrupted(params.path),
        untidy=is_untidy(params.path, area),
        area=area,
        elsewhere=tuple(source.path for source in sources if not can_rename(source.path, params.path))
        if params.engine == "rename"
        else (),
        notes=notes_for(receipt, sources, unit),
        locked=locked_accounts(params.path, layout) if params.state != "staged" else (),
        retirable=_retirable(sources, layout) if params.state == "retired" else (),
        astray=_astray(params, unit, identity.uid, sources, seen)
        if not back and (switch.differs or switch.lacking)
        else None,
        idle=_idle(params, unit, sources, layout),
    )


def surveyed_again(state: State, params: Params) -> State:
    """Look at the accounts again, in the same places and with the same knowledge of the backend; nothing else is looked at."""
    receipts = entries_in(read_document(params.path, RECEIPT))
    layout, before = state.survey.layout, state.survey
    known = ancestors(receipts, state.sources, params.path)
    seen = survey(
        state.sources, params.path, layout, known, params.on_conflict, state.in_use, before, only=params.accounts
    )
    return state._replace(survey=seen, receipts=receipts)


def _turned_round(params: Params, unit: Unit | None) -> Params:
    """Return the parameters of the migration in the other direction, which is what a rollback is."""
    try:
        with opened_directory(params.path):
            receipt = private_receipt(params.path)
    except FileNotFoundError as error:
        raise SessionsError(
            f"{params.path} is not there, so nothing can be brought back from it; see that its volume is mounted"
        ) from error
    origin = params.sources[0] if params.sources else origin_of(receipt, unit, params.path)
    switch = switch_back(receipt, unit, params.path)
    return params._replace(sources=(params.path,), path=origin, state="migrated", switch=switch)


def _require_none_moved_away(sources: t.Iterable[Source], seen: Survey, path: str) -> None:
    """Refuse to send a backend to a path that has old copies of accounts which went to another host from the one it uses."""
    for source in sources:
        with opened_directory(source.path) as root:
            gone = [masked(name) for name in seen.present if is_tombstone_at(root, name)]
        if gone:
            raise SessionsError(
                f"accounts that were moved from {source.path} to another host have old copies at {path} ({', '.join(gone)}), "
                "which would come up a second time; nothing was changed: move these copies away, or the accounts back, and run again"
            )


def _require_sqlite() -> None:
    from ._stores import require_sqlite

    require_sqlite()


def _retirable(sources: tuple[Source, ...], layout: Layout) -> tuple[Retirement, ...]:
    from ._retire import retirable

    return retirable(sources, layout)


def _astray(params: Params, unit: Unit | None, uid: int, sources: tuple[Source, ...], seen: Survey) -> Astray | None:
    """Look for accounts that the backend would lose sight of. Whoever names a legacy path that is there knows better."""
    if unit is None or (params.sources and sources):
        return None
    from ._astray import accounts_astray

    known = [*(source.path for source in sources), params.path, area_path(params.path)]
    return accounts_astray(unit, params.layout, known, uid, only_used=bool(seen.accounts or seen.present))


def _idle(params: Params, unit: Unit | None, sources: tuple[Source, ...], layout: Layout) -> tuple[Source, ...]:
    """Find out which of several legacy paths are in use. Whoever names them knows better."""
    if params.sources or len(sources) < 2 or unit is None or not unit.main_pid:
        return ()
    from ._astray import idle_sources

    return idle_sources(unit, sources, layout)


def _staged(path: str, seen: Survey) -> frozenset[str]:
    if not seen.to_publish:
        return frozenset()
    from ._index import is_staged

    with opened_staging(path) as staging:
        if staging is None:
            return frozenset()
        return frozenset(
            account.name for account in seen.to_publish if is_staged(staging, account.name, account.legacy.mark)
        )


def _identity(params: Params, unit: Unit | None, places: t.Iterable[str]) -> Identity:
    """Who will own the accounts: as named, else the unit's user, else whoever owns the first of ``places`` that exists."""
    if unit is not None:
        own = unit_identity(unit)
        return identity_of(
            params.owner or own.owner, params.group or (own.group if params.owner in (None, own.owner) else None)
        )
    if params.owner is not None:
        return identity_of(params.owner, params.group)
    for place in places:
        with contextlib.suppress(OSError, SessionsError), opened_directory(place) as directory:
            status = os.fstat(directory)
            return identity_of(str(status.st_uid), params.group or str(status.st_gid))
    return identity_of(str(os.geteuid()), params.group or str(os.getegid()))


def _require_directory_or_nothing(path: str) -> None:
    directory, name = os.path.split(path)
    if not name:
        raise SessionsError("the sessions path is the root of the file system; choose a directory of its own")
    try:
        with opened_directory(directory) as parent:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise SessionsError(
            f"something on the way to {path} is not a directory; choose another sessions path"
        ) from error
    if stat.S_ISLNK(status.st_mode):
        raise SessionsError(f"the sessions path {path} is a symbolic link; name the directory that it leads to")
    if not stat.S_ISDIR(status.st_mode) and not is_tombstone(path):
        raise SessionsError(
            f"the sessions path {path} is not a directory; move what is there away, or choose another path"
        )
