# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend that handles one message after the other: each rewrites some files of an account in place, then it waits for the next one.

live_writer.py DIRECTORY PAUSE

Each file names its generation, and is known as a whole from that. A library truncates a file, and writes it a moment later.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import pathlib
import signal
import sys
import time

import trees

FILES = 20  # rewritten for each message
_WITHIN = 0.001  # seconds between truncating a file and writing it
_DEATH_SIGNAL = 1  # prctl(2)


def names_in(directory: pathlib.Path) -> list[str]:
    """Return the files that the backend rewrites, in the order in which it does."""
    return sorted(path.name for path in directory.iterdir())[:FILES]  # creds.json is the first one


def content(name: str, generation: int) -> bytes:
    """Return the whole file ``name`` of a generation."""
    held = trees.credentials(1) if name == "creds.json" else {"private": "0" * 600}
    return json.dumps({"generation": generation, **held}).encode()


def generation_in(held: bytes, name: str) -> int:
    """Return the generation of a file. Raises ValueError for a torn one."""
    generation = int(json.loads(held)["generation"])
    if held != content(name, generation):
        raise ValueError("not a whole file")
    return generation


def main() -> None:
    directory, pause = pathlib.Path(sys.argv[1]), float(sys.argv[2])
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    names = names_in(directory)
    for generation in itertools.count(1):
        for name in names:
            data = content(name, generation)
            with (directory / name).open("wb", buffering=0) as file:
                time.sleep(_WITHIN)
                file.write(data)
        print(generation, flush=True)
        time.sleep(pause)


if __name__ == "__main__":
    main()
