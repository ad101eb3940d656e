# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Gives directory trees to another user where they are, by descriptor, and checks before whether that is allowed.

The owner of a tree may change it while root walks it: links are never followed, and no file with another hard link changes hands.
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from .copy_file import Rules, UnfitTree, apply_metadata, require_open, require_own, require_time
from .fdopen import OPEN_DIRECTORY, READ_FLAGS, DirFd
from .walk_tree import Names, Tally, names_below, require_depth_and_device

_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX

Fit = t.Callable[[os.stat_result, Rules], None]


def require_fit(source: DirFd, rules: Rules, fit: Fit = require_own) -> None:
    """Raise UnfitTree if sync_tree would, from names, owners and modes only; nothing is copied.

    ``fit``: the check for each file; with ``require_may_change_hands`` this raises what chown_tree would raise.
    """
    _Check(rules, fit, os.fstat(source).st_dev).below(source, "", 0)


def require_entry_fit(directory: DirFd, name: str, rules: Rules, fit: Fit = require_own) -> None:
    """Like require_fit, for one entry, a file or a directory, of an open directory."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        below = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=directory))
        try:
            require_fit(below, rules, fit)
        finally:
            os.close(below)
    elif stat.S_ISREG(status.st_mode):
        fit(status, rules)


def require_may_change_hands(status: os.stat_result, rules: Rules) -> None:
    """Raise UnfitTree unless the file may be given to ``rules.uid`` and ``rules.gid`` where it is."""
    require_own(status, rules)
    if (status.st_uid, status.st_gid) != (rules.uid, rules.gid) and status.st_nlink > 1:
        raise UnfitTree(
            "it contains a file with another hard link, so its owner must not be changed; use the engine 'native'"
        )


class _Check:
    """Checks one tree: the same rules for all of its files, and one count of its names."""

    def __init__(self, rules: Rules, fit: Fit, device: int) -> None:
        self.rules, self.fit, self.device = rules, fit, device
        self.names = Names()

    def below(self, directory: DirFd, place: str, depth: int) -> None:
        """Check what is in an open directory; ``place``: its relative path, with a slash at the end."""
        status = os.fstat(directory)
        require_depth_and_device(status, depth, self.device)
        require_open(status, self.rules)
        for name in names_below(directory, self.names):
            if self.rules.is_volatile(name) or (self.rules.is_cache and self.rules.is_cache(place + name)):
                continue
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # a running backend removed it meanwhile
                self._entry(directory, name, place, depth)

    def _entry(self, directory: DirFd, name: str, place: str, depth: int) -> None:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            self.fit(found, self.rules)
        elif stat.S_ISDIR(found.st_mode):
            below = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=directory))
            try:
                self.below(below, f"{place}{name}/", depth + 1)
            finally:
                os.close(below)


def hand_over_entry(directory: DirFd, name: str, rules: Rules) -> Tally:
    """Like chown_tree, for one entry, a file or a directory, of an open directory."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        below = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=directory))
        try:
            return chown_tree(below, rules)
        finally:
            os.close(below)
    require_own(found, rules)
    _hand_over_file(directory, name, rules)
    return Tally(files=1, bytes=found.st_size)


def chown_tree(directory: DirFd, rules: Rules) -> Tally:
    """Give a whole tree to ``rules.uid`` and ``rules.gid`` in place. Raises UnfitTree for a file with other hard links."""
    tally = Tally()
    _hand_over(directory, rules, tally, 0, os.fstat(directory).st_dev, Names())
    return tally


def _hand_over(directory: DirFd, rules: Rules, tally: Tally, depth: int, device: int, names: Names) -> None:
    status = os.fstat(directory)
    require_depth_and_device(status, depth, device)
    require_open(status, rules)
    for name in names_below(directory, names):
        require_time(rules.until)
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            below = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=directory))
            try:
                _hand_over(below, rules, tally, depth + 1, device, names)
            finally:
                os.close(below)
        elif stat.S_ISREG(found.st_mode) and not rules.is_volatile(name):
            tally.files += 1
            tally.bytes += found.st_size
            require_own(found, rules)
            if (found.st_uid, found.st_gid) != (rules.uid, rules.gid) or found.st_mode & _SPECIAL_BITS:
                _hand_over_file(directory, name, rules)
        else:
            os.unlink(name, dir_fd=directory)  # locks, sockets and links are no part of an account
            tally.left_out += 1
    apply_metadata(directory, status, rules)


def _hand_over_file(directory: DirFd, name: str, rules: Rules) -> None:
    descriptor = os.open(name, READ_FLAGS, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnfitTree("a file was replaced while its owner was being changed; find out what replaces it")
        require_may_change_hands(status, rules)
        if os.geteuid() == 0:
            os.fchown(descriptor, rules.uid, rules.gid)
        if (
            status.st_mode & _SPECIAL_BITS
        ):  # neither call changes the mtime, so the rest of apply_metadata is not needed
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o777)
    finally:
        os.close(descriptor)
