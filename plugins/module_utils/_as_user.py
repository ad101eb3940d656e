# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What another user can really do on this host: tried as that user, in a process of its own that has given up root for good."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import secrets
import typing as t

from ._child import PastLimit, answer_of, harden, leave_open, limit
from ._errors import SessionsError
from ._identity import Identity
from ._limits import AS_USER_SECONDS

# What a few system calls need. No limit on processes: it would count all that the user has.
_LIMITS = {resource.RLIMIT_CPU: int(AS_USER_SECONDS), resource.RLIMIT_FSIZE: 4096}


def may_become(identity: Identity) -> bool:
    """Whether this process can try things as ``identity``: root can, anybody else only as themselves."""
    return os.geteuid() in (0, identity.uid)


def first_closed(identity: Identity, directories: t.Sequence[str], groups: t.Sequence[int] = ()) -> str | None:
    """Return the first of ``directories`` that ``identity`` may not pass through, or None. ``groups``: further gids it runs with."""
    return (
        _asked(identity, groups, lambda: next((path for path in directories if not os.access(path, os.X_OK)), ""))
        or None
    )


def why_not_writable(identity: Identity, directory: str, groups: t.Sequence[int] = ()) -> str | None:
    """Write a real file in ``directory`` as ``identity`` and let it vanish; return the system's words why that failed, or None.

    The file never has a name where the filesystem allows it (O_TMPFILE), so not even the directory's time changes.
    """
    return _asked(identity, groups, lambda: _write(directory)) or None


def _write(directory: str) -> str:
    parent = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _write_unnamed(parent)
    except OSError as error:
        if error.errno not in (
            errno.EOPNOTSUPP,
            errno.EISDIR,
            errno.EINVAL,
        ):  # what filesystems and kernels without O_TMPFILE say
            raise
        _write_named(parent)
    return ""


def _write_unnamed(parent: int) -> None:
    descriptor = os.open(".", os.O_WRONLY | os.O_TMPFILE, 0o600, dir_fd=parent)
    os.write(descriptor, b"\0")


def _write_named(parent: int) -> None:
    """Make a file, remove it, and set the directory's times back."""
    before = os.fstat(parent)
    name = f".{secrets.token_hex(8)}"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=parent)
    try:
        os.write(descriptor, b"\0")
    finally:
        os.unlink(name, dir_fd=parent)
        with contextlib.suppress(PermissionError):  # a group member who may write but does not own the directory
            os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def _asked(identity: Identity, groups: t.Sequence[int], question: t.Callable[[], str]) -> str:
    """Let a child become ``identity`` and return its answer; an OSError there is answered by the system's words for it.

    Processes of that user can stop the child, so it is waited for only so long. Raises SessionsError when it did not answer.
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
            f"what the user {identity.owner} may do could not be tried within {AS_USER_SECONDS:g} seconds; nothing was changed, "
            "see which process of that user stops others, or which filesystem does not answer, and run again"
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
