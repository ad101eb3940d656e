# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Carries out a migration: live copies first, then everything between stop and start, undone as a whole if anything fails."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t

from ..._accounts.control_directory import (
    INTENT,
    locked,
    opened_control,
    read_document_at,
    remove_document_at,
    remove_unused_control,
    write_document_at,
)
from ..._accounts.leftovers import is_interrupted
from ..._accounts.locks import remove_locks
from ..._accounts.mount_points import closed_in
from ..._accounts.receipts import RECEIPT, Entry, Mark, document_of, entries_in, mark_with_parts
from ..._accounts.work_area import opened_area, remove_unused
from ..._containers.service import compose_of, read_service
from ..._core.errors import SessionsError, StartFailed, WroteAlready
from ..._core.masking import account_key
from ..._core.progress import reported
from ..._fs.copy_tree import Tally
from ..._fs.fdopen import make_directory, opened_directory
from ..._fs.free_space import RESERVE, has_room, kept_free
from ..._fs.inotify import Watch
from ..._fs.modes import directory_bits
from ..._fs.syscalls import sync_filesystem
from ..._fs.users import Identity
from ..._layouts.layout import LINKED
from ..._layouts.registry import open_account
from ..._layouts.sqlite import store_names
from ..._proc.open_files import holders, named
from ..._proc.pool import in_background
from ..._systemd.bindings import are_bound, placed_bindings
from ..._systemd.effective import read_sources
from ..._systemd.unit import Unit, daemon_reload
from ..._usage.in_use import USED, use_of
from ..._usage.open_watch import UseWatch
from ..observe import Params, State, observe, surveyed_again
from ..origins import receipt_of
from ..plan import Evidence
from ..refusals import require_decided
from ..rollback import with_switch
from ..sources import directories_of
from ..steps import Step, planned
from ..survey import Account, Survey
from ..switch import files_of
from ..switch_refusals import linked_places, needed, require_sound
from . import publish
from .close_mount_points import close, given_back
from .companions import bring_companions, clear_companions, finish_companions
from .guard import Cutover, Stopwatch, guarded, remove_guard_drop_ins, rescuer_armed, stop_again, stopped
from .install_switch import clear_the_way, early_installed, install, install_early
from .kept_copies import forget_source, is_committed, is_source_gone, kept_if_last, note_source, require_none_left
from .older_area import take_over
from .proof import Start, prove, watched_use
from .publish import Folders, Place, Publication
from .recover import recover, require_all_taken_back, tidy
from .rescue import Intent, undo_committed, undo_moves
from .retire import retire, without_tombstone
from .staging import (
    DamagedAccounts,
    Stage,
    Task,
    changes_since_copy,
    clear_staging,
    has_ample_room,
    need_of,
    open_staged,
    require_movable,
    stage_final,
    stage_live,
    watched,
)

if t.TYPE_CHECKING:
    from ..._containers.handling import Handling

_LIVE_ROUNDS = 3
_SHORT_ROUND = 1.0  # seconds: copying what a backend writes in this time is faster than scanning everything once more
_WRITE_OUT_EVERY = 0.1  # seconds


@dataclasses.dataclass
class Progress:
    """The progress of a run: what it measured and decided, and the directories that it holds open.

    ``touches``: watches for files that change after they were copied. ``folders``: the directories that accounts are renamed between.
    """

    watch: Stopwatch
    accounts: tuple[Account, ...]
    copied: Tally
    warnings: list[str]
    touches: Watch | None = None
    path_made: bool = False
    folders: Folders = dataclasses.field(default_factory=Folders)


class Area(t.NamedTuple):
    """The open directories of a run: ``control`` with what root acts on (control_directory.py), ``data`` with accounts (work_area.py)."""

    control: int
    data: int


def apply_steps(steps: tuple[Step, ...], state: State, params: Params) -> Evidence:
    """Carry out the steps while holding the lock of the area. Raises SessionsError, also for errors of the operating system."""
    progress = Progress(Stopwatch(), state.survey.accounts, Tally(), [*state.miscounts])
    try:
        with (
            progress.folders,
            opened_control(params.path) as control,
            locked(control, params.path),
            without_tombstone(params.path),
            _given_back(state, params),
            _made(params, state.identity, progress),
            opened_area(params.path, control) as data,
            reported(control, "migration", state.unit.name if state.unit else ""),
        ):
            take_over(params.path, control, data, (RECEIPT, INTENT))
            _carry_out(Area(control, data), steps, state, params, progress)
    except OSError as error:
        raise SessionsError(
            f"cannot migrate to {params.path}: {error.strerror}; changes were rolled back: fix the disk or its permissions and run again"
        ) from error
    finally:
        if progress.touches:
            progress.touches.close()
    return Evidence(
        progress.accounts, progress.watch.downtime, progress.watch.phases, progress.path_made, tuple(progress.warnings)
    )


@contextlib.contextmanager
def _given_back(state: State, params: Params) -> t.Iterator[None]:
    """Reopen the mount points that accounts return to; if the body fails, close those that the unit is still bound to."""
    if params.switch.restored is None:
        yield
        return
    notes = {point: note for source in state.sources for point, note in closed_in(receipt_of(source.path)).items()}
    paths = {source.path for source in state.sources}

    def is_bound() -> bool:
        return state.unit is not None and any(
            one.binding.source in paths for one in placed_bindings(read_sources(state.unit.name))
        )

    with given_back(params.path, notes, state.identity.uid, state.identity.gid, is_bound):
        yield


@contextlib.contextmanager
def _made(params: Params, identity: Identity, progress: Progress) -> t.Iterator[None]:
    """Create the sessions path if it is missing, and remove it again if the body fails."""
    progress.path_made = not os.path.lexists(params.path)
    try:
        make_directory(params.path, directory_bits(params.mode), uid=identity.uid, gid=identity.gid)
        yield
    except BaseException:
        if progress.path_made:
            remove_unused(params.path)
            remove_unused_control(params.path)
        raise


def _carry_out(area: Area, steps: tuple[Step, ...], state: State, params: Params, progress: Progress) -> None:
    require_none_left(area.control, area.data, state.unit.name if state.unit else "the unit", params.path)
    interrupted = is_interrupted(params.path)
    if interrupted:
        recover(area.control, state.unit, state.at_path is True)
    # The receipts differ if another run has ended since the state was observed.
    if interrupted or entries_in(read_document_at(area.control, RECEIPT)) != state.receipts:
        state = observe(params)
        params = state.params
        steps = planned(state, params)
        progress.accounts = state.survey.accounts
    names = {step.name for step in steps}
    if "unlock" in names:
        remove_locks(params.path, state.locked, state.survey.layout, state.survey.path_inode)
    with _source_noted(area, state, params):
        if "stage" in names:
            _stage_live(area, state, params, progress)
        if names & {"publish", "companions", "switch", "restart"}:
            _cut_over(area, state, params, progress)
        else:
            apply_without_downtime(area, state, params, names, progress)
    if "retire" in names:
        _require_unused(state, params)
        retire(state.retirable, params.path)


@contextlib.contextmanager
def _source_noted(area: Area, state: State, params: Params) -> t.Iterator[None]:
    """While accounts are copied that are deleted with their container: keep the copies if the container ends during that time."""
    container = state.container.container if state.container and state.container.root else None
    # Containers of Compose keep their layer when they stop.
    if container is None or container.box is None or container.compose:
        yield
        return
    note_source(area.control, container.box.id, container.box.pid)
    with kept_if_last(area.control, area.data, container.unit, params.path):
        yield


def apply_without_downtime(
    area: Area, state: State, params: Params, names: t.Collection[str], progress: Progress
) -> None:
    """Carry out the steps that need no interruption of the backend."""
    stale = "reload" in names
    if "pre_stop_overrides" in names:
        stale = install_early(params.switch, state.switch)
    if stale:
        daemon_reload()
    if "remember" in names:
        _write_receipt(area, state, params, state.notes, (), ())
    if "close" in names:
        _close(area, state, progress)
    if "tidy" in names:
        tidy(area.control, area.data, state.unit)


def stage_in(data: int, state: State, params: Params) -> Stage:
    """Return how accounts are staged in the open directory ``data``."""
    identity, layout = state.identity, state.survey.layout
    return Stage(
        data,
        layout,
        identity.uid,
        identity.gid,
        params.engine,
        params.checksum,
        stopped=state.unit is not None,
        with_caches=not params.exclude_caches,
        kept_free=kept_free(data),
        needed=needed(state),
        closed=any(source.closed for source in state.sources),
    )


def tasks_of(seen: Survey) -> list[Task]:
    """Return a task for each account to stage."""
    sidecars_of = seen.layout.sidecars_of
    return [
        Task(one.root, one.name, one.label, sidecars_of(one.name), one.owner, one.legacy.mark.folder[0])
        for one in seen.to_publish
    ]


def _stage_live(area: Area, state: State, params: Params, progress: Progress) -> None:
    """Copy while the backend runs, and repeat as long as each round leaves less to copy."""
    stage, tasks = stage_in(area.data, state, params), tasks_of(state.survey)
    if params.engine == "rename":
        require_movable(stage, tasks)
        return
    with progress.watch.phase("stage"):
        if not has_ample_room(stage, tasks):
            require_space(area.data, need_of(stage, tasks), params.path)
        try:
            with _written_out_meanwhile(area.data):
                _copy_live(state, stage, tasks, progress)
        except DamagedAccounts as error:
            _clear_copies(area)
            require_sound(state, error.names)
            raise
        except BaseException:
            _clear_copies(area)  # the disk may be full, and a running backend writes to it
            raise
        sync_filesystem(area.data)


def _clear_copies(area: Area) -> None:
    if not is_source_gone(area.control):
        clear_staging(area.data)
        clear_companions(area.data)


@contextlib.contextmanager
def _written_out_meanwhile(area: int) -> t.Iterator[None]:
    """Write copied data to the disk while copying continues, instead of all of it at the end."""
    # A separate open file description: the kernel reports a failed write once per description (errseq), and the run itself must see it.
    disk = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=area)
    try:
        with in_background(lambda: sync_filesystem(disk), _WRITE_OUT_EVERY):
            yield
    finally:
        os.close(disk)


def _copy_live(state: State, stage: Stage, tasks: t.Sequence[Task], progress: Progress) -> None:
    running = state.unit is not None and state.unit.active
    progress.touches = watched(stage, tasks)
    for figures in _live_rounds(stage, tasks, progress.touches, _LIVE_ROUNDS if running else 1):
        progress.copied.add(figures)
    bring_companions(stage, state.survey.companions)


def _live_rounds(stage: Stage, tasks: t.Sequence[Task], touches: Watch | None, at_most: int) -> t.Iterator[Tally]:
    """Copy, and copy again what changed meanwhile, until a round is short or copies no less than the one before."""
    copied = 0
    for number in range(at_most):
        begin = time.monotonic()
        figures = stage_live(stage, tasks, touches)
        yield figures
        if time.monotonic() - begin < _SHORT_ROUND or (number and figures.copied >= copied):
            return
        copied = figures.copied


def require_space(area: int, need: Tally, path: str) -> None:
    """Raise SessionsError if ``need`` would fill the disk of the open directory ``area``."""
    disk = os.fstatvfs(area)
    size = need.bytes + need.files * disk.f_frsize
    if not has_room(disk, size, need.files):
        raise SessionsError(
            f"the disk of {path} has {disk.f_bavail * disk.f_frsize >> 20} MiB and {disk.f_favail} inodes free, but "
            f"the accounts need {int(size * RESERVE) >> 20} MiB and {need.files} inodes; nothing was changed: free space and run again"
        )


def require_nobody_holds(state: State) -> None:
    """Raise SessionsError if a process outside the unit uses the accounts: two writers would corrupt them."""
    directories = [*directories_of(state.sources, state.survey.layout), *linked_places(state.survey)]
    control_group, main_pid = (state.unit.properties["ControlGroup"], state.unit.main_pid) if state.unit else ("", 0)
    if state.container:  # its processes belong to the container engine and see its files under other paths
        main_pid = 0
    found = holders(directories, control_group, main_pid) if directories else ()
    if found:
        others = sorted({holder.unit for holder in found if holder.unit})
        remedy = (
            f"stop them and run again; if they use the same accounts directory, migrate each of them ({', '.join(others)})"
            if others
            else "stop them and run again"
        )
        raise SessionsError(
            f"processes outside the unit use the legacy path: {named(found)}; nothing was changed: {remedy}"
        )


def _cut_over(area: Area, state: State, params: Params, progress: Progress) -> None:
    """Do everything from the stop to the verification after the start. On any error, the backend runs on its former accounts again."""
    require_nobody_holds(state)
    if progress.touches:
        progress.touches.read()
    cutover = _cutover_of(state, params, progress)
    if state.container and state.container.back and cutover:
        _go_back_into_container(area, state, params, progress, cutover)
        return
    if state.container and state.container.root and cutover and not cutover.compose:
        _cut_over_container(area, state, params, progress, cutover)
        return
    with (
        early_installed(params.switch, state.switch),  # systemd reads it when the guard is installed
        rescuer_armed(cutover) if cutover else contextlib.nullcontext(),
        contextlib.ExitStack() as started,
    ):
        use = None
        try:
            with stopped(cutover) if cutover else contextlib.nullcontext():
                try:
                    _publish_all(area, state, params, progress)
                    if state.unit is not None and state.unit.active and (params.switch.leads or state.container):
                        watched = watched_use(state.unit, params.path, state.former, state.survey.layout)
                        use = started.enter_context(watched)
                except BaseException:
                    clear_the_way(params.switch, state.switch)
                    _undo(area, state.unit, params.engine, progress.folders)
                    raise
            if state.unit is not None and state.unit.active and (params.switch.leads or state.container):
                with progress.watch.phase("prove"):
                    progress.warnings.extend(_proved(state.unit, state, params, progress, use))
        except StartFailed as error:
            if cutover and cutover.inside:  # the former accounts were deleted with the former container
                from .container_run import kept

                raise SessionsError(f"{error}; {kept(cutover.unit, params.path)}") from error
            if cutover:
                _fall_back(cutover, params, f"{error}{state.hint}", progress.folders)
            raise
    if state.attachment and params.switch.bindings:
        _close(area, state, progress)
    try:
        tidy(area.control, area.data, None)
    except OSError as error:  # no reason to fail: the accounts are in place
        progress.warnings.append(f"cannot remove all staged copies: {error.strerror}; the next run removes them")


def _start_of(unit: Unit, state: State, params: Params, progress: Progress) -> Start:
    """Return what must be verified after the start."""
    linked = {
        account.name for account in progress.accounts if account.decision.publish and account.legacy.state in LINKED
    }
    linked |= {name for name, found in state.survey.present.items() if found in LINKED}
    return Start(
        unit.name,
        params.path,
        state.former,
        state.survey.layout,
        params.switch,
        bool(linked),
        params.unit_timeout,
        params.use_timeout,
    )


def _proved(unit: Unit, state: State, params: Params, progress: Progress, use: UseWatch | None) -> tuple[str, ...]:
    """Verify that the backend uses the sessions path; return warnings. Raises StartFailed for every error."""
    start = _start_of(unit, state, params, progress)
    try:
        if state.container:
            from .container_run import prove_container

            return prove_container(start, use)
        warnings = prove(start, use)
        _require_bound(unit.name, params)
        return warnings
    except StartFailed:
        raise
    except SessionsError as error:
        raise StartFailed(
            f"{unit.name} was started, but whether it uses {params.path} could not be verified: {error}"
        ) from error
    except OSError as error:
        raise StartFailed(
            f"{unit.name} was started, but whether it uses {params.path} could not be verified: {error.strerror}"
        ) from error


def _require_bound(unit: str, params: Params) -> None:
    """Raise StartFailed if the bindings are missing; the only check that is possible when systemd knows no main process."""
    now = read_service(unit)
    if now.active and not are_bound(now, params.switch.bindings):
        raise StartFailed(f"{unit} was started, but {params.path} is not mounted over its accounts directory")


def _close(area: Area, state: State, progress: Progress) -> None:
    """Close the mount points of a backend that is known to run with its bindings."""
    points, identity = state.attachment.points if state.attachment else (), state.identity
    if state.unit is None or not state.unit.active or not identity.uid:
        return
    try:
        owners = {uid for source in state.sources for uid in source.owners or (identity.uid,) if uid}
        close(area.control, points, owners, identity.gid)
    except OSError as error:  # no reason to fail: the accounts are in place
        progress.warnings.append(
            f"cannot close {', '.join(points)} to other users: {error.strerror}; the next run tries again"
        )


def _cut_over_container(area: Area, state: State, params: Params, progress: Progress, cutover: Cutover) -> None:
    from .container_run import Parts, cut_over

    parts = Parts(
        publish=lambda: _publish_all(area, state, params, progress),
        undo_moves=lambda: _undo(area, state.unit, params.engine, progress.folders),
        is_gone=lambda: is_source_gone(area.control),
        is_committed=lambda: is_committed(area.control),
        watched=lambda: watched_use(cutover.unit, params.path, state.former, state.survey.layout),
        start=lambda: _start_of(cutover.unit, state, params, progress),
    )
    progress.warnings.extend(cut_over(cutover, t.cast("Handling", state.container), params.path, parts))
    forget_source(area.control)
    with contextlib.suppress(OSError):  # the next run removes what is left
        tidy(area.control, area.data, None)


def _go_back_into_container(area: Area, state: State, params: Params, progress: Progress, cutover: Cutover) -> None:
    from .compose_rollback import put_back, require_back

    unit, back = cutover.unit, t.cast("Handling", state.container).back
    compose = cutover.compose
    if compose is None or back is None:
        return
    with rescuer_armed(cutover), stopped(cutover), opened_directory(params.path) as path:
        place = Place(*area, path, state.identity.uid, state.identity.gid, progress.folders)
        try:
            with progress.watch.phase("publish"):
                put_back(place, compose, back, params.path, state.survey.layout)
        except BaseException:
            _undo(area, unit, params.engine, progress.folders)
            raise
    with progress.watch.phase("prove"):
        require_back(unit.name, back)
    progress.warnings.append(
        f"the accounts of {unit.name} are now inside its container and are lost when Compose recreates it: run persist before that"
    )
    tidy(area.control, area.data, None)


def _cutover_of(state: State, params: Params, progress: Progress) -> Cutover | None:
    """Return what is kept stopped during the cutover; None without a unit."""
    if state.unit is None:
        return None
    mounts = (params.path, state.area, *(source.path for source in state.sources))
    intent = f"{state.control}/{INTENT}"
    cutover = Cutover(state.unit, intent, params.unit_timeout, progress.watch, mounts, restored=params.restored)
    if not state.container or not cutover.compose:
        return cutover
    root, back = state.container.root, state.container.back
    inside = root.inside if root else back.inside if back else ""
    return cutover._replace(inside=inside, back=bool(back))


def _publish_all(area: Area, before: State, params: Params, progress: Progress) -> None:
    """Decide again now that the backend is stopped, copy the difference, publish, write the receipt, switch, commit."""
    watch = progress.watch
    with watch.phase("decide"):
        state = surveyed_again(before, params)
        require_decided(state, params)
        progress.accounts = state.survey.accounts
    stage = stage_in(area.data, state, params)
    with opened_directory(params.path) as path:
        place = Place(*area, path, state.identity.uid, state.identity.gid, progress.folders)
        files, receipt = files_of(params.switch, state.switch), f"{state.control}/{RECEIPT}"
        with watch.phase("difference"):
            taking = publish.taking_moves(place, _publications(state.survey)) if params.engine == "rename" else []
            if taking:
                publish.announce(place, taking, files, receipt)
            marks = {account.name: account.legacy.mark for account in state.survey.to_publish}
            staged = stage_final(stage, tasks_of(state.survey), changes_since_copy(progress.touches, stage, marks))
            progress.copied.add(staged.tally)
            state = without_damaged(state, staged.damaged)
            progress.accounts = state.survey.accounts
            unread = finish_companions(stage, state.survey.companions)
            if unread:
                progress.warnings.append(
                    f"{unread} file(s) next to the accounts are named like databases but SQLite cannot read them, so they were copied "
                    "unchanged; restore a backup of those that are databases"
                )
        publications = _publications(state.survey)
        companions = [companion.name for companion in state.survey.companions]
        with watch.phase("verify"):
            _require_same_states(area.data, state.survey)
        with watch.phase("durable"):
            sync_filesystem(area.data)
        with watch.phase("publish"):
            copy_root_mode(area.data, path, publications)
            publish.make_folders(place, publish.paths_of(publications, companions))
            displacing = publish.publishing_moves(place, publications)
            publishing = [*displacing, *publish.beside_moves(place, companions)]
            if params.tombstone:
                publishing += _leaving(place, publications, params)
            staying = publish.staying(place, _staying(state.survey))
            intent = publish.announce(place, [*taking, *publishing], files, receipt, staying)
            publish.note_displaced(place, displacing)
            publish.apply_moves(progress.folders, publishing)
            progress.folders.sync()
    with watch.phase("record"):
        notes = with_switch(state.notes, params.switch, state.switch)
        _write_receipt(area, state, params, notes, publications, staged.damaged)
    with watch.phase("switch"):
        install(params.switch, state.switch)
        compose = compose_of(state.unit) if state.unit else None
        if compose and state.container and state.container.root:
            from .compose_run import require_next

            require_next(compose, state.container.root.inside, params.path)
    with watch.phase("record"):
        publish.commit(area.control, intent)
    if state.unit is not None and compose is None:
        with watch.phase("switch"):
            remove_guard_drop_ins(state.unit.name)
            daemon_reload()


def _leaving(place: Place, publications: t.Sequence[Publication], params: Params) -> list[publish.Move]:
    """Plan the tombstones at the legacy roots. With an engine that copies, the accounts are displaced first."""
    if params.engine == "rename":
        return publish.leaving_moves(place, publications, params.tombstone)
    moves = []
    for root in dict.fromkeys(publication.root for publication in publications):
        own = [publication for publication in publications if publication.root == root]
        with opened_control(root) as control, opened_area(root, control) as area, opened_directory(root) as opened:
            source = dataclasses.replace(place, control=control, area=area, path=opened)
            aside = publish.aside_moves(source, own)
            publish.note_displaced(source, aside)
            moves += [*aside, *publish.leaving_moves(source, own, params.tombstone)]
    return moves


def _publications(seen: Survey) -> list[Publication]:
    return [
        Publication(
            account.name,
            account.label,
            account.root,
            account.decision.displace or account.name == ".",
            seen.layout.sidecars_of(account.name),
        )
        for account in seen.to_publish
    ]


def _staying(seen: Survey) -> list[str]:
    """Return the relative paths of accounts at the sessions path that nothing is published over, and of their parts."""
    published = {account.name for account in seen.to_publish}
    return [part for name in seen.present if name not in published for part in (name, *seen.layout.sidecars_of(name))]


def without_damaged(state: State, names: t.Collection[str]) -> State:
    """Leave out accounts with damaged databases. Raises SessionsError if the sessions path would have no account at all."""
    require_sound(state, names)
    seen = state.survey.without_damaged(names)
    if names and not seen.to_publish and not seen.present:
        damaged = next(account for account in seen.accounts if account.name in names)
        raise SessionsError(
            f"the database of account {damaged.label!r} at {damaged.root} is damaged, and there is no other account; "
            "nothing was published: restore a backup of it or move it away and run again"
        )
    return state._replace(survey=seen)


def copy_root_mode(area: int, path: int, publications: t.Sequence[Publication]) -> None:
    """Give an account that replaces the sessions path itself the mode of that directory."""
    if any(publication.name == "." for publication in publications):
        staged = open_staged(area, ".")
        try:
            os.fchmod(staged, os.fstat(path).st_mode & 0o777)
        finally:
            os.close(staged)


def _undo(area: Area, unit: Unit | None, engine: str, folders: Folders) -> None:
    intent = t.cast(Intent, read_document_at(area.control, INTENT))
    if intent:
        if intent.get("committed"):  # made durable first: a run killed from this point on must be undone
            intent["committed"] = False
            write_document_at(area.control, INTENT, intent)
        try:
            undo_moves(intent, folders.opened)
        except OSError as error:
            raise SessionsError(
                f"the migration failed and could not be rolled back completely ({error.strerror}); "
                "fix the disk or its permissions and run again: the next run first rolls back the rest"
            ) from error
        finally:
            if unit is not None and intent["files"]:
                daemon_reload()
        require_all_taken_back(intent, folders.opened)
        remove_document_at(area.control, INTENT)
    if engine != "rename":  # there the staged accounts are the only ones
        clear_staging(area.data)  # the disk may be full, and the backend is about to write to it


def _fall_back(cutover: Cutover, params: Params, why: str, folders: Folders) -> None:
    """Return a backend that does not start on the sessions path to the legacy path, unless it has already written to its accounts.

    Always raises: SessionsError after the rollback, WroteAlready if the backend has written, StartFailed if it does not start again.
    """
    gone_back = True
    try:
        with guarded(cutover._replace(watch=Stopwatch())):
            stop_again(cutover)
            try:
                gone_back = undo_committed(cutover.intent, folders.opened)
            except OSError as error:
                raise SessionsError(
                    f"{why}; the rollback is incomplete ({error.strerror}): fix the disk or its permissions and run again"
                ) from error
            finally:
                daemon_reload()
    except StartFailed as error:
        if gone_back:
            raise
        raise WroteAlready(why, params.path) from error  # whether it starts again does not matter: it is rolled back
    if not gone_back:
        raise WroteAlready(why, params.path)
    raise SessionsError(
        f"{why}; it runs on the legacy path again and nothing was lost: fix what keeps it from using {params.path} and run again"
    )


def _require_same_states(area: int, seen: Survey) -> None:
    """Raise SessionsError if a staged copy has another state than its original.

    Databases are left out: SQLite has already checked them, and judging them would mean reading them completely.
    """
    for account in seen.to_publish:
        staged = open_staged(area, account.name)
        try:
            checked = bool(seen.layout.databases) and bool(store_names(staged, seen.layout))
            state = account.legacy.state if checked else seen.layout.judged(staged).state
        finally:
            os.close(staged)
        if state != account.legacy.state:
            raise SessionsError(
                f"the copy of account {account.label!r} is {state} while the original is {account.legacy.state}; "
                "nothing was published: run again"
            )


def _write_receipt(
    area: Area,
    state: State,
    params: Params,
    notes: t.Mapping[str, t.Any],
    publications: t.Sequence[Publication],
    damaged: t.Collection[str],
) -> None:
    """Write the receipt: each account now at the sessions path with the marks of both copies, and those left out as ``damaged``."""
    seen, written = state.survey, dict(state.receipts)
    published = {publication.name for publication in publications}
    with opened_directory(params.path) as root:
        for account in seen.accounts:
            if account.name in published or account.decision.adopt:
                # Adopted accounts are recorded as they were judged: what the backend has written to them since counts as use.
                adopted = None if account.name in published or account.is_inside else account.present
                present = adopted.mark if adopted else _mark_at(root, account.name, seen)
                written[account_key(account.name)] = Entry(account.root, account.legacy.mark, present, time.time())
            elif account.name in damaged:
                mark = account.legacy.mark
                written[account_key(account.name)] = Entry(account.root, mark, mark, time.time(), damaged=True)
        document = {**document_of(params.path, written), "path_inode": os.fstat(root).st_ino, **notes}
    write_document_at(area.control, RECEIPT, document)


def _mark_at(root: int, name: str, seen: Survey) -> Mark:
    directory = open_account(root, name)
    try:
        return mark_with_parts(root, name, directory, seen.layout)
    finally:
        os.close(directory)


def _require_unused(state: State, params: Params) -> None:
    """Raise SessionsError if the backend uses, or may use, the legacy path to retire."""
    if params.unit is None:
        return
    unit = read_service(params.unit)
    if not unit.main_pid:
        return
    found = use_of(unit, params.path, state.former, state.survey.layout)
    if found.state != USED:
        where = f"it uses {', '.join(found.where)}" if found.where else "nothing shows that it uses it"
        raise SessionsError(
            f"{unit.name} does not use {params.path} yet ({where}), so its legacy path is not retired; "
            "point it to that path (option 'switch') and run again"
        )
