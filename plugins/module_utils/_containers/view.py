# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Find where the program in a running container keeps accounts, and where that is on the host: on a mount or in the container's own layer.

The search covers the places where the program would look: its environment, its working directory, the surroundings of its open files, and
the mounts, each path as the container sees it. Root in the container controls what is there, so symbolic links are resolved only inside the
container (process_view.py), and no link is followed to reach the result on the host.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
import time
import typing as t

from .._core.errors import SessionsError
from .._core.masking import masked
from .._fs.fdopen import DirFd, following_no_link, is_folder, opened_below
from .._fs.patterns import paths_matching
from .._layouts.layout import Layout
from .._layouts.registry import LAYOUTS, names_of_any, recognised
from .._layouts.search import account_names
from .._proc.control_groups import group_of, processes_of
from .._proc.process_view import Inode, View, inode_of
from .._proc.procfs import NOT_OF_THE_BACKEND, environment_of
from .command_lines import same_or_below
from .inspect import Box

MOUNT, ANONYMOUS, LAYER, UNREACHABLE = "mount", "anonymous", "layer", "unreachable"

_PROCESSES_AT_MOST = 64
_CANDIDATES_AT_MOST = 4000
_FOUND_AT_MOST = 100
_SECONDS = 20.0
_ENTRIES_AT_MOST = 10_000
# Variables that images and engines set: the home directory of a user does not show where sessions are kept.
_NOT_OF_THE_BACKEND = NOT_OF_THE_BACKEND | {"container"}
_LOOKED_AT_MOST = 1_000_000
_DEEPEST = 64
_NUMBER = re.compile(r"[0-9]")  # a name with a phone number has digits
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Root(t.NamedTuple):
    """A directory with accounts. ``inside``: its path in the container, free of links. ``kind``: its storage. ``path``: where it is on the
    host, '' if root cannot access it. ``inode``: the directory that the container sees. ``holds_program``: whether it contains the working
    directory of a process. ``owner``: uid and gid of its first account. ``whole``: whether it is an account itself.
    """

    inside: str
    kind: str
    path: str
    inode: Inode
    holds_program: bool
    owner: tuple[int, int]
    whole: bool = False

    @property
    def there(self) -> str:
        """Its path in the container, with account names masked."""
        return self._shown(self.inside)

    @property
    def on_host(self) -> str:
        """Its path on the host, with account names masked."""
        return self._shown(self.path)

    def _shown(self, path: str) -> str:
        """Mask an account that may be named after a phone number, unless the name is a default of its library."""
        folder, slash, name = path.rpartition("/")
        own = any(name in layout.legacy_names for layout in LAYOUTS.values())
        return f"{folder}{slash}{masked(name)}" if self.whole and not own and _NUMBER.search(name) else path


def payload_groups(box: Box) -> tuple[str, ...]:
    """Return the control groups of a running container. Raises SessionsError if its processes cannot be distinguished from others."""
    group = group_of(box.pid)
    before, found, rest = group.partition(box.id)
    if not found:
        raise SessionsError(
            f"the container {box.name} has no control group of its own, so its processes cannot be distinguished from others; nothing was "
            f"changed, run it without options that change its control group (--cgroups=disabled, --cgroupns)"
        )
    # An init system in the container is itself in one of the groups that it creates below the container's group.
    return (f"{before}{found}{rest.partition('/')[0]}",)


def roots_of(box: Box, layout: Layout | None) -> tuple[Root, ...]:
    """Return the directories with accounts that the processes of a running container may use, likely ones first.

    A directory that contains the program itself does not count, however many accounts are below it; it is searched only if nothing else is
    found. Symbolic links in place of an account are not followed, because they would be resolved on the host.
    """
    with following_no_link():
        return _found(box, layout)


def _found(box: Box, layout: Layout | None) -> tuple[Root, ...]:
    look = _Look(box, layout, time.monotonic() + _SECONDS)
    layouts = tuple(LAYOUTS.values()) if layout is None else (layout,)
    working: dict[str, None] = {}
    for pid in sorted(processes_of(payload_groups(box)).pids)[:_PROCESSES_AT_MOST]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), View(pid) as view:
            for candidate in _candidates(view, box, layouts):
                look.at(view, candidate)
            working[os.readlink(f"/proc/{pid}/cwd")] = None
    if not look.found:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), View(box.pid) as view:
            for directory in working:
                for candidate in _below(view, directory, layout):
                    look.at(view, candidate)
    roots = look.found.values()
    return tuple(
        root
        for root in roots
        if not any(other.inside != root.inside and same_or_below(root.inside, other.inside) for other in roots)
    )


class _Look:
    """The roots found so far. Each directory is checked once, and none after the deadline."""

    def __init__(self, box: Box, layout: Layout | None, deadline: float) -> None:
        self.box, self.layout, self.deadline = box, layout, deadline
        self.found: dict[str, Root] = {}
        self._seen: set[str] = set()

    def at(self, view: View, candidate: str) -> None:
        """Check one directory."""
        if candidate in self._seen or len(self._seen) > _CANDIDATES_AT_MOST or time.monotonic() > self.deadline:
            return
        self._seen.add(candidate)
        root = _root_at(view, self.box, candidate, self.layout)
        if root is not None:
            self.found.setdefault(root.inside, root)


def inode_inside(box: Box, path: str) -> Inode | None:
    """Return the inode that ``path`` leads to in a running container; None if there is none."""
    try:
        with View(box.pid) as view:
            return view.inode(path)
    except OSError:
        return None


def sees(box: Box, wanted: Inode, host_path: str) -> str:
    """Return where a running container sees a directory of the host through one of its mounts; '' if it does not."""
    for mount in box.mounts:
        source = os.path.realpath(mount.source) if mount.source else ""
        if source and same_or_below(host_path, source):
            inside = os.path.normpath(f"{mount.destination}/{host_path[len(source) :]}")
            if inode_inside(box, inside) == wanted:
                return inside
    return ""


def payload_owner(box: Box) -> tuple[int, int] | None:
    """Return the host's uid and gid of the container's first process."""
    try:
        status = os.stat(f"/proc/{box.pid}")
    except OSError:
        return None
    return status.st_uid, status.st_gid


def host_directory(box: Box, inside: str, inode: Inode, mount_point: str) -> tuple[str, str]:
    """Return the kind of storage of a directory in the container, and its path on the host."""
    if mount_point == "/":
        path = f"{os.path.realpath(box.upper)}{inside}" if box.upper else ""
        return (LAYER, path) if path and is_plain_directory(path) else (UNREACHABLE, "")
    for mount in box.mounts:
        if mount.kind in ("bind", "volume") and os.path.normpath(mount.destination) == mount_point:
            # Symbolic links to the mount's source belong to the host. The inode proves that the container sees the same directory.
            path = os.path.normpath(f"{os.path.realpath(mount.source)}/{inside[len(mount_point) :]}")
            if is_plain_directory(path) and _inode_of(path) == inode:
                return (MOUNT if mount.lasting else ANONYMOUS), path
    return UNREACHABLE, ""


def image_has_files(box: Box, inside: str) -> bool:
    """Return whether the image contains files below a directory: then the layer alone is not all that the program sees there."""
    for lower in box.lowers:
        with contextlib.suppress(OSError), opened_plain(f"{os.path.realpath(lower)}{inside}") as directory:
            if _has_file(directory, [_ENTRIES_AT_MOST]):
                return True
    return False


def is_plain_directory(path: str) -> bool:
    """Return whether a directory exists at ``path`` without symbolic links on the way."""
    try:
        with opened_plain(path):
            return True
    except OSError:
        return False


def is_same_tree(one: DirFd, other: DirFd) -> bool:
    """Return whether two open directories hold the same files and directories, by name, type and size.

    Raises SessionsError if the comparison takes too long, or if something is mounted below one of them.
    """
    devices = os.fstat(one).st_dev, os.fstat(other).st_dev
    return _is_same(one, other, devices, [_LOOKED_AT_MOST], time.monotonic() + _SECONDS, _DEEPEST)


def _is_same(one: DirFd, other: DirFd, devices: tuple[int, int], left: list[int], deadline: float, levels: int) -> bool:
    if not levels:
        raise SessionsError("an account has directories nested deeper than any library creates; check what they are")
    if (os.fstat(one).st_dev, os.fstat(other).st_dev) != devices:
        raise SessionsError("something is mounted below the directory of accounts in the container")
    looks = _looks_in(one, left, deadline)
    if looks != _looks_in(other, left, deadline):
        return False
    for name in (name for name, (kind, _size) in looks.items() if kind == stat.S_IFDIR):
        with opened_below(one, name) as first, opened_below(other, name) as second:
            if not _is_same(first, second, devices, left, deadline, levels - 1):
                return False
    return True


def _looks_in(directory: DirFd, left: list[int], deadline: float) -> dict[str, tuple[int, int]]:
    """Return type and size of each entry of an open directory; the size is 0 unless it is a file."""
    found: dict[str, tuple[int, int]] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            left[0] -= 1
            if left[0] < 0 or time.monotonic() > deadline:
                raise SessionsError(
                    "the accounts have more files than can be checked while the container is suspended; check what they are"
                )
            status = entry.stat(follow_symlinks=False)
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            found[entry.name] = (stat.S_IFMT(status.st_mode), size)
    return found


def _root_at(view: View, box: Box, candidate: str, layout: Layout | None) -> Root | None:
    try:
        with view.opened(candidate) as looked_at:
            if not stat.S_ISDIR(os.fstat(looked_at).st_mode):
                return None
            inside = os.readlink(f"/proc/self/fd/{looked_at}")
            # This path leads to the same directory, proc_pid_fd(5).
            directory = DirFd(os.open(f"/proc/self/fd/{looked_at}", _DIRECTORY))
        try:
            working = os.readlink(f"/proc/{view.pid}/cwd")
            holds_program = inside == "/" or not inside.startswith("/") or same_or_below(working, inside)
            if holds_program and not _is_application(directory, layout):
                return None
            name = next(iter(names_of_any(directory, layout)), None)
            if name is None:
                return None
            with opened_below(directory, name) as account:
                owner = os.fstat(account)
            inode = inode_of(directory)
        finally:
            os.close(directory)
        mount_point = _mount_point(view, inside)
    except (OSError, ValueError, SessionsError):
        return None
    kind, path = host_directory(box, inside, inode, mount_point)
    return Root(inside, kind, path, inode, same_or_below(working, inside), (owner.st_uid, owner.st_gid), name == ".")


def _is_application(directory: DirFd, layout: Layout | None) -> bool:
    """Return whether a directory has accounts in folders of its library, or with names that only that library uses."""
    fitting = recognised(directory, layout)
    told = fitting.companions is not None and "*" not in fitting.names
    told = told or any(is_folder(directory, folder) for folder in fitting.folders)
    return told and next(account_names(directory, fitting), None) is not None


def _below(view: View, directory: str, layout: Layout | None) -> list[str]:
    """Return the directories with accounts below a program's working directory; an account directly in it counts by itself."""
    try:
        with view.opened(directory) as looked_at:
            opened = DirFd(os.open(f"/proc/self/fd/{looked_at}", _DIRECTORY))
    except OSError:
        return []
    try:
        names = itertools.islice(names_of_any(opened, layout), _FOUND_AT_MOST)
        return list(dict.fromkeys(os.path.join(directory, os.path.dirname(name) or name) for name in names))
    finally:
        os.close(opened)


def _mount_point(view: View, inside: str) -> str:
    """Return the mount point that a path is on."""
    points = [mount.mount_point for mount in view.mounts().values() if same_or_below(inside, mount.mount_point)]
    return max(points, key=len, default="/")


def _candidates(view: View, box: Box, layouts: t.Sequence[Layout]) -> t.Iterator[str]:
    try:
        working = os.readlink(f"/proc/{view.pid}/cwd")
        items = environment_of(view.pid)
    except OSError:
        return
    for value in sorted(value for name, value in items if value and name not in _NOT_OF_THE_BACKEND):
        if len(value) < 1024:
            yield os.path.normpath(os.path.join(working, value))
            scheme, mark, rest = value.partition(":")
            if mark and scheme in ("file", "sqlite", "sqlite3"):
                yield os.path.normpath(
                    os.path.join(working, os.path.dirname(rest.partition("?")[0].lstrip("/")) or ".")
                )
                yield os.path.normpath(os.path.dirname("/" + rest.partition("?")[0].lstrip("/")))
    yield working
    for layout in layouts:
        yield from _default_roots(view, working, layout)
    yield from _around_open_files(view.pid)
    for mount in box.mounts:
        if mount.kind in ("bind", "volume") and mount.writable:
            yield os.path.normpath(mount.destination)
            for layout in layouts:
                yield from _default_roots(view, mount.destination, layout)


def _default_roots(view: View, directory: str, layout: Layout) -> t.Iterator[str]:
    for name in layout.legacy_names:
        if "*" not in name:
            yield os.path.normpath(os.path.join(directory, name))
            continue
        with contextlib.suppress(OSError, SessionsError), view.opened(directory) as looked_at:
            opened = DirFd(os.open(f"/proc/self/fd/{looked_at}", _DIRECTORY))
            try:
                yield from [os.path.join(directory, found) for found in paths_matching(opened, (name,))]
            finally:
                os.close(opened)


def _around_open_files(pid: int) -> t.Iterator[str]:
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for number in numbers[:_CANDIDATES_AT_MOST]:
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/{pid}/fd/{number}")
            if path.startswith("/") and not path.startswith(("/dev/", "/proc/", "/sys/")):
                yield os.path.dirname(os.path.dirname(path)) or "/"
                yield os.path.dirname(path)


@contextlib.contextmanager
def opened_plain(path: str) -> t.Iterator[DirFd]:
    """Open a directory without following any symbolic link: root of a container can create links in its storage."""
    root = DirFd(os.open("/", _DIRECTORY))
    try:
        with opened_below(root, path.strip("/")) as directory:
            yield directory
    finally:
        os.close(root)


def _inode_of(path: str) -> Inode:
    status = os.stat(path, follow_symlinks=False)
    return status.st_dev, status.st_ino


def _has_file(directory: DirFd, left: list[int], levels: int = _DEEPEST) -> bool:
    if not levels:
        return True
    with os.scandir(directory) as entries:
        for entry in entries:
            left[0] -= 1
            if left[0] < 0 or not entry.is_dir(follow_symlinks=False):
                return True
            with opened_below(directory, entry.name) as below:
                if _has_file(below, left, levels - 1):
                    return True
    return False
