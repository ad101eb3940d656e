# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Run other programs: argument lists only, C locale, a time limit, and a fresh environment for each call."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
import typing as t

from .._core.errors import SessionsError
from .._core.limits import COMMAND_SECONDS

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CUT_OFF = -signal.SIGKILL  # the exit code of a program that exceeded its time limit
_WORDS_AT_MOST = 4096  # bytes of standard error


class Completed(t.NamedTuple):
    """The result of a finished program: its exit code and decoded output."""

    argv: tuple[str, ...]
    rc: int
    stdout: str
    stderr: str


def run(
    argv: t.Sequence[str],
    *,
    timeout: float = COMMAND_SECONDS,
    environment: t.Mapping[str, str] | None = None,
    identity: tuple[int, int] | None = None,
    pass_fds: t.Sequence[int] = (),
    directory: str | None = None,
) -> Completed:
    """Run ``argv`` in ``directory`` and return its result, whatever its exit code. ``timeout`` in seconds.

    ``identity``: (uid, gid) to run as. The directory is entered before switching, so it may be accessible only to this process.

    Raises SessionsError if the program is missing or does not end in time.
    """
    account: dict[str, t.Any] = {}
    if identity is not None and identity[0] != os.geteuid():
        account = {"user": identity[0], "group": identity[1], "extra_groups": []}
    try:
        # run_command has no time limit and needs AnsibleModule, which module_utils does not use.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            list(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            env={"PATH": SEARCH_PATH, "LC_ALL": "C", **(environment or {})},
            pass_fds=tuple(pass_fds),
            cwd=directory,
            check=False,
            **account,
        )
    except FileNotFoundError as error:
        raise _missing(argv) from error
    except subprocess.TimeoutExpired as error:
        raise SessionsError(
            f"{' '.join(argv[:2])!r} did not end within {timeout:g} seconds; check what blocks it and run again"
        ) from error
    return Completed(tuple(argv), done.returncode, _text(done.stdout), _text(done.stderr))


def run_checked(
    argv: t.Sequence[str],
    *,
    purpose: str,
    timeout: float = COMMAND_SECONDS,
    environment: t.Mapping[str, str] | None = None,
) -> Completed:
    """Run ``argv``; if it fails, raise SessionsError with ``purpose`` and the last line of its output."""
    done = run(argv, timeout=timeout, environment=environment)
    if done.rc != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise SessionsError(
            f"cannot {purpose}: {' '.join(argv[:2])!r} failed with exit code {done.rc}"
            + (f": {words[-1]}" if words else "")
        )
    return done


def run_for_lines(
    argv: t.Sequence[str], take: t.Callable[[bytes], None], *, timeout: float, longest: int, at_most: int
) -> Completed:
    """Run ``argv`` and pass each line of its output to ``take`` as it arrives, so that the output may exceed memory.

    A line of more than ``longest`` bytes arrives in pieces. After ``timeout`` seconds or ``at_most`` bytes the program is killed, and the
    result has the exit code CUT_OFF; it never contains the output itself. Raises SessionsError if the program is missing.
    """
    with tempfile.TemporaryFile() as words:
        try:
            # run_command returns all output only at the end.
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=words,
                env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
            )
        except FileNotFoundError as error:
            raise _missing(argv) from error
        until, cut = time.monotonic() + timeout, False
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            with process:
                for line in iter(lambda: t.cast("t.IO[bytes]", process.stdout).readline(longest), b""):
                    at_most -= len(line)
                    # The time counts here too: reading what a killed program left in the pipe may take long.
                    if at_most < 0 or time.monotonic() > until:
                        process.kill()
                        cut = True
                        break
                    take(line)
        finally:
            timer.cancel()
        words.seek(0)
        return Completed(tuple(argv), CUT_OFF if cut else process.returncode, "", _text(words.read(_WORDS_AT_MOST)))


def _missing(argv: t.Sequence[str]) -> SessionsError:
    return SessionsError(
        f"the program {argv[0]!r} is not on this host; install the package that provides it and run again"
    )


def _text(output: bytes) -> str:
    return output.decode("utf-8", "surrogateescape")
