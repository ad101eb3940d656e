# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: whether a file is open for writing, also by a process that sees it elsewhere, and that the writer is only kept for a moment."""

from __future__ import annotations

import os
import pathlib
import signal
import threading
import time

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.leases import has_writer, leases_allowed


def asked(path: pathlib.Path) -> bool:
    with leases_allowed(), opened_directory(str(path.parent)) as directory:
        return has_writer(directory, path.name)


def test_writers_are_seen_and_readers_do_not_count(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "creds.json"
    path.write_text("{}")
    assert not asked(path)
    with path.open("rb"):
        assert not asked(path)
    for mode in ("r+b", "ab", "wb"):
        with path.open(mode):
            assert asked(path)
    assert not asked(path)


def test_a_writer_by_another_name_is_seen(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "creds.json"
    path.write_text("{}")
    os.link(path, tmp_path / "other")
    with (tmp_path / "other").open("ab"):
        assert asked(path)


def test_what_is_not_a_file_has_no_writer(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    for name in ("pipe", "link", "gone"):
        assert not asked(tmp_path / name)


def test_writers_and_this_process_survive_that_they_meet(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "creds.json"
    path.write_text("{}")
    stop = threading.Event()
    written = []

    def write() -> None:
        while not stop.is_set():
            path.write_text("{}")
            written.append(1)

    handler = signal.getsignal(signal.SIGIO)
    writer = threading.Thread(target=write)
    with leases_allowed(), opened_directory(str(tmp_path)) as directory:
        writer.start()
        deadline = time.monotonic() + 60
        seen: set[bool] = set()
        while (seen != {True, False} or len(written) < 50) and time.monotonic() < deadline:
            seen.add(has_writer(directory, path.name))
        stop.set()
        writer.join()
    assert seen == {True, False}
    assert len(written) >= 50
    assert signal.getsignal(signal.SIGIO) == handler
