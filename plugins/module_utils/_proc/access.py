# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Find out what another user can really do on this host, by trying it in a child process that has given up root for good."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import secrets
import typing as t

from .._core.errors import SessionsError
from .._core.limits import AS_USER_SECONDS
from .._fs.users import Identity
from .bounded_child import PastLimit, answer_of, harden, leave_open, limit

# Enough for a few system calls. The number of processes is not limited: that limit would count all processes of the user.
_LIMITS = {resource.RLIMIT_CPU: int(AS_USER_SECONDS), resource.RLIMIT_FSIZE: 4096}


def may_become(identity: Identity) -> bool:
    """Return whether this process can act as ``identity``: root can become any user, other users only themselves."""
    return os.geteuid() in (0, identity.uid)


def first_closed(identity: Identity, directories: t.Sequence[str], groups: t.Sequence[int] = ()) -> str | None:
    """Return the first of ``directories`` that ``identity`` cannot enter, or None. ``groups``: additional gids it runs with."""
    return (
        _asked(identity, groups, lambda: next((path for path in directories if not os.access(path, os.X_OK)), ""))
        or None
    )


def why_not_writable(identity: Identity, directory: str, groups: t.Sequence[int] = ()) -> str | None:
    """Write a real file in ``directory`` as ``identity``; return the system's error message if that fails, or None.

    Where the filesystem supports it (O_TMPFILE), the file never has a name, so not even the times of the directory change.
    """
    return _asked(identity, groups, lambda: _write(directory)) or None


def _write(directory: str) -> str:
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _write_unnamed(parent)
    except OSError as error:
        # Filesystems and kernels without O_TMPFILE return one of these.
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        _write_named(parent)
    return ""


def _write_unnamed(parent: int) -> None:
    descriptor = os.open(".", os.O_WRONLY | os.O_TMPFILE, 0o600, dir_fd=parent)
    os.write(descriptor, b"\0")


def _write_named(parent: int) -> None:
    """Create and remove a file, then restore the times of the directory."""
    before = os.fstat(parent)
    name = f".{secrets.token_hex(8)}"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=parent)
    try:
        os.write(descriptor, b"\0")
    finally:
        os.unlink(name, dir_fd=parent)
        with contextlib.suppress(PermissionError):  # the user may write as a group member without owning the directory
            os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def _asked(identity: Identity, groups: t.Sequence[int], question: t.Callable[[], str]) -> str:
    """Run ``question`` in a child process that has become ``identity``, and return its answer, or the system's message of an OSError.

    Processes of that user can stop the child, so the wait has a limit. Raises SessionsError if the child does not answer in time.
    """

    def become(kept: int) -> None:
        leave_open(kept)
        _become(identity, groups)
        limit(_LIMITS)
        harden()

    try:
        answer = answer_of(become, lambda: os.fsencode(_answered(question)), seconds=AS_USER_SECONDS, at_most=1 << 16)
    except PastLimit:
        raise SessionsError(
            f"the permissions of user {identity.owner} could not be tested within {AS_USER_SECONDS:g} seconds; nothing was changed, "
            "check for a process of that user that stops other processes and for a filesystem that does not respond, and run again"
        ) from None
    return "the check itself failed" if answer is None else os.fsdecode(answer)


def _answered(question: t.Callable[[], str]) -> str:
    try:
        return question()
    except OSError as error:
        return error.strerror or str(error.errno)


def _become(identity: Identity, groups: t.Sequence[int]) -> None:
    if os.geteuid() != 0:
        return
    listed = os.getgrouplist(identity.owner, identity.gid) if not identity.owner.isdecimal() else [identity.gid]
    os.setgroups(sorted({*listed, *groups}))
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
