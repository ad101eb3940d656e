# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backend's user could do while root works in directories that are his: swaps entries for others, again and again, until ended.

attacker.py UID SECONDS NAME DECOY [NAME DECOY ...]     exchanges each NAME with its DECOY, then waits; RENAME_EXCHANGE
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

AT_FDCWD = -100
RENAME_EXCHANGE = 2
PR_SET_PDEATHSIG = 1


def main() -> None:
    uid, pause, *names = sys.argv[1:]
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # no test that was killed leaves it behind; setuid(2) would undo it
    exchange = libc.renameat2
    pairs = [(os.fsencode(names[place]), os.fsencode(names[place + 1])) for place in range(0, len(names), 2)]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        for name, decoy in pairs:
            exchange(AT_FDCWD, name, AT_FDCWD, decoy, RENAME_EXCHANGE)
        if float(pause):
            time.sleep(float(pause))


if __name__ == "__main__":
    main()
