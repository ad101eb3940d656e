# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Carries a migration out: live copies first, then everything between stop and start, taken back as a whole when anything fails."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t

from . import _publish
from ._area import (
    COMPANIONS,
    INTENT,
    area_path,
    locked,
    opened_area,
    read_document_at,
    remove_document_at,
    remove_unused,
    write_document_at,
)
from ._companions import bring_companions, finish_companions
from ._cutover import StartFailed, Stopwatch, guarded, let_go, stop_now, stopped, watched_over
from ._errors import SessionsError
from ._identity import Identity
from ._kernel import sync_filesystem
from ._layouts import open_account
from ._left_over import is_interrupted
from ._locks import remove_locks
from ._migrate_plan import Evidence
from ._migrate_state import Params, State, observe, surveyed_again
from ._migrate_steps import Step, planned, require_decided
from ._mode import directory_bits
from ._paths import make_directory, opened_directory
from ._processes import holders
from ._publish import Place, Publication
from ._receipts import RECEIPT, Entry, Mark, account_key, document_of, entries_in, mark_with_parts
from ._recover import recover, require_all_taken_back, tidy
from ._rescue import go_back, take_back
from ._retire import reopened, retire
from ._room import RESERVE, has_room, kept_free
from ._sources import directories_of, is_in_use, values_in_use
from ._staging import (
    Stage,
    Task,
    clear_staging,
    has_ample_room,
    need_of,
    open_staged,
    stage_final,
    stage_live,
    told_by,
    watched,
)
from ._stores import store_names
from ._survey import Account, Survey
from ._switch import files_of, install, install_early, lacks_value
from ._tree import Tally, remove_tree
from ._unit import Unit, daemon_reload, read_unit
from ._watch import Watch
from ._way_back import with_switch
from ._workers import meanwhile

_LIVE_ROUNDS = 3
_SHORT_ROUND = 1.0  # seconds: what a backend writes in that time is copied faster than another look at everything takes
_WRITE_OUT_EVERY = 0.1  # seconds
# Seconds: systemd knows the main process of most services at once, of those that fork a little later.
_PROVED_WITHIN = 20.0


@dataclasses.dataclass
class Progress:
    """How far a run is: what it measured and decided. ``touches``: what tells what is touched after it was copied."""

    watch: Stopwatch
    accounts: tuple[Account, ...]
    copied: Tally
    warnings: list[str]
    touches: Watch | None = None
    path_made: bool = False


def carry_out(steps: tuple[Step, ...], state: State, params: Params) -> Evidence:
    """Carry the steps out, under the lock of the area. Raises SessionsError, also for what the kernel refuses."""
    progress = Progress(Stopwatch(), state.survey.accounts, Tally(), [])
    try:
        with (
            reopened(params.path),
            _made(params, state.identity, progress),
            opened_area(params.path) as area,
            locked(area, params.path),
        ):
            _carry_out(area, steps, state, params, progress)
    except OSError as error:
        raise SessionsError(
            f"cannot migrate to {params.path}: {error.strerror}; what was done was taken back, mend the disk or its rights and run again"
        ) from error
    finally:
        if progress.touches:
            progress.touches.close()
    return Evidence(
        progress.accounts, progress.watch.downtime, progress.watch.phases, progress.path_made, tuple(progress.warnings)
    )


@contextlib.contextmanager
def _made(params: Params, identity: Identity, progress: Progress) -> t.Iterator[None]:
    """Make the sessions path where it is missing; an error leaves none behind that was not there before."""
    progress.path_made = not os.path.lexists(params.path)
    try:
        make_directory(params.path, directory_bits(params.mode), uid=identity.uid, gid=identity.gid)
        yield
    except BaseException:
        if progress.path_made:
            remove_unused(params.path)
        raise


def _carry_out(area: int, steps: tuple[Step, ...], state: State, params: Params, progress: Progress) -> None:
    interrupted = is_interrupted(params.path)
    if interrupted:
        recover(area, state.unit, params.path)
    if (
        interrupted or entries_in(read_document_at(area, RECEIPT)) != state.receipts
    ):  # or another run ended since we looked
        state = observe(params)
        steps = planned(state, params)
        progress.accounts = state.survey.accounts
    names = {step.name for step in steps}
    if "unlock" in names:
        remove_locks(params.path, state.locked, state.survey.layout)
    if "stage" in names:
        _stage_live(area, state, params, progress)
    if names & {"publish", "companions", "switch", "restart"}:
        _cut_over(area, state, params, progress)
    else:
        _keep_up(area, state, params, names)
    if "retire" in names:
        _require_unused(params)
        retire(state.retirable, params.path)


def _keep_up(area: int, state: State, params: Params, names: t.Collection[str]) -> None:
    """What needs no interruption."""
    stale = "reload" in names
    if "before_stop" in names:
        stale = install_early(params.switch, state.switch)
    if stale:
        daemon_reload()
    if "remember" in names:
        _write_receipt(area, state, params, state.notes, (), ())
    if "tidy" in names:
        tidy(area, state.unit)


def _stage_of(area: int, state: State, params: Params) -> Stage:
    identity, layout = state.identity, state.survey.layout
    return Stage(
        area,
        layout,
        identity.uid,
        identity.gid,
        params.engine,
        params.checksum,
        stopped=state.unit is not None,
        with_caches=not params.exclude_caches,
        kept_free=kept_free(area),
    )


def _tasks(seen: Survey) -> list[Task]:
    parts_of = seen.layout.parts_of
    return [Task(account.root, account.name, account.label, parts_of(account.name)) for account in seen.to_publish]


def _stage_live(area: int, state: State, params: Params, progress: Progress) -> None:
    """Copy while the backend runs, again and again as long as less is left each time."""
    stage, tasks = _stage_of(area, state, params), _tasks(state.survey)
    if params.engine == "rename":
        return
    with progress.watch.phase("stage"):
        if not has_ample_room(stage, tasks):
            _require_space(area, need_of(stage, tasks), params.path)
        try:
            with _written_out_meanwhile(area):
                _copy_live(state, stage, tasks, progress)
        except BaseException:
            clear_staging(area)  # the disk may be full, and a backend is writing to it
            remove_tree(area, COMPANIONS)
            raise
        sync_filesystem(area)


@contextlib.contextmanager
def _written_out_meanwhile(area: int) -> t.Iterator[None]:
    """Let the disk write what is copied while more is being copied, instead of all of it at the end."""
    # A file description of its own: a failed write is told to each description once (errseq), and the run itself has to hear of it.
    disk = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=area)
    try:
        with meanwhile(lambda: sync_filesystem(disk), _WRITE_OUT_EVERY):
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
    """Copy, and copy again what changed meanwhile, while a round is long enough to leave much behind and leaves less each time."""
    copied = 0
    for number in range(at_most):
        begin = time.monotonic()
        figures = stage_live(stage, tasks, touches)
        yield figures
        if time.monotonic() - begin < _SHORT_ROUND or (number and figures.copied >= copied):
            return
        copied = figures.copied


def _require_space(area: int, need: Tally, path: str) -> None:
    disk = os.fstatvfs(area)
    size = need.bytes + need.files * disk.f_frsize
    if not has_room(disk, size, need.files):
        raise SessionsError(
            f"the disk of {path} has {disk.f_bavail * disk.f_frsize >> 20} MiB and {disk.f_favail} inodes free, "
            f"the accounts need {int(size * RESERVE) >> 20} MiB and {need.files} inodes; nothing was changed, free space and run again"
        )


def _require_nobody_holds(state: State) -> None:
    """Stop before anything happens when a process outside the unit works on the accounts: two writers tear them."""
    directories = directories_of(state.sources, state.survey.layout)
    control_group, main_pid = (state.unit.properties["ControlGroup"], state.unit.main_pid) if state.unit else ("", 0)
    found = holders(directories, control_group, main_pid) if directories else ()
    if found:
        named = ", ".join(f"PID {holder.pid} ({holder.command})" for holder in found[:5])
        raise SessionsError(
            f"processes outside the unit hold the legacy path: {named}; nothing was changed, stop them and run again"
        )


def _cut_over(area: int, state: State, params: Params, progress: Progress) -> None:
    """Everything between stop and start. On any error what was done is taken back before the backend starts again."""
    _require_nobody_holds(state)
    install_early(params.switch, state.switch)  # the guard has systemd read it
    if progress.touches:
        progress.touches.read()
    intent_path = f"{area_path(params.path)}/{INTENT}"
    holding = (
        stopped(state.unit, intent_path, params.unit_timeout, progress.watch)
        if state.unit
        else contextlib.nullcontext()
    )
    with watched_over(state.unit, intent_path, progress.watch) if state.unit else contextlib.nullcontext():
        try:
            with holding:
                try:
                    _publish_all(area, state, params, progress)
                except BaseException:
                    _take_back(area, state.unit, params.engine)
                    raise
            if state.unit is not None and state.unit.active:
                with progress.watch.phase("prove"):
                    progress.warnings.extend(_prove(state.unit.name, params))
        except StartFailed as error:
            if state.unit:
                _fall_back(intent_path, state.unit, params, str(error))
            raise
    try:
        tidy(area, None)
    except OSError as error:  # no reason to fail: the accounts are where they should be
        progress.warnings.append(f"cannot remove all staged copies: {error.strerror}; the next run removes them")


def _publish_all(area: int, before: State, params: Params, progress: Progress) -> None:
    """Decide again now that nobody writes, copy the difference, publish, write the receipt, switch, commit."""
    watch = progress.watch
    with watch.phase("decide"):
        state = surveyed_again(before, params)
        require_decided(state, params)
        progress.accounts = state.survey.accounts
    stage = _stage_of(area, state, params)
    with opened_directory(params.path) as path:
        place = Place(area, path, state.identity.uid, state.identity.gid)
        files = [*files_of(params.switch, state.switch), f"{area_path(params.path)}/{RECEIPT}"]
        with watch.phase("difference"):
            taking = _publish.taking_moves(place, _publications(state.survey)) if params.engine == "rename" else []
            if taking:
                _publish.announce(place, taking, files)
            marks = {account.name: account.legacy.mark for account in state.survey.to_publish}
            staged = stage_final(stage, _tasks(state.survey), told_by(progress.touches, stage, marks))
            progress.copied.add(staged.tally)
            state = _without_damaged(state, staged.damaged)
            progress.accounts = state.survey.accounts
            finish_companions(stage, state.survey.companions)
        publications = _publications(state.survey)
        companions = [companion.name for companion in state.survey.companions]
        with watch.phase("verify"):
            _require_same_states(area, state.survey)
        with watch.phase("durable"):
            sync_filesystem(area)
        with watch.phase("publish"):
            _dress_root(area, path, publications)
            _publish.make_folders(place, _publish.paths_of(publications, companions))
            publishing = [*_publish.publishing_moves(place, publications), *_publish.beside_moves(place, companions)]
            if params.tombstone:
                publishing += _publish.leaving_moves(place, publications, params.tombstone)
            intent = _publish.announce(place, [*taking, *publishing], files)
            _publish.note_displaced(place, publishing)
            _publish.carry_out(publishing)
            sync_filesystem(area)
    with watch.phase("record"):
        notes = with_switch(state.notes, params.switch, state.switch)
        _write_receipt(area, state, params, notes, publications, staged.damaged)
    with watch.phase("switch"):
        install(params.switch, state.switch)
    with watch.phase("record"):
        _publish.commit(area, intent)
    if state.unit is not None:
        with watch.phase("switch"):
            let_go(state.unit.name)
            daemon_reload()


def _publications(seen: Survey) -> list[Publication]:
    return [
        Publication(
            account.name,
            account.label,
            account.root,
            account.decision.displace or account.name == ".",
            seen.layout.parts_of(account.name),
        )
        for account in seen.to_publish
    ]


def _without_damaged(state: State, names: t.Collection[str]) -> State:
    """Leave accounts out whose databases turned out to be damaged; a backend is not sent to a path that has none of its accounts."""
    seen = state.survey.without_damaged(names)
    if names and not seen.to_publish and not seen.present:
        damaged = next(account for account in seen.accounts if account.name in names)
        raise SessionsError(
            f"the database of account {damaged.label!r} at {damaged.root} is damaged, and there is no other account; "
            "nothing was published, restore a backup of it or move it away and run again"
        )
    return state._replace(survey=seen)


def _dress_root(area: int, path: int, publications: t.Sequence[Publication]) -> None:
    """An account that takes the place of the sessions path itself also takes its mode."""
    if any(publication.name == "." for publication in publications):
        staged = open_staged(area, ".")
        try:
            os.fchmod(staged, os.fstat(path).st_mode & 0o777)
        finally:
            os.close(staged)


def _take_back(area: int, unit: Unit | None, engine: str) -> None:
    intent = read_document_at(area, INTENT)
    if intent:
        if intent.get("committed"):  # durably: who is killed from here on has to be taken back
            intent = {**intent, "committed": False}
            write_document_at(area, INTENT, intent)
        try:
            take_back(intent)
        except OSError as error:
            raise SessionsError(
                f"the migration failed, and not all of it could be taken back ({error.strerror}); "
                "mend the disk or its rights and run again, the next run takes back the rest first"
            ) from error
        finally:
            if unit is not None and intent["files"]:
                daemon_reload()
        require_all_taken_back(intent)
        remove_document_at(area, INTENT)
    if engine != "rename":  # whose staged accounts are no copies
        clear_staging(area)  # the disk may be full, and the backend is about to write to it


def _fall_back(intent_path: str, unit: Unit, params: Params, why: str) -> None:
    """The backend does not start on the sessions path: back to the legacy one, unless it already wrote to the accounts."""
    with guarded(unit, intent_path, params.unit_timeout, Stopwatch()):
        stop_now(unit.name, params.unit_timeout)
        try:
            gone_back = go_back(intent_path)
        except OSError as error:
            raise SessionsError(
                f"{why}; and not all could be taken back ({error.strerror}): mend the disk or its rights and run again"
            ) from error
        finally:
            daemon_reload()
        if not gone_back:
            raise SessionsError(
                f"{why}; it wrote to its accounts at {params.path} before, so they stay there: mend the unit and start it"
            )
    raise SessionsError(
        f"{why}; it runs on the legacy path again and nothing was lost: mend what keeps it from {params.path} and run again"
    )


def _require_same_states(area: int, seen: Survey) -> None:
    """Judge each staged copy as the original was judged, but for databases, which SQLite has checked: judging takes reading all of them."""
    for account in seen.to_publish:
        staged = open_staged(area, account.name)
        try:
            checked = bool(seen.layout.databases) and bool(store_names(staged, seen.layout))
            state = account.legacy.state if checked else seen.layout.judge(staged).state
        finally:
            os.close(staged)
        if state != account.legacy.state:
            raise SessionsError(
                f"the copy of account {account.label!r} is {state} while the original is {account.legacy.state}; "
                "nothing was published, run again"
            )


def _write_receipt(
    area: int,
    state: State,
    params: Params,
    notes: t.Mapping[str, t.Any],
    publications: t.Sequence[Publication],
    damaged: t.Collection[str],
) -> None:
    """Write down every account that is at the sessions path by now, with how both sides look, and those kept back as ``damaged``."""
    seen, written = state.survey, dict(state.receipts)
    published = {publication.name for publication in publications}
    with opened_directory(params.path) as root:
        for account in seen.accounts:
            if account.name in published or account.decision.adopt:
                # An adopted one is remembered as it was judged: what its backend wrote to it since is use.
                adopted = account.present if account.name not in published else None
                present = adopted.mark if adopted else _mark_at(root, account.name, seen)
                written[account_key(account.name)] = Entry(account.root, account.legacy.mark, present, time.time())
            elif account.name in damaged:
                mark = account.legacy.mark
                written[account_key(account.name)] = Entry(account.root, mark, mark, time.time(), damaged=True)
        document = {**document_of(params.path, written), "path_inode": os.fstat(root).st_ino, **notes}
    write_document_at(area, RECEIPT, document)


def _mark_at(root: int, name: str, seen: Survey) -> Mark:
    directory = open_account(root, name)
    try:
        return mark_with_parts(root, name, directory, seen.layout)
    finally:
        os.close(directory)


def _prove(unit: str, params: Params) -> tuple[str, ...]:
    """Wait until the main process is there and runs with the switch's values. Raises StartFailed when it does not.

    Returns a warning where systemd knows no main process, as of a unit whose program ends and leaves others behind.
    """
    deadline = time.monotonic() + min(params.unit_timeout, _PROVED_WITHIN)
    while True:
        now = read_unit(unit)
        if now.main_pid and not lacks_value(params.switch, now):
            return ()
        late = time.monotonic() > deadline
        if now.properties["SubState"] == "exited" or (late and now.active and not now.main_pid):
            return (f"systemd knows no main process of {unit}, so see that what it started uses {params.path}",)
        if late:
            raise StartFailed(
                f"{unit} was started, but its main process does not have the values of the switch, so something in between changes them"
            )
        time.sleep(0.05)


def _require_unused(params: Params) -> None:
    """Refuse to retire a legacy path that the backend still uses."""
    if params.unit is None:
        return
    unit = read_unit(params.unit)
    if unit.main_pid and not is_in_use(params.path, values_in_use(unit.main_pid)):
        raise SessionsError(
            f"{unit.name} does not run on {params.path} yet, so its legacy path stays; point it there (option 'switch') and run again"
        )
