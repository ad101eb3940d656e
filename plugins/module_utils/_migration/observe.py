# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Parameters and observed state of session_migrate. Reads only."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from .._accounts.control_directory import control_path, existing_control
from .._accounts.leftovers import is_interrupted, is_untidy
from .._accounts.mount_points import closed_in, filled, still_open
from .._accounts.receipts import RECEIPT, Entry, entries_in
from .._accounts.tombstone import is_tombstone, is_tombstone_at
from .._accounts.work_area import area_path, can_rename, known_document, opened_staging
from .._containers.detect import container_of
from .._containers.service import compose_of, read_service, service_identity
from .._core.errors import SessionsError
from .._core.masking import masked
from .._core.query_cache import one_look
from .._fs.fdopen import normal_path, opened_directory
from .._fs.modes import Mode, read_directory_mode
from .._fs.users import Identity, identity_of
from .._layouts.layout import Layout
from .._layouts.registry import chosen_layout
from .._layouts.search import found_in, plain_count
from .._systemd.bindings import are_bound
from .._systemd.unit import Unit, UnknownUnit, unit_name
from .._usage.in_use import ELSEWHERE, USED, Verdict, use_of
from .attached import Attachment, attached_by_now
from .origins import ancestors, notes_for, receipt_of
from .owners import Owners, owners_of
from .restoring import RESTORES, WAYS
from .sources import Source, directories_of, found_sources, layout_of, named_sources
from .survey import Choice, Survey, survey
from .switch import PlainFile, Switch, SwitchState, observe_switch, read_switch

if t.TYPE_CHECKING:
    from .._containers.handling import Container, Handling
    from .retirable import Retirement
    from .unreferenced import Astray


class Params(t.NamedTuple):
    """Options of session_migrate, with normalised paths.

    ``sources``: empty to find them from the unit. ``layout``: None to recognise it. ``accounts``: empty for all. ``mode``: for ``path``
    if it is created. ``accept_left_behind``: accounts, as they are reported. ``back``: this is a rollback, see ``_turned_round``.
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
    unit = _unit_of(params)
    container = container_of(unit) if unit else None
    handling = _handled(container, params) if container else None
    back = params.state == "rolled_back" and not handling  # a rollback leads into the container only
    params = _for_this_host(params, unit, handling, back)
    known = _known_of(params, unit, handling)
    sources, layout = known.sources, known.layout
    # Observed while the backend runs: once it is stopped, nothing shows which copy it used.
    use = _use_of(params, unit, handling, known)
    seen = _surveyed(params, sources, layout, known.receipts, None if use is None else use.state == USED)
    if back:
        _require_none_moved_away(sources, seen, params.path)
    if layout.databases and seen.to_publish and params.engine != "rename":
        _require_sqlite()
    idle = () if handling else _idle(params, unit, sources, layout)
    attachment = None if handling else _attachment(params, unit, sources, idle, seen, use)
    if attachment:
        params = params._replace(switch=attachment.switch._replace(asked=params.switch.asked or params.switch))
    switch = _switch_of(params, unit, handling)
    points = attachment.points if attachment else ()
    retirements, staying = _retirements(params, handling, attachment, known)
    is_switched = not back and not handling and bool(switch.differs or switch.outdated_options)
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
        astray=_astray(params, unit, known.identity.uid, sources, seen) if is_switched else None,
        idle=idle,
        attachment=attachment,
        open_points=_open_points(points, unit, params, known.owners),
        miscounts=_miscounts(sources, layout, seen) if is_counted else (),
        container=handling,
        not_copied=_not_copied(handling, seen),
        former=known.former,
    )


class _Known(t.NamedTuple):
    """What is known before accounts are looked at.

    ``receipt``: the document receipt.json, ``receipts``: what this run or one like it recorded. ``former``: see State.
    """

    identity: Identity
    owners: Owners
    sources: tuple[Source, ...]
    layout: Layout
    receipt: t.Mapping[str, t.Any]
    receipts: t.Mapping[str, Entry]
    former: tuple[str, ...]


def _for_this_host(params: Params, unit: Unit | None, handling: Handling | None, back: bool) -> Params:
    """Return the parameters as the container or the rollback changes them."""
    if params.switch.attach == "volume" and not handling:
        raise SessionsError(
            f"'attach' is volume, but the program does not run in a container (unit: {params.unit or 'none'}); nothing was changed: "
            "leave it at auto"
        )
    if handling:
        return _for_container(params, handling)
    return _turned_round(params, unit) if back else params


def _known_of(params: Params, unit: Unit | None, handling: Handling | None) -> _Known:
    identity = _identity(params, unit, (*_owned_by_program(params.sources, params), params.path))
    _require_directory_or_nothing(params.path)
    owners = owners_of(unit, identity, foreign=params.allow_foreign_owner)
    receipt = known_document(params.path, RECEIPT) if os.geteuid() == 0 else {}
    owners = owners._replace(closed=closed_in(receipt))  # only root can have closed any
    if handling:
        sources = _sources_in(handling, params, owners)
    elif params.sources:
        sources = named_sources(params.sources, params.path, owners)
    else:
        sources = found_sources(unit, params.path, params.layout, owners) if unit else ()
    receipt = receipt or known_document(params.path, RECEIPT)
    layout = layout_of(sources, params.path, params.layout)
    places = [Source(params.path, params.path)] if params.restores else sources
    identity = _identity(params, unit, (*directories_of(places, layout), params.path))
    migrated = entries_in(receipt)
    receipts = entries_in(known_document(params.path, RESTORES)) if params.restores else migrated
    former = former_places(_owned_by_program(sources, params), migrated, params.path)
    return _Known(identity, owners, sources, layout, receipt, receipts, former)


_Item = t.TypeVar("_Item")


def _owned_by_program(sources: tuple[_Item, ...], params: Params) -> tuple[_Item, ...]:
    """Return the sources that a backend may have used: none if they are snapshots, which belong to root."""
    return () if params.restores else sources


def _use_of(params: Params, unit: Unit | None, handling: Handling | None, known: _Known) -> Verdict | None:
    """Say whether the running backend uses the sessions path; None if it is down."""
    if handling and handling.root:
        return Verdict(ELSEWHERE, (handling.root.path,))
    if unit is None or not unit.main_pid:
        return None
    return use_of(unit, params.path, known.former, known.layout)


def _switch_of(params: Params, unit: Unit | None, handling: Handling | None) -> SwitchState:
    switch = observe_switch(params.switch, None if unit and compose_of(unit) else unit)
    # The next container mounts the sessions path, the running one does not.
    if handling and handling.root and not switch.differs:
        return switch._replace(outdated_options=("mount",))
    return switch


def _retirements(
    params: Params, handling: Handling | None, attachment: Attachment | None, known: _Known
) -> tuple[tuple[Retirement, ...], int]:
    """Return what of the legacy paths is put out of use, and how many entries stay."""
    if params.state != "retired" or handling:
        return (), 0
    if attachment is not None and params.switch.bindings:
        return _emptied(attachment.points, known.owners)
    return _retirable(known.sources, known.layout)


def _elsewhere(params: Params, sources: t.Iterable[Source]) -> tuple[str, ...]:
    """Return the legacy paths whose accounts cannot be renamed to the sessions path, for the engine that does so."""
    if params.engine != "rename":
        return ()
    return tuple(source.path for source in sources if not can_rename(source.path, params.path))


def _unit_of(params: Params) -> Unit | None:
    """Read the unit. Raises SessionsError if there is none of that name, and names processes that use accounts."""
    try:
        return read_service(params.unit) if params.unit else None
    except UnknownUnit as error:
        from .._containers.loose_backends import what_to_do

        raise SessionsError(f"{error}{what_to_do(params.sources, params.layout)}") from error


def _handled(container: Container, params: Params) -> Handling:
    if params.state == "rolled_back" and container.compose:
        from .._containers.compose_services import way_back

        receipts = entries_in(known_document(params.path, RECEIPT))
        if not {entry.source for entry in receipts.values()}.issuperset(params.sources):
            raise SessionsError(
                f"the accounts of {container.unit} can only be rolled back into its container, not to {params.sources[0]}; nothing was "
                "changed: leave 'src' out"
            )
        return way_back(container, params.path, params.layout)
    if params.state == "rolled_back":
        raise SessionsError(
            f"{container.unit} runs its program in a container ({container.called}), which has no former path to return to, so its "
            f"accounts stay at {params.path}; nothing was changed: to keep them at another path, stop it, copy them, change its volume and "
            "start it"
        )
    from .._containers.handling import handling_of

    return handling_of(container, params.path, params.layout)


def _for_container(params: Params, handling: Handling) -> Params:
    """Adapt the parameters to a container: it reads no variables of its unit, its engine stops it, and its accounts are always copied."""
    from .._containers.handling import require_attach, require_outside

    if params.state == "rolled_back":
        return params._replace(sources=(), switch=Switch((), None))
    if params.restores:
        if handling.root is not None:
            raise SessionsError(
                f"the program of {params.unit} keeps its accounts in its container, not at {params.path}; nothing was changed: run persist "
                "first, or name the directory that the container has mounted"
            )
        return params._replace(switch=Switch((), None))
    require_outside(handling, params.sources)
    require_attach(handling, params.switch.attach, params.path)
    if handling.root is None:
        return params._replace(switch=Switch((), None))
    plain = (PlainFile(*handling.drop_in),) if handling.drop_in else ()
    return params._replace(sources=(), engine="native", switch=Switch((), None, plain=plain))


def _sources_in(handling: Handling, params: Params, owners: Owners) -> tuple[Source, ...]:
    """Return the container's own accounts directory, or the named sources if it already has the sessions path mounted."""
    root = handling.root
    if root is None:
        return named_sources(params.sources, params.path, owners)
    return (Source(root.path, root.path, None, owners.receiver.uid),)


def _not_copied(handling: Handling | None, seen: Survey) -> int:
    if handling is None or handling.root is None:
        return 0
    from .uncopied import not_copied

    return not_copied(handling.root.path, seen)


def _surveyed(
    params: Params,
    sources: tuple[Source, ...],
    layout: Layout,
    receipts: t.Mapping[str, Entry],
    at_path: bool | None,
    before: Survey | None = None,
) -> Survey:
    known = receipts if params.restores else ancestors(receipts, sources, params.path)
    return survey(sources, params.path, layout, known, params.choice, at_path, before)


def surveyed_again(state: State) -> State:
    """Survey only the accounts again, at the same paths and with the same knowledge of the backend."""
    params = state.effective
    receipts = entries_in(known_document(params.path, params.receipt))
    seen = _surveyed(params, state.sources, state.survey.layout, receipts, state.at_path, state.survey)
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


def former_places(sources: t.Iterable[Source], receipts: t.Mapping[str, Entry], path: str) -> tuple[str, ...]:
    """Return the paths, other than ``path``, where a backend may still keep accounts."""
    places = (*(source.path for source in sources), *(entry.source for entry in receipts.values()))
    return tuple(place for place in dict.fromkeys(places) if place != path)


def _attachment(
    params: Params,
    unit: Unit | None,
    sources: tuple[Source, ...],
    idle: tuple[Source, ...],
    seen: Survey,
    use: Verdict | None,
) -> Attachment | None:
    asked = params.switch.asked or params.switch
    if (
        unit is None
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


def _turned_round(params: Params, unit: Unit | None) -> Params:
    """Return the parameters of the reverse migration, which is what a rollback is."""
    from .rollback import origin_of, switch_back

    try:
        with opened_directory(params.path):
            receipt = receipt_of(params.path)
    except FileNotFoundError as error:
        raise SessionsError(
            f"{params.path} does not exist, so nothing can be rolled back from it; make sure that its volume is mounted"
        ) from error
    origin = params.sources[0] if params.sources else origin_of(receipt, unit, params.path)
    switch = switch_back(receipt, unit, params.path)
    return params._replace(sources=(params.path,), path=origin, state="migrated", switch=switch, back=True)


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


def _open_points(points: tuple[str, ...], unit: Unit | None, params: Params, owners: Owners) -> tuple[str, ...]:
    found = still_open(points, owners.users) if points and owners.users else ()
    return found if found and unit and unit.active and are_bound(unit, params.switch.bindings) else ()


def _emptied(points: tuple[str, ...], owners: Owners) -> tuple[tuple[Retirement, ...], int]:
    from .retirable import emptied

    return emptied(filled(points, owners.closed), owners.users)


def _astray(params: Params, unit: Unit | None, uid: int, sources: tuple[Source, ...], seen: Survey) -> Astray | None:
    """Search for accounts that the backend would no longer find. Skipped if an existing legacy path was named in 'src'."""
    if unit is None or (params.sources and sources):
        return None
    from .switch_refusals import linked_places
    from .unreferenced import find_unreferenced

    known = [*(source.path for source in sources), params.path, area_path(params.path), control_path(params.path)]
    known += linked_places(seen)
    return find_unreferenced(unit, params.layout, known, uid, only_used=bool(seen.accounts or seen.present))


def _idle(params: Params, unit: Unit | None, sources: tuple[Source, ...], layout: Layout) -> tuple[Source, ...]:
    """Return those of several found legacy paths that are not in use. Empty if they were named in 'src'."""
    if params.sources or len(sources) < 2 or unit is None or not unit.main_pid:
        return ()
    from .unreferenced import idle_sources

    return idle_sources(unit, sources, layout)


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


def _identity(params: Params, unit: Unit | None, places: t.Iterable[str]) -> Identity:
    """Return the future owner of the accounts: as named, else the unit's user, else the owner of the first of ``places`` that exists."""
    if unit is not None:
        own = service_identity(unit)
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
        raise SessionsError("the sessions path is the root of the file system; choose a separate directory")
    try:
        with opened_directory(directory) as parent:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise SessionsError(
            f"a component of the path {path} is not a directory; choose another sessions path"
        ) from error
    if stat.S_ISLNK(status.st_mode):
        raise SessionsError(f"the sessions path {path} is a symbolic link; name the directory that it points to")
    if not stat.S_ISDIR(status.st_mode) and not is_tombstone(path):
        raise SessionsError(f"the sessions path {path} is not a directory; move that file away, or choose another path")
