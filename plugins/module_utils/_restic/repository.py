# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Calls restic for one repository and one store. Its output is never shown, because it may contain addresses and names of files.

The password and the credentials of the repository are files of root; neither is ever part of a command line.
"""

from __future__ import annotations

import os
import stat
import time
import typing as t

from .._core import names as core_names
from .._core.bounded_json import parsed_json
from .._core.errors import SessionsError
from .._core.limits import RESTIC_LOCK_SECONDS, RESTIC_SECONDS
from .._fs.ancestors import untrusted_writer, way_to
from .._fs.files import Held, read_held
from .._proc.command import Completed, run
from .._systemd.environment_file import parse

_TAG = "whatsapp-ops"
_LOCK_PAUSE = 1.0  # seconds
# Exit codes of newer releases, and what all releases print, restic(1).
_NO_REPOSITORY, _LOCKED, _WRONG_PASSWORD = 10, 11, 12
_INCOMPLETE = 3  # a file vanished or changed while it was read
_SAYINGS = {
    _NO_REPOSITORY: ("Is there a repository at the following location", "repository does not exist"),
    _LOCKED: ("repository is already locked",),
    _WRONG_PASSWORD: ("wrong password",),
}


class Repository(t.NamedTuple):
    """A repository. ``where``: as restic names it. ``password_file``, ``environment_file`` (or ''): paths of files of root."""

    where: str
    password_file: str
    environment_file: str = ""

    @property
    def local(self) -> str:
        """The directory of the repository if it is on this host, else ''."""
        return self.where.removeprefix("local:") if self.where.startswith(("/", "local:/")) else ""


class Copy(t.NamedTuple):
    """A snapshot of restic. ``time``: as restic prints it. ``store``: the directory that was copied."""

    id: str
    time: str
    store: str = ""


def exists(repository: Repository) -> bool:
    """Whether the repository has been initialized. Raises SessionsError if that is unknown, or the password is wrong."""
    done = call(repository, "cat", "config", "--no-lock")
    if done.rc == 0:
        return True
    if _reason(done) == _NO_REPOSITORY:
        return False
    raise _failed(repository, "open", done)


def copies(repository: Repository, store: str) -> tuple[Copy, ...]:
    """Return the copies of the store that are in the repository, oldest first."""
    done = _checked(repository, "list the copies in", "snapshots", "--json", "--no-lock", *_selected(store))
    return _listed(done)


def copies_of(repository: Repository, host: str) -> tuple[Copy, ...]:
    """Return the copies that ``host`` made of any directory, oldest first."""
    words = (f"--tag={_TAG}", f"--host={host}")
    return _listed(_checked(repository, "list the copies in", "snapshots", "--json", "--no-lock", *words))


def _listed(done: Completed) -> tuple[Copy, ...]:
    found = (Copy(str(one["id"]), str(one["time"]), str((one.get("paths") or [""])[0])) for one in _parsed(done.stdout))
    return tuple(sorted(found, key=lambda copy: copy.time))


def names_in(repository: Repository, copy: Copy, store: str) -> frozenset[str]:
    """Return the names in the directory ``store`` of a copy."""
    done = _checked(repository, "read", "ls", "--json", "--no-lock", copy.id, store)
    nodes = (_parsed(line) for line in done.stdout.splitlines())
    return frozenset(str(node["name"]) for node in nodes if node.get("path", "").rpartition("/")[0] == store)


def initialize(repository: Repository) -> None:
    """Create the repository."""
    _checked(repository, "initialize", "init")


def copy(repository: Repository, store: str) -> None:
    """Copy the store. A snapshot that expires meanwhile makes restic report an incomplete copy, so that is tried once more."""
    words = ("backup", "--quiet", f"--tag={_TAG}", "--exclude=.partial-*", "--", store)
    done = call(repository, *words)
    if done.rc == _INCOMPLETE:
        done = call(repository, *words)
    if done.rc != 0:
        raise _failed(repository, "copy to", done)


def forget(repository: Repository, store: str, keep_days: int, keep_last: int) -> None:
    """Remove copies that the retention does not keep, and the data that only they need."""
    kept = (f"--keep-within={keep_days}d", f"--keep-last={max(1, keep_last)}")
    _checked(repository, "remove old copies from", "forget", "--quiet", "--prune", *kept, *_selected(store))


def check(repository: Repository) -> None:
    """Raise SessionsError if the repository is damaged."""
    _checked(repository, "verify", "check", "--quiet")


def restore(repository: Repository, copy: Copy, target: str) -> None:
    """Restore a copy below the directory ``target``."""
    _checked(repository, "restore from", "restore", "--quiet", f"--target={target}", copy.id)


def call(repository: Repository, *words: str) -> Completed:
    """Run restic and return its result, whatever its exit code. Waits a while for a repository that another run has locked."""
    until = time.monotonic() + RESTIC_LOCK_SECONDS
    while True:
        done = run(["restic", *words], timeout=RESTIC_SECONDS, environment=_environment(repository))
        if _reason(done) != _LOCKED or time.monotonic() > until:
            return done
        time.sleep(_LOCK_PAUSE)


def _environment(repository: Repository) -> dict[str, str]:
    given = {"HOME": "/root", "RESTIC_CACHE_DIR": f"{core_names.HOME}/restic-cache"}
    if repository.environment_file:
        text = _trusted(repository.environment_file, "restic_environment_file").content.decode("utf-8", "replace")
        given.update((one.name, one.value) for one in parse(text))
    _trusted(repository.password_file, "restic_password_file")
    return {**given, "RESTIC_REPOSITORY": repository.where, "RESTIC_PASSWORD_FILE": repository.password_file}


def _trusted(path: str, option: str) -> Held:
    """Read a file that only root can read and replace. Raises SessionsError for any other."""
    held = read_held(path)
    if held is None:
        raise SessionsError(f"{option} is {path}, which does not exist; create it on the host, readable by root only")
    if held.status.st_uid != os.geteuid() or stat.S_IMODE(held.status.st_mode) & 0o077:
        raise SessionsError(f"{option} is {path}, which is not private to root; chown it to root and chmod it to 0600")
    who = untrusted_writer(way_to(os.path.realpath(path)), {0, os.geteuid()})
    if who:
        raise SessionsError(
            f"{option} is {path}, which another user could replace: {who}; move it to a directory of root"
        )
    return held


def _selected(store: str) -> tuple[str, ...]:
    return (f"--tag={_TAG}", f"--path={store}", f"--host={os.uname().nodename}")


def _checked(repository: Repository, purpose: str, *words: str) -> Completed:
    done = call(repository, *words)
    if done.rc != 0:
        raise _failed(repository, purpose, done)
    return done


def _reason(done: Completed) -> int:
    """Return the exit code that the newest restic would have had, 0 for success and for other failures."""
    if done.rc == 0:
        return 0
    return next(
        (code for code, said in _SAYINGS.items() if done.rc == code or any(map(done.stderr.__contains__, said))), 0
    )


def _failed(repository: Repository, purpose: str, done: Completed) -> SessionsError:
    advice = {
        _NO_REPOSITORY: "the repository does not exist; check its address",
        _LOCKED: "another program has locked it; wait for it, or run 'restic unlock' if it has died",
        _WRONG_PASSWORD: "the password is wrong; correct the password file",
        0: "run the same command of restic as root on the host to see why",
    }
    command = done.argv[1]
    return SessionsError(
        f"cannot {purpose} the repository of off-host copies: 'restic {command}' failed with exit code {done.rc}: "
        f"{advice[_reason(done)]}; the snapshots on this host are not affected"
    )


def _parsed(text: str) -> t.Any:
    try:
        return parsed_json(text) or []
    except (ValueError, RecursionError) as error:
        raise SessionsError("restic printed something else than JSON; update it (0.14 or newer is needed)") from error
