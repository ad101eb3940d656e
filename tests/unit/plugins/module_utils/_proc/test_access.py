# SPDX-License-Identifier: GPL-3.0-or-later
"""What another user may do is tried as that user, who can stop the process that tries it: nobody waits for it without end."""

from __future__ import annotations

import os
import pathlib
import signal
import time

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.users import Identity
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc import access
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.access import first_closed, why_not_writable

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
NOBODY = Identity(65534, 65534, "65534", "65534")


@root
def test_it_is_tried_as_that_user(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "own").mkdir(mode=0o700)
    os.chown(tmp_path / "own", NOBODY.uid, NOBODY.gid)
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    assert first_closed(NOBODY, ["/", str(tmp_path / "own"), str(tmp_path / "closed")]) == str(tmp_path / "closed")
    assert why_not_writable(NOBODY, str(tmp_path / "own")) is None
    assert why_not_writable(NOBODY, str(tmp_path / "closed")) == "Permission denied"
    assert why_not_writable(NOBODY, str(tmp_path)) == "Permission denied"
    assert list((tmp_path / "own").iterdir()) == []


@root
def test_it_is_not_waited_for_without_end(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when another process of that user sends it SIGSTOP."""
    monkeypatch.setattr(access, "AS_USER_SECONDS", 0.5)
    monkeypatch.setattr(access, "_write", lambda directory: os.kill(os.getpid(), signal.SIGSTOP))
    begun = time.monotonic()
    with pytest.raises(
        SessionsError, match=r"the permissions of user 65534 could not be tested within 0.5 seconds; nothing"
    ):
        why_not_writable(NOBODY, str(tmp_path))
    assert time.monotonic() - begun < 60
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@root
def test_when_it_is_killed_the_check_has_failed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_write", lambda directory: os.kill(os.getpid(), signal.SIGKILL))
    assert why_not_writable(NOBODY, str(tmp_path)) == "the check itself failed"


@root
def test_it_has_nothing_open_of_root(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "secret").open("w") as held:
        monkeypatch.setattr(access, "_write", lambda directory: f"open {os.path.exists(f'/dev/fd/{held.fileno()}')}")
        assert why_not_writable(NOBODY, str(tmp_path)) == "open False"
