# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Fills the staging area: the three engines, each in its own way, and the pass that all of them end in.

A staged account is a directory ``staging/<key>`` and an index ``staging/<key>.index`` that says which state of each source file the
copy was made from. The index counts only within one boot (it is not made durable before the copies are) and for one owner of the copies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import marshal
import os
import time
import typing as t

from ._area import DISPLACED, STAGING, moment, open_private
from ._command import run
from ._errors import SessionsError
from ._kernel import rename_new
from ._layouts import Layout, open_account
from ._paths import read_file_at
from ._receipts import Mark, account_key, mark_of
from ._rescue import open_real
from ._tree import Index, Rules, Tally, UnfitTree, bring_up_to_date, hand_over, measure, remove_tree
from ._workers import spread

ENGINES = ("native", "rsync", "rename")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RSYNC_HOURS = 6 * 3600.0
# Seconds. Filesystems that stamp with whole seconds tell only after two of them that a file was left alone, see _tree.py.
_SETTLING = 5.0
_GRAIN = 0.02


@dataclasses.dataclass(frozen=True)
class Task:
    """One account to stage: where it is (the real path of its root, and its name below it) and how to call it to people."""

    root: str
    name: str
    label: str


@dataclasses.dataclass(frozen=True)
class Stage:
    """Where and how to stage: the open area, the layout, owner of the copies, engine and whether copies are read back.

    ``stopped``: the final pass runs while a unit is held stopped. Without one nothing is known of who else may write.
    """

    area: int
    layout: Layout
    uid: int
    gid: int
    engine: str
    checksum: bool
    stopped: bool = False


def stage_live(stage: Stage, tasks: t.Sequence[Task]) -> Tally:
    """Copy each account while its backend may be writing; what it writes meanwhile is left for ``stage_final``."""
    if stage.engine == "rename":
        return Tally()
    return _in_all(stage, tasks, _stage_once)


def stage_final(stage: Stage, tasks: t.Sequence[Task]) -> Tally:
    """Bring each staged account up to date with a source that nobody writes to any more. Raises SessionsError when somebody does."""
    if stage.engine == "rename":
        return _in_all(stage, tasks, _take)
    return _in_all(stage, tasks, _stage_until_settled)


def need_of(stage: Stage, tasks: t.Sequence[Task]) -> Tally:
    """Measure what staging would copy beyond what is staged already: files and bytes of all accounts."""
    return _in_all(stage, tasks, _measure)


def is_staged(staging: int, name: str, mark: Mark) -> bool:
    """Whether the copy of the account ``name`` was made while it looked like ``mark``, in this boot."""
    content = read_file_at(staging, f"{account_key(name)}.mark", called="a mark")
    return content == _mark_document(mark)


def open_staged(area: int, name: str) -> int:
    """Open the staged copy of the account ``name``."""
    staging = open_private(area, STAGING, called="the staging area")
    try:
        return os.open(account_key(name), _DIRECTORY, dir_fd=staging)
    finally:
        os.close(staging)


def place_of(root: str, name: str) -> tuple[str, str]:
    """Return the directory that an account lies in, and its name there; an account called ``.`` is its root."""
    path = root if name == "." else f"{root}/{name}"
    folder, _mark, last = path.rpartition("/")
    return folder or "/", last


def forget_index(staging: int, name: str) -> None:
    """Remove what is known of the staged copy of the account ``name``."""
    for kind in ("index", "mark"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{account_key(name)}.{kind}", dir_fd=staging)


def clear_staging(area: int) -> None:
    """Remove everything staged."""
    staging = open_private(area, STAGING, called="the staging area")
    try:
        for name in os.listdir(staging):
            remove_tree(staging, name)
    finally:
        os.close(staging)


def _in_all(stage: Stage, tasks: t.Sequence[Task], work: t.Callable[[Stage, Task], Tally]) -> Tally:
    total = Tally()
    for figures in spread(lambda task: dataclasses.asdict(_named(stage, task, work)), tasks):
        total.add(Tally(**figures))
    return total


def _named(stage: Stage, task: Task, work: t.Callable[[Stage, Task], Tally]) -> Tally:
    """Do the work; an error says which account it is about and never which file."""
    try:
        return work(stage, task)
    except UnfitTree as error:
        raise SessionsError(
            f"cannot stage account {task.label!r} from {task.root}: {error}; nothing was published"
        ) from error
    except OSError as error:
        raise SessionsError(
            f"cannot stage account {task.label!r} from {task.root}: {error.strerror}; nothing was published"
        ) from error


def _stage_until_settled(stage: Stage, task: Task) -> Tally:
    total = last = _stage_once(stage, task)
    deadline = time.monotonic() + _SETTLING
    # A pass that copies nothing has seen all files as they were at one moment, whoever writes. Where nobody can, none is needed.
    while last.unsettled or (last.copied and not stage.stopped):
        if time.monotonic() > deadline:
            raise UnfitTree(
                "something still writes to it although its backend is stopped; find what it is (fuser, lsof) and stop it"
            )
        if last.unsettled:
            time.sleep(_GRAIN)  # a file stamped within the clock's grain settles on one of the next passes
        last = _stage_once(stage, task)
        total.unsettled = last.unsettled
        total.copied += last.copied
    return total


def _stage_once(stage: Stage, task: Task) -> Tally:
    root = open_real(task.root)
    try:
        source = open_account(root, task.name)
    finally:
        os.close(root)
    staging = open_private(stage.area, STAGING, called="the staging area")
    try:
        index, mark = _read_index(staging, task.name, stage), mark_of(source, stage.layout)
        target = _open_target(staging, task.name)
        try:
            if stage.engine == "rsync" and not index:
                _fill_by_rsync(source, target, stage, task)
            rules = Rules(
                stage.uid,
                stage.gid,
                frozenset((stage.uid, os.fstat(source).st_uid)),
                stage.layout.volatile_matcher,
                stage.checksum,
            )
            fresh, tally = bring_up_to_date(source, target, rules, index)
        finally:
            os.close(target)
        _write(staging, f"{account_key(task.name)}.index", marshal.dumps({**_valid_for(stage), "files": fresh}))
        _write(staging, f"{account_key(task.name)}.mark", _mark_document(mark))
        return tally
    finally:
        os.close(staging)
        os.close(source)


def _open_target(staging: int, name: str) -> int:
    # Nobody but root gets into the staging area, so whoever owns this directory by now, we made it.
    with contextlib.suppress(FileExistsError):
        os.mkdir(account_key(name), 0o700, dir_fd=staging)
    return os.open(account_key(name), _DIRECTORY, dir_fd=staging)


def _measure(stage: Stage, task: Task) -> Tally:
    root = open_real(task.root)
    try:
        source = open_account(root, task.name)
    finally:
        os.close(root)
    try:
        need = measure(source, stage.layout.volatile_matcher)
    finally:
        os.close(source)
    have = _measure_staged(stage, task)
    need.files, need.bytes = max(0, need.files - have.files), max(0, need.bytes - have.bytes)
    return need


def _measure_staged(stage: Stage, task: Task) -> Tally:
    try:
        staged = open_staged(stage.area, task.name)
    except FileNotFoundError:
        return Tally()
    try:
        return measure(staged, stage.layout.volatile_matcher)
    finally:
        os.close(staged)


def _take(stage: Stage, task: Task) -> Tally:
    """The engine 'rename': the account itself becomes the staged copy. Its owner is set once it is out of everybody's reach."""
    folder, name = place_of(task.root, task.name)
    staging = open_private(stage.area, STAGING, called="the staging area")
    parent = open_real(folder)
    try:
        _make_way(stage.area, staging, task.name)
        rename_new(parent, name, staging, account_key(task.name))
        target = open_staged(stage.area, task.name)
        try:
            rules = Rules(
                stage.uid,
                stage.gid,
                frozenset((stage.uid, os.fstat(target).st_uid)),
                stage.layout.volatile_matcher,
                stage.checksum,
            )
            return hand_over(target, rules)
        finally:
            os.close(target)
    finally:
        os.close(parent)
        os.close(staging)


def _make_way(area: int, staging: int, name: str) -> None:
    """Remove a copy that another engine made. What has no index might be more than a copy, so it is put aside."""
    key = account_key(name)
    if read_file_at(staging, f"{key}.index", at_most=1 << 30, called="an index") is not None:
        remove_tree(staging, key)
        forget_index(staging, name)
        return
    displaced = open_private(area, DISPLACED, called="the directory of displaced accounts")
    try:
        with contextlib.suppress(FileNotFoundError):
            rename_new(staging, key, displaced, f"{moment()}-{key[:16]}-staged")
    finally:
        os.close(displaced)


def _fill_by_rsync(source: int, target: int, stage: Stage, task: Task) -> None:
    """Let rsync copy, as the owner of the source where that is not root, so that nothing it follows can lead to a file of root.

    Both directories are handed over open: the owner could not enter the staging area, and nobody can swap what is open. The target is
    the working directory, because rsync 3.5.0 walks any other name of it from the root directory, which the owner may not.
    """
    owner = os.fstat(source)
    if owner.st_uid != 0 and os.geteuid() == 0:
        os.fchown(target, owner.st_uid, owner.st_gid)
    left_out = [f"--exclude={pattern}" for pattern in stage.layout.volatile]
    done = run(
        [
            *(
                "rsync",
                "--recursive",
                "--times",
                "--perms",
                "--delete",
                "--sparse",
                "--no-specials",
                "--no-devices",
                *left_out,
            ),
            *("--", f"/proc/self/fd/{source}/", "."),
        ],
        timeout=_RSYNC_HOURS,
        identity=(owner.st_uid, owner.st_gid) if owner.st_uid != 0 else None,
        pass_fds=(source,),
        directory=f"/proc/self/fd/{target}",
    )
    if os.geteuid() == 0:
        os.fchown(target, 0, 0)
    if done.rc not in (
        0,
        23,
        24,
    ):  # 23, 24: files that vanished or could not be read; the pass that follows settles them, or says why not
        raise SessionsError(
            f"rsync ended with {done.rc} for account {task.label!r}; nothing was published, use the engine 'native'"
        )


@functools.cache
def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _valid_for(stage: Stage) -> dict[str, t.Any]:
    return {"boot": _boot(), "owner": [stage.uid, stage.gid], "layout": stage.layout.name}


def _read_index(staging: int, name: str, stage: Stage) -> Index:
    """Read what a pass of this boot wrote. marshal, because it is read while the backend is down and is five times faster than JSON."""
    content = read_file_at(staging, f"{account_key(name)}.index", at_most=1 << 30, called="an index")
    try:
        document = marshal.loads(content) if content else {}
        index: Index = document.pop("files", {})
    except (ValueError, EOFError, TypeError):
        return {}  # a run was killed while it wrote it, or another Python did
    return index if document == _valid_for(stage) else {}


def _mark_document(mark: Mark) -> bytes:
    return json.dumps({"boot": _boot(), "mark": dataclasses.asdict(mark)}, sort_keys=True).encode()


def _write(staging: int, name: str, content: bytes) -> None:
    """Write without fsync: the boot's name in it makes it worthless after a power cut, when the copies may be too."""
    descriptor = os.open(
        f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=staging
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.rename(f"{name}.new", name, src_dir_fd=staging, dst_dir_fd=staging)
