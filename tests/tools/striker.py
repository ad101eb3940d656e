# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes the filesystem at a given system call of the code under test, like an attacker with perfect timing.

In a test: ``with striking("open", "account", lambda: exchange(account, decoy)): ...``. The code under test is not modified: its call in the
``os`` module continues afterwards, on the real filesystem. A strike that never happens fails the test.

For a separate program: striker.py CALL NAME TURN COMMAND -- python3 -m MODULE ...   (or a script instead of -m MODULE)
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import runpy
import subprocess
import sys
import typing as t

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
Action = t.Callable[[], t.Any]


@contextlib.contextmanager
def striking(
    call: str, name: str | t.Callable[[str], bool], action: Action, *, turn: int = 1, after: bool = False
) -> t.Iterator[None]:
    """Run ``action`` once, right before the ``turn``-th call of ``os.<call>`` with a file called ``name``; ``after``: right after it.

    ``name``: the last component of the path, or of the path of a descriptor; or a predicate. Also works in forked workers.
    """
    real = getattr(os, call)
    is_meant = name if callable(name) else name.__eq__
    calls = mmap.mmap(-1, 8)  # shared with forked workers

    def counted(argument: t.Any) -> bool:
        if not is_meant(_name_of(argument)):
            return False
        number = int.from_bytes(calls[:8], "little") + 1
        calls[:8] = number.to_bytes(8, "little")
        return number == turn

    def patched(*arguments: t.Any, **options: t.Any) -> t.Any:
        due = bool(arguments) and counted(arguments[0])
        if due and not after:
            action()
        try:
            return real(*arguments, **options)
        finally:
            if due and after:
                action()

    setattr(os, call, patched)
    try:
        yield
    finally:
        setattr(os, call, real)
        made = int.from_bytes(calls[:8], "little")
        assert made >= turn, f"os.{call} was called with {name!r} {made} times, so turn {turn} was never reached"


def exchange(one: os.PathLike[str] | str, other: os.PathLike[str] | str) -> None:
    """Exchange two names atomically, renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(one))


def by(uid: int, action: Action) -> Action:
    """Return ``action`` with the permissions of the user ``uid``."""

    def acting() -> None:
        child = os.fork()
        if not child:
            code = 1
            try:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                action()
                code = 0
            except BaseException as error:
                os.write(2, f"the strike failed: {error!r}\n".encode())
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0, "the user could not do this"

    return acting


def _name_of(argument: t.Any) -> str:
    if isinstance(argument, int):
        try:
            argument = os.readlink(f"/proc/self/fd/{argument}")
        except OSError:
            return ""
    return os.path.basename(os.fsdecode(argument).rstrip("/"))


def main() -> None:
    split = sys.argv.index("--")
    call, name, turn, command = sys.argv[1:split]
    _python, *program = sys.argv[split + 1 :]
    with striking(call, name, lambda: subprocess.run(command, shell=True, check=True), turn=int(turn)):
        if program[0] == "-m":
            sys.argv = program[1:]
            runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = program
            runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()
