# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Runs other programs: argument lists only, C locale, a time limit, an environment that is made anew each time."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
import typing as t

from ._errors import SessionsError
from ._limits import COMMAND_SECONDS

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CUT_OFF = -signal.SIGKILL  # the exit code of a program whose time was over
_WORDS_AT_MOST = 4096  # bytes of what a program says about itself


class Completed(t.NamedTuple):
    """What a finished program left: exit code and its decoded output."""

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
    """Run ``argv`` in ``directory`` and return its outcome, whatever its exit code. ``timeout`` in seconds.

    ``identity`` is (uid, gid) to run as; the directory is entered before, so that it may be one which only we can reach.

    Raises SessionsError when the program is missing or does not end in time.
    """
    account: dict[str, t.Any] = {}
    if identity is not None and identity[0] != os.geteuid():
        account = {"user": identity[0], "group": identity[1], "extra_groups": []}
    try:
        # run_command knows no deadline and needs AnsibleModule, which nothing here has.
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
            f"{' '.join(argv[:2])!r} did not end within {timeout:g} seconds; see why and run again"
        ) from error
    return Completed(tuple(argv), done.returncode, _text(done.stdout), _text(done.stderr))


def run_checked(
    argv: t.Sequence[str],
    *,
    purpose: str,
    timeout: float = COMMAND_SECONDS,
    environment: t.Mapping[str, str] | None = None,
) -> Completed:
    """Run ``argv``; raise SessionsError naming ``purpose`` and the program's own last words when it fails."""
    done = run(argv, timeout=timeout, environment=environment)
    if done.rc != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise SessionsError(
            f"cannot {purpose}: {' '.join(argv[:2])!r} ended with {done.rc}" + (f": {words[-1]}" if words else "")
        )
    return done


def run_for_lines(
    argv: t.Sequence[str], take: t.Callable[[bytes], None], *, timeout: float, longest: int, at_most: int
) -> Completed:
    """Run ``argv`` and hand over each line of its output as it comes, so that it may print more than memory holds.

    A line of more than ``longest`` bytes comes in pieces. When ``timeout`` seconds are over, or ``at_most`` bytes were read, the program is
    killed, so the outcome has the exit code CUT_OFF; it never has the output itself. Raises SessionsError when the program is missing.
    """
    with tempfile.TemporaryFile() as words:
        try:
            # run_command hands over all of the output at the end.
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
                    if (
                        at_most < 0 or time.monotonic() > until
                    ):  # what a killed program leaves in the pipe may take long, too
                        process.kill()
                        cut = True
                        break
                    take(line)
        finally:
            timer.cancel()
        words.seek(0)
        return Completed(tuple(argv), CUT_OFF if cut else process.returncode, "", _text(words.read(_WORDS_AT_MOST)))


def _missing(argv: t.Sequence[str]) -> SessionsError:
    return SessionsError(f"the program {argv[0]!r} is not on this host; install the package that has it and run again")


def _text(output: bytes) -> str:
    return output.decode("utf-8", "surrogateescape")
