# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Observed state of session_migrate. Reads only."""

from __future__ import annotations

import typing as t

from .._accounts.control_directory import control_path, existing_control
from .._accounts.leftovers import is_interrupted, is_untidy
from .._accounts.mount_points import filled, still_open
from .._accounts.receipts import Entry, entries_in
from .._accounts.tombstone import is_tombstone_at
from .._accounts.work_area import area_path, can_rename, known_document, opened_staging
from .._containers.service import compose_of, service_identity
from .._core.errors import SessionsError
from .._core.masking import masked
from .._core.query_cache import one_look
from .._fs.fdopen import opened_directory
from .._fs.users import Identity
from .._layouts.layout import Layout
from .._layouts.search import found_in, plain_count
from .._systemd.bindings import are_bound
from .._systemd.unit import Unit
from .._usage.in_use import ELSEWHERE, USED, Verdict, use_of
from .attached import Attachment, attached_by_now
from .known import Known, known_of
from .origins import ancestors, notes_for
from .owners import Owners
from .params import Params
from .sources import Source
from .survey import Roots, Survey, survey
from .switch import Switch, SwitchState, observe_switch

if t.TYPE_CHECKING:
    from .._containers.handling import Handling
    from .retirable import Retirement
    from .unreferenced import Astray


class State(t.NamedTuple):
    """The observed state of the host.

    ``effective``: the parameters as they are carried out on this host, which differ from those asked for in a rollback, which is the
    reverse migration, and where the host decides how the backend is attached. ``former``: other paths where the backend may keep
    accounts. ``area``: the path of staged and displaced accounts,
    ``control``: the path of receipt and intent. ``use``: what the running backend uses, None if it is down. ``notes``: what the next
    receipt keeps besides accounts. ``elsewhere``: sources that 'rename' cannot move from. ``locked``: accounts at the sessions
    path with a stale lock. ``retirable``: what 'retired' retires, ``staying``: the number of entries that it leaves.
    ``container``: how the container that the unit runs its program in is handled, ``not_copied``: the number of entries of its
    accounts directory that are neither accounts nor companions of accounts.
    ``astray``: accounts that the backend would no longer find. ``idle``: found sources that it does not use.
    ``attachment``: how it is pointed to the sessions path. ``open_points``: mount points of its bindings that other users can access.
    ``miscounts``: why plain counts of legacy paths differ from the numbers of accounts, if accounts are to be published.
    """

    unit: Unit | None
    effective: Params
    identity: Identity
    sources: tuple[Source, ...]
    use: Verdict | None
    survey: Survey
    staged: frozenset[str]
    receipts: t.Mapping[str, Entry]
    receipt_inode: int
    switch: SwitchState
    interrupted: bool
    untidy: bool
    area: str
    control: str
    elsewhere: tuple[str, ...]
    notes: t.Mapping[str, t.Any]
    locked: tuple[str, ...] = ()
    retirable: tuple[Retirement, ...] = ()
    staying: int = 0
    astray: Astray | None = None
    idle: tuple[Source, ...] = ()
    miscounts: tuple[str, ...] = ()
    attachment: Attachment | None = None
    open_points: tuple[str, ...] = ()
    container: Handling | None = None
    not_copied: int = 0
    former: tuple[str, ...] = ()

    @property
    def refusal(self) -> str:
        """Why the backend cannot be pointed to the sessions path as configured; empty if it can."""
        return self.attachment.refusal if self.attachment else ""

    @property
    def hint(self) -> str:
        """The hint to add to an error when the backend keeps using a legacy path."""
        return f" ({self.attachment.hint})" if self.attachment and self.attachment.hint else ""

    @property
    def leaves(self) -> bool:
        """Whether the backend is about to be pointed to the sessions path."""
        return self.switch.differs or bool(self.switch.outdated_options)

    @property
    def at_path(self) -> bool | None:
        """Whether the running backend uses the sessions path, None when it is down."""
        return None if self.use is None else self.use.state == USED


def observe(params: Params) -> State:
    """Read the unit, legacy paths, sessions path, receipt and configuration."""
    try:
        try:
            with one_look():
                return _observed(params)
        except FileNotFoundError:  # another run may be moving accounts that were listed a moment ago
            with one_look():
                return _observed(params)
    except OSError as error:  # its text may name a file inside an account
        raise SessionsError(
            f"cannot read {params.path} or the legacy path: {error.strerror}; fix that, or run as root (become)"
        ) from error


def _observed(params: Params) -> State:
    params, known = known_of(params)
    # Observed while the backend runs: once it is stopped, nothing shows which copy it used.
    use = _use_of(params, known)
    seen = _surveyed(params, known, None if use is None else use.state == USED)
    if params.back:
        _require_none_moved_away(known.sources, seen, params.path)
    if known.layout.databases and seen.to_publish and params.engine != "rename":
        _require_sqlite()
    idle = _idle(params, known)
    attachment = _attachment(params, known, idle, seen, use)
    if attachment:
        params = params._replace(switch=attachment.switch._replace(asked=params.switch.asked or params.switch))
    return _state_of(params, known, use, seen, idle, attachment)


def _state_of(
    params: Params,
    known: Known,
    use: Verdict | None,
    seen: Survey,
    idle: tuple[Source, ...],
    attachment: Attachment | None,
) -> State:
    unit, handling, sources, layout = known.unit, known.handling, known.sources, known.layout
    switch = _switch_of(params, known)
    retirements, staying = _retirements(params, known, attachment)
    is_switched = not params.back and not handling and bool(switch.differs or switch.outdated_options)
    is_counted = not params.accounts and bool(seen.to_publish or not seen.accounts)
    return State(
        unit=unit,
        effective=params,
        identity=known.identity,
        sources=sources,
        use=use,
        survey=seen,
        staged=_staged(params.path, seen),
        receipts=known.receipts,
        receipt_inode=int(known.receipt.get("path_inode", 0)),
        switch=switch,
        interrupted=is_interrupted(params.path),
        untidy=is_untidy(params.path),
        area=area_path(params.path),
        control=control_path(params.path),
        elsewhere=_elsewhere(params, sources),
        notes={} if params.restores else notes_for(known.receipt, sources, unit),
        locked=() if params.restores or params.state == "staged" else _locked(params.path, layout),
        retirable=retirements,
        staying=staying,
        astray=_astray(params, known, seen) if is_switched else None,
        idle=idle,
        attachment=attachment,
        open_points=_open_points(params, known, attachment),
        miscounts=_miscounts(sources, layout, seen) if is_counted else (),
        container=handling,
        not_copied=_not_copied(handling, seen),
        former=known.former,
    )


def _use_of(params: Params, known: Known) -> Verdict | None:
    """Say whether the running backend uses the sessions path; None if it is down."""
    if known.handling and known.handling.root:
        return Verdict(ELSEWHERE, (known.handling.root.path,))
    if known.unit is None or not known.unit.main_pid:
        return None
    return use_of(known.unit, params.path, known.former, known.layout)


def _switch_of(params: Params, known: Known) -> SwitchState:
    unit, handling = known.unit, known.handling
    switch = observe_switch(params.switch, None if unit and compose_of(unit) else unit)
    # The next container mounts the sessions path, the running one does not.
    if handling and handling.root and not switch.differs:
        return switch._replace(outdated_options=("mount",))
    return switch


def _retirements(params: Params, known: Known, attachment: Attachment | None) -> tuple[tuple[Retirement, ...], int]:
    """Return what of the legacy paths is put out of use, and how many entries stay."""
    if params.state != "retired" or known.handling:
        return (), 0
    if attachment is not None and params.switch.bindings:
        return _emptied(attachment.points, known.owners)
    return _retirable(known.sources, known.layout)


def _elsewhere(params: Params, sources: t.Iterable[Source]) -> tuple[str, ...]:
    """Return the legacy paths whose accounts cannot be renamed to the sessions path, for the engine that does so."""
    if params.engine != "rename":
        return ()
    return tuple(source.path for source in sources if not can_rename(source.path, params.path))


def _not_copied(handling: Handling | None, seen: Survey) -> int:
    if handling is None or handling.root is None:
        return 0
    from .uncopied import not_copied

    return not_copied(handling.root.path, seen)


def _surveyed(params: Params, known: Known, at_path: bool | None) -> Survey:
    receipts = known.receipts if params.restores else ancestors(known.receipts, known.sources, params.path)
    return survey(Roots(known.sources, params.path, known.layout, at_path), receipts, params.choice)


def surveyed_again(state: State) -> State:
    """Survey only the accounts again, at the same paths and with the same knowledge of the backend."""
    params = state.effective
    receipts = entries_in(known_document(params.path, params.receipt))
    known = receipts if params.restores else ancestors(receipts, state.sources, params.path)
    roots = Roots(state.sources, params.path, state.survey.layout, state.at_path)
    seen = survey(roots, known, params.choice, state.survey)
    return state._replace(survey=seen, receipts=receipts, not_copied=_not_copied(state.container, seen))


def way_back_of(state: State, params: Params) -> Params:
    """Return the parameters of the rollback that undoes a migration of ``params``."""
    only = state.sources[:1] if len(state.sources) == 1 else ()
    return params._replace(
        state="rolled_back",
        sources=tuple(source.path for source in only),
        switch=Switch((), None),
        accounts=frozenset(),
        tombstone="",
        use_timeout=0.0,
        restored=state.unit is not None and state.unit.active,
    )


def _attachment(
    params: Params, known: Known, idle: tuple[Source, ...], seen: Survey, use: Verdict | None
) -> Attachment | None:
    unit, sources, asked = known.unit, known.sources, params.switch.asked or params.switch
    if (
        unit is None
        or known.handling
        or params.restores
        or params.state == "staged"
        or (asked.attach == "variable" and not seen.to_publish)
    ):
        return None
    elsewhere = use is not None and use.state == ELSEWHERE
    # The user that it starts as counts: a program that drops root privileges later has set up its mounts as root and may do so again.
    unprivileged = service_identity(unit).uid != 0
    if not (seen.to_publish or elsewhere):
        by_now = attached_by_now(asked, unit, params.path, sources, unprivileged=unprivileged)
        if by_now is not None:
            return by_now
    from .attach import Scene, attached

    used = tuple(source for source in sources if source not in idle)
    return attached(asked, Scene(unit, params.path, used, seen, params.sources, unprivileged, elsewhere))


def _require_none_moved_away(sources: t.Iterable[Source], seen: Survey, path: str) -> None:
    """Raise SessionsError if ``path`` has old copies of accounts that were moved from the sources to another host."""
    for source in sources:
        with opened_directory(source.path) as root:
            gone = [masked(name) for name in seen.present if is_tombstone_at(root, name)]
        if gone:
            raise SessionsError(
                f"accounts that were moved from {source.path} to another host have old copies at {path} ({', '.join(gone)}), "
                "which would be connected a second time; nothing was changed: move these copies away, or the accounts back, and run again"
            )


def _require_sqlite() -> None:
    from .._layouts.sqlite import require_sqlite

    require_sqlite()


def _locked(path: str, layout: Layout) -> tuple[str, ...]:
    if not layout.locks:
        return ()
    from .._accounts.locks import locked_accounts

    return locked_accounts(path, layout)


def _retirable(sources: tuple[Source, ...], layout: Layout) -> tuple[tuple[Retirement, ...], int]:
    from .retirable import retirable

    return retirable(sources, layout)


def _open_points(params: Params, known: Known, attachment: Attachment | None) -> tuple[str, ...]:
    unit, points, users = known.unit, attachment.points if attachment else (), known.owners.users
    found = still_open(points, users) if points and users else ()
    return found if found and unit and unit.active and are_bound(unit, params.switch.bindings) else ()


def _emptied(points: tuple[str, ...], owners: Owners) -> tuple[tuple[Retirement, ...], int]:
    from .retirable import emptied

    return emptied(filled(points, owners.closed), owners.users)


def _astray(params: Params, known: Known, seen: Survey) -> Astray | None:
    """Search for accounts that the backend would no longer find. Skipped if an existing legacy path was named in 'src'."""
    if known.unit is None or (params.sources and known.sources):
        return None
    from .switch_refusals import linked_places
    from .unreferenced import find_unreferenced

    places = [
        *(source.path for source in known.sources),
        params.path,
        area_path(params.path),
        control_path(params.path),
    ]
    places += linked_places(seen)
    only_used = bool(seen.accounts or seen.present)
    return find_unreferenced(known.unit, params.layout, places, known.identity.uid, only_used=only_used)


def _idle(params: Params, known: Known) -> tuple[Source, ...]:
    """Return those of several found legacy paths that are not in use. Empty if they were named in 'src', and for containers."""
    if params.sources or len(known.sources) < 2 or known.handling or known.unit is None or not known.unit.main_pid:
        return ()
    from .unreferenced import idle_sources

    return idle_sources(known.unit, known.sources, known.layout)


def _miscounts(sources: t.Iterable[Source], layout: Layout, seen: Survey) -> tuple[str, ...]:
    from .._accounts.miscount import why_counts_differ, why_too_deep

    found = []
    for source in sources:
        with opened_directory(source.path) as root:
            states = {account.name: account.legacy.state for account in seen.accounts if account.root == source.path}
            accounts = list(found_in(root, layout))
            found.append(
                why_counts_differ(root, layout, source.given, plain_count(root, layout), accounts, states) or ""
            )
            found.append(why_too_deep(root, layout, source.given, any_layout=not accounts))
    return tuple(filter(None, found))


def _staged(path: str, seen: Survey) -> frozenset[str]:
    if not seen.to_publish:
        return frozenset()
    from .._accounts.copy_index import is_staged

    with existing_control(path) as control, opened_staging(path, control) as staging:
        if staging is None:
            return frozenset()
        return frozenset(
            account.name for account in seen.to_publish if is_staged(staging, account.name, account.legacy.mark)
        )
