# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes an account the way Baileys does, again and again: truncate, then write, each file for itself; ends with SIGTERM, after its flush.

writer.py UID DIRECTORY ACCOUNT PAUSE       waits PAUSE seconds before each file; says on stdout which generation it has begun, and ends
                                            when that one is whole
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import signal
import sys
import time

from faultkit import content

stopping = False
PR_SET_PDEATHSIG = 1


def main() -> None:
    uid, directory, account, pause = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    signal.signal(signal.SIGTERM, lambda *_: globals().update(stopping=True))
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no test that was killed leaves it behind
    generation = 2
    while not stopping:
        generation += 1
        write(directory, content(account, generation - 1), content(account, generation), pause)
        sys.stdout.write(f"{generation}\n")
        sys.stdout.flush()


def write(directory: pathlib.Path, old: dict[str, bytes], new: dict[str, bytes], pause: float) -> None:
    for name, data in sorted(new.items(), reverse=True):  # creds.json is not the last one to be written
        time.sleep(pause)
        with (directory / name).open("wb", buffering=0) as file:
            for place in range(0, len(data), 700):
                file.write(data[place : place + 700])
    for name in old.keys() - new.keys():
        (directory / name).unlink()


if __name__ == "__main__":
    main()
