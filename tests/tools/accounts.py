# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates accounts in the layout of Baileys, for tests. Each file and file name contains a canary, so that leaks are detected."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import typing as t

CANARY = "5511999990000"
KEY_FILES = ("pre-key-1", f"session-{CANARY}.0", f"sender-key-{CANARY}@g.us--{CANARY}--0", f"lid-mapping-{CANARY}")
OLD = 1_700_000_000  # seconds since the epoch: by default, accounts have not been used for a long time


def credentials(state: str, number: int = 1) -> dict[str, t.Any]:
    """Return the content of ``creds.json`` for a state (paired, pending, fresh); ``number`` identifies the linked device."""
    secret = base64.b64encode(f"{CANARY}-{number}".encode()).decode() + CANARY
    parts: dict[str, t.Any] = {
        "noiseKey": {"private": secret},
        "signedIdentityKey": {"private": secret},
        "signedPreKey": {"keyId": 1, "signature": secret},
        "registrationId": 42 + number,
        "advSecretKey": secret,
        "nextPreKeyId": 2,
        "registered": False,
    }
    if state in ("pending", "paired"):
        parts["me"] = {"id": f"{CANARY}{number}:7@s.whatsapp.net", "name": f"~{CANARY}"}
    if state == "paired":
        parts["account"] = {"details": secret}
    return parts


def put_account(
    path: pathlib.Path,
    state: str = "paired",
    *,
    number: int = 1,
    at: float = OLD,
    keys: t.Sequence[str] = KEY_FILES,
    device: int | None = None,
) -> pathlib.Path:
    """Create an account directory (mode 0700, files 0600), last written ``at`` (seconds since the epoch).

    ``device``: the number of the linked device, for another copy of it with different keys.
    """
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    held = credentials(state, number)
    if "me" in held:
        held["me"] = credentials(state, number if device is None else device)["me"]
    put_file(path / "creds.json", json.dumps(held), at=at)
    for name in keys:
        put_file(path / f"{name}.json", json.dumps({"private": f"{CANARY} {number} {name}"}), at=at)
    os.utime(path, (at, at))
    return path


@contextlib.contextmanager
def opened(path: pathlib.Path) -> t.Iterator[int]:
    """Open a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def put_file(path: pathlib.Path, content: str | bytes, *, at: float = OLD) -> pathlib.Path:
    """Write a file of mode 0600, last written ``at``."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(0o600)
    os.utime(path, (at, at))
    return path


def give(path: pathlib.Path, uid: int, gid: int) -> None:
    """Change the owner of a whole tree."""
    for directory, folders, files in os.walk(path):
        for name in (".", *folders, *files):
            os.chown(os.path.join(directory, name), uid, gid, follow_symlinks=False)


def use(path: pathlib.Path, at: float) -> None:
    """Use an account like a backend: write the credentials again, in place."""
    found = json.loads((path / "creds.json").read_bytes())
    found["nextPreKeyId"] += 1
    (path / "creds.json").write_text(json.dumps(found))
    os.utime(path / "creds.json", (at, at))


def content(path: pathlib.Path) -> dict[bytes, bytes | None]:
    """Return every relative name below ``path`` with the content of the file; None for a directory."""
    root = os.fsencode(path)
    found: dict[bytes, bytes | None] = {}
    for directory, folders, files in os.walk(root):
        for name in folders:
            found[os.path.relpath(os.path.join(directory, name), root)] = None
        for name in files:
            found[os.path.relpath(os.path.join(directory, name), root)] = _held(os.path.join(directory, name))
    return found


def _held(path: bytes) -> bytes:
    if os.path.islink(path):
        return b"a link to " + os.readlink(path)
    with open(path, "rb") as file:
        return file.read()


def looks(path: pathlib.Path) -> dict[bytes, tuple[int, ...]]:
    """Return every name below ``path`` (and itself) with its status except the access time, to detect changes."""
    root = os.fsencode(path)
    names = [root] + [
        os.path.join(directory, name) for directory, *both in os.walk(root) for kind in both for name in kind
    ]
    found: dict[bytes, tuple[int, ...]] = {}
    for name in names:
        seen = os.lstat(name)
        found[name] = (
            seen.st_mode,
            seen.st_ino,
            seen.st_nlink,
            seen.st_uid,
            seen.st_gid,
            seen.st_size,
            seen.st_mtime_ns,
            seen.st_ctime_ns,
        )
    return found
