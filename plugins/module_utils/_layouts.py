# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The one table of session layouts: how each library keeps accounts on disk, and how to tell a sound one from a broken one.

Adding a library is adding one entry to ``LAYOUTS``. Everything else (discovery, counting, judging, exclusions, stop settings)
reads the entry. Nothing here returns, raises or logs anything that was read from a file, nor a file name from inside an account.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import hashlib
import json
import os
import re
import stat
import typing as t

from ._errors import SessionsError
from ._paths import read_file_at

# Our own directory inside a sessions path that is a mount of its own (see _area.py): never an account.
AREA_INSIDE = ".whatsapp-ops"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREDENTIALS_AT_MOST = 16 << 20  # bytes; real ones are 1 to 50 kB


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What the structure of an account says: ``state`` is paired, pending, fresh or corrupt; ``problems`` are fixed words.

    ``fingerprint`` is equal for two copies of one linked device, empty where it is not linked. It never leaves the host.
    """

    state: str
    problems: tuple[str, ...] = ()
    fingerprint: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True)
class StopSettings:
    """How a backend of this layout wants to be stopped. ``timeout`` in seconds, never lowered where the unit has more."""

    signal: str
    timeout: int
    mode: str | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """One library's way to keep accounts.

    ``is_account``: does this open directory hold an account? ``judge``: what is its state? ``is_locked``: does a
    lock of the library say that a process uses it? ``watched``: the files whose change, together
    with the directory's own times, shows that the account was used. ``legacy_names``: where backends put the root by default,
    relative to their working directory. ``volatile``: names never copied (locks, sockets, half-written files). ``counted``: the marker
    that the plain count looks for. ``depth``: how many directories below the root an account may lie.
    """

    name: str
    title: str
    is_account: t.Callable[[int], bool]
    judge: t.Callable[[int], Judgement]
    is_locked: t.Callable[[int], bool]
    watched: tuple[str, ...]
    counted: str
    legacy_names: tuple[str, ...]
    volatile: tuple[str, ...]
    beside: tuple[str, ...]
    depth: int
    stop: StopSettings

    @property
    def volatile_matcher(self) -> t.Callable[[str], t.Any]:
        """The test whether an entry of some name must never be copied, for loops."""
        return _matcher(self.volatile)

    def is_volatile(self, name: str) -> bool:
        """Whether an entry called ``name`` must never be copied."""
        return self.volatile_matcher(name) is not None


@functools.cache
def _matcher(patterns: tuple[str, ...]) -> t.Callable[[str], t.Any]:
    """Compile name patterns into one: asked for every file of an account while its backend is down."""
    return re.compile("|".join(map(fnmatch.translate, patterns)) or r"(?!)").match


def layout_named(name: str) -> Layout:
    """Return the table's entry ``name``; raise SessionsError naming what there is."""
    try:
        return LAYOUTS[name]
    except KeyError as error:
        raise SessionsError(f"the layout {name!r} is not known; choose one of {', '.join(LAYOUTS)}") from error


def recognised(root: int, name: str) -> Layout:
    """Return the layout of the accounts below the open directory ``root``; ``name`` is an entry's name or ``auto``.

    Where nothing is found the first entry is returned: an empty root fits every layout.
    """
    if name != "auto":
        return layout_named(name)
    fitting = [layout for layout in LAYOUTS.values() if next(account_names(root, layout), None) is not None]
    if len(fitting) > 1:
        raise SessionsError(
            f"the sessions fit more than one layout ({', '.join(layout.name for layout in fitting)}); name one in 'layout'"
        )
    return fitting[0] if fitting else next(iter(LAYOUTS.values()))


def account_names(root: int, layout: Layout) -> t.Iterator[str]:
    """Yield the accounts below the open directory ``root`` as relative paths, sorted; ``.`` when the root itself is one."""
    if layout.is_account(root):
        yield "."
    yield from _names_below(root, layout, "", layout.depth)


def companions(root: int, layout: Layout) -> t.Iterator[str]:
    """Yield the other entries of the root, sorted: what a backend keeps beside its accounts and what travels with them as it is."""
    if layout.is_account(root):
        return
    accounts = {name.partition("/")[0] for name in account_names(root, layout)}
    for name in sorted(os.listdir(root)):
        if name not in accounts and name != AREA_INSIDE and name not in layout.beside and not layout.is_volatile(name):
            yield name


def open_account(root: int, account: str) -> int:
    """Return a descriptor of an account's directory; no component may be a link. Raises OSError when it is not there."""
    here = os.open(".", _DIRECTORY, dir_fd=root)
    for part in account.split("/"):
        try:
            below = os.open(part, _DIRECTORY, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


def plain_count(root: int, layout: Layout) -> int:
    """Count the marker files as ``find -maxdepth 3 -name`` does: whatever they are, wherever they lie. A number, not a proof."""
    trusted = os.fstat(root).st_dev if _counts_links(root) else None
    return _counted(root, layout.counted, 3, trusted)


def _counts_links(directory: int) -> bool:
    """Whether the filesystem counts each directory below as a link, as ext4, XFS and tmpfs do; btrfs says 1, CIFS 2 whatever there is."""
    with os.scandir(directory) as entries:
        folders = sum(entry.is_dir(follow_symlinks=False) for entry in entries)
    return folders > 0 and os.fstat(directory).st_nlink == 2 + folders


def _counted(directory: int, pattern: str, depth: int, trusted: int | None) -> int:
    # A directory with two links has no directory below it, find's own leaf rule: asking for one name then beats listing thousands.
    status = os.fstat(directory)
    if status.st_dev == trusted and status.st_nlink == 2 and not any(character in pattern for character in "*?["):
        return int(_exists(directory, pattern))
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            total += fnmatch.fnmatchcase(entry.name, pattern)
            if depth > 1 and entry.is_dir(follow_symlinks=False):
                total += _counted_below(directory, entry.name, pattern, depth - 1, trusted)
    return total


def _counted_below(directory: int, name: str, pattern: str, depth: int, trusted: int | None) -> int:
    try:
        below = os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError:
        return 0  # gone or swapped since it was listed: find says nothing of it either
    try:
        return _counted(below, pattern, depth, trusted)
    finally:
        os.close(below)


def _names_below(root: int, layout: Layout, prefix: str, depth: int) -> t.Iterator[str]:
    if depth == 0:
        return
    with os.scandir(root) as entries:
        folders = sorted(
            entry.name for entry in entries if entry.name != AREA_INSIDE and entry.is_dir(follow_symlinks=False)
        )
    for name in folders:
        if not prefix and name in layout.beside:
            continue
        try:
            below = os.open(name, _DIRECTORY, dir_fd=root)
        except PermissionError:
            raise  # whoever may not look must not be told that there is nothing
        except OSError:
            continue  # gone or swapped since it was listed
        try:
            if layout.is_account(below):
                yield prefix + name
            else:
                yield from _names_below(below, layout, f"{prefix}{name}/", depth - 1)
        finally:
            os.close(below)


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


# Baileys, useMultiFileAuthState: one flat directory of <category>-<id>.json files and creds.json (facts read in its sources).
_BAILEYS_KEY = re.compile(
    r"(pre-key|session|sender-key|sender-key-memory|app-state-sync-key|app-state-sync-version|lid-mapping|device-list|tctoken|identity-key)-.+\.json"
)
_PRE_KEYS_AT_MOST = 1 << 24  # their numbers have three bytes in the Signal protocol
_BAILEYS_PARTS = ("noiseKey", "signedIdentityKey", "signedPreKey", "registrationId", "advSecretKey")


def _is_baileys(directory: int) -> bool:
    return _exists(directory, "creds.json") or _has_baileys_key(directory)


def _has_baileys_key(directory: int) -> bool:
    with os.scandir(directory) as entries:
        return any(_BAILEYS_KEY.fullmatch(entry.name) for entry in entries)


def _judge_baileys(directory: int) -> Judgement:
    try:
        status = os.stat("creds.json", dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return Judgement("corrupt", ("credentials_missing",))
    broken = _unfit(status, os.fstat(directory))
    if broken:
        return Judgement("corrupt", broken)
    try:
        content = read_file_at(directory, "creds.json", at_most=_CREDENTIALS_AT_MOST, called="the credentials")
        credentials = json.loads(content or b"")
    except SessionsError:
        return Judgement("corrupt", ("credentials_unreadable",))
    except (ValueError, RecursionError):
        return Judgement("corrupt", ("credentials_not_json",))
    if not isinstance(credentials, dict):
        return Judgement("corrupt", ("credentials_not_json",))
    return _judge_baileys_credentials(credentials, directory, _weak(status, os.fstat(directory)))


def _judge_baileys_credentials(
    credentials: t.Mapping[str, t.Any], directory: int, weaknesses: tuple[str, ...]
) -> Judgement:
    # `registered` stays false after a QR login, so it says nothing; `me` alone is set as soon as a pairing code is asked for.
    me = credentials.get("me")
    if not me:
        return Judgement("fresh", weaknesses)
    if not credentials.get("account"):
        return Judgement("pending", weaknesses)
    if (
        not isinstance(me, dict)
        or not me.get("id")
        or any(credentials.get(part) in (None, "", {}) for part in _BAILEYS_PARTS)
    ):
        return Judgement("corrupt", ("credentials_incomplete", *weaknesses))
    if not _exists(
        directory, f"pre-key-{_number_before(credentials.get('nextPreKeyId'))}.json"
    ) and not _has_baileys_key(directory):
        return Judgement("corrupt", ("keys_missing", *weaknesses))
    return Judgement("paired", weaknesses, hashlib.sha256(str(me["id"]).encode("utf-8", "surrogatepass")).hexdigest())


def _never_locked(directory: int) -> bool:
    """The library makes no lock: its mutexes live inside one process."""
    return False


def _number_before(number: t.Any) -> int:
    return number - 1 if isinstance(number, int) and 0 < number < _PRE_KEYS_AT_MOST else 0


def _unfit(status: os.stat_result, directory: os.stat_result) -> tuple[str, ...]:
    """Name what makes a credentials file useless before it is opened."""
    if not stat.S_ISREG(status.st_mode):
        return ("credentials_not_a_file",)
    if status.st_size == 0:
        return ("credentials_empty",)
    if not _owner_may_read(status, directory):
        return ("credentials_unreadable_by_owner",)
    return ()


def _owner_may_read(status: os.stat_result, directory: os.stat_result) -> bool:
    """Whether the owner of the account's directory, who is taken for the backend's user, may read the file."""
    if directory.st_uid == 0:
        return True
    if status.st_uid == directory.st_uid:
        return bool(status.st_mode & stat.S_IRUSR)
    if status.st_gid == directory.st_gid and status.st_mode & stat.S_IRGRP:
        return True
    return bool(status.st_mode & stat.S_IROTH)


def _weak(status: os.stat_result, directory: os.stat_result) -> tuple[str, ...]:
    """Name what will go wrong later.

    A foreign owner makes each save fail, a wide mode shows the keys to everybody, and a second name is no backup: libraries write in place.
    """
    found = []
    if status.st_nlink > 1:
        found.append("credentials_hard_linked")
    if status.st_uid != directory.st_uid:
        found.append("credentials_foreign_owner")
    if status.st_mode & stat.S_IROTH and directory.st_mode & stat.S_IXOTH:
        found.append("readable_by_everybody")
    return tuple(found)


LAYOUTS: t.Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            name="baileys",
            title="Baileys (useMultiFileAuthState)",
            is_account=_is_baileys,
            judge=_judge_baileys,
            is_locked=_never_locked,
            watched=("creds.json",),
            counted="creds.json",
            legacy_names=(
                ".baileys_auth",
                "auth_info_baileys",
                "baileys_auth_info",
                "auth_info",
                "sessions",
                "store/auth",
            ),
            volatile=("*.tmp", ".write-test", "*.lock"),
            beside=("lost+found", "_orphaned", "media", "statics"),
            depth=2,
            # seed 000: the backend flushes on SIGINT, which itself takes up to 30 s, so 30 s would cut it off.
            stop=StopSettings(signal="SIGINT", timeout=45),
        ),
    )
}
