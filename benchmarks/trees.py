# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates accounts in the layout of Baileys: flat directories of small JSON files with valid credentials."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import typing as t

OWNER, NEW_OWNER = 1500, 1501
_KINDS = (("pre-key-{}", 0.5), ("session-{}.0", 0.25), ("sender-key-{}@g.us--1--0", 0.15), ("lid-mapping-{}", 0.1))
_NOISE = random.Random(1).randbytes(1 << 16).hex().encode()


def make(root: pathlib.Path, accounts: int, files: int) -> None:
    """Make ``accounts`` of ``files`` files (200 bytes to 2 KB) each, owned by OWNER, with as many processes as there are CPUs."""
    root.mkdir(parents=True)
    os.chown(root, OWNER, OWNER)
    cpus = len(os.sched_getaffinity(0))
    children = [_forked(root, range(first, accounts, cpus), files) for first in range(cpus)]
    statuses = [os.waitpid(child, 0)[1] for child in children]
    if any(statuses):
        raise RuntimeError("a process that creates a tree failed")


def change(root: pathlib.Path, number: int) -> None:
    """Rewrite ``number`` files in place, like Baileys, distributed over all accounts; credentials first."""
    folders = sorted(os.listdir(root))
    for place, folder in enumerate(folders):
        share = number // len(folders) + (place < number % len(folders))
        names = sorted(os.listdir(root / folder))[:share]  # "creds.json" sorts before the keys
        for name in names:
            _rewrite(root / folder / name)


def _rewrite(path: pathlib.Path) -> None:
    if path.name == "creds.json":
        credentials = json.loads(path.read_bytes())
        credentials["accountSyncCounter"] += 1
        path.write_text(json.dumps(credentials), encoding="ascii")
    else:
        path.write_bytes(_key(random.randrange(1 << 16), path.stat().st_size))


def _make_some(root: pathlib.Path, accounts: t.Iterable[int], files: int) -> None:
    for account in accounts:
        chance = random.Random(account)
        place = root / f"40{account:09}"
        place.mkdir(mode=0o700)
        os.chown(place, OWNER, OWNER)
        here = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        _write(here, "creds.json", json.dumps(credentials(account)).encode())
        for number, name in enumerate(_names(files - 1)):
            _write(here, name, _key(account * 7919 + number * 13, chance.randint(200, 2048)))
        os.close(here)


def _names(number: int) -> t.Iterator[str]:
    made = 0
    for kind, share in _KINDS:
        count = int(number * share) if kind != _KINDS[-1][0] else number - made
        made += count
        yield from (f"{kind.format(index)}.json" for index in range(1, count + 1))


def _write(directory: int, name: str, content: bytes) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    os.write(descriptor, content)
    os.fchown(descriptor, OWNER, OWNER)
    os.close(descriptor)


def _key(place: int, size: int) -> bytes:
    place %= len(_NOISE) - size
    return b'{"private":"' + _NOISE[place : place + size - 14] + b'"}'


def credentials(account: int) -> dict[str, t.Any]:
    """Return valid credentials of a linked account, which differ from account to account."""
    secret = _NOISE[account % 1000 : account % 1000 + 64].decode()
    pair = {"private": {"type": "Buffer", "data": secret}, "public": {"type": "Buffer", "data": secret}}
    return {
        "noiseKey": pair,
        "pairingEphemeralKeyPair": pair,
        "signedIdentityKey": pair,
        "signedPreKey": {"keyPair": pair, "signature": {"type": "Buffer", "data": secret}, "keyId": 1},
        "registrationId": 1 + account,
        "advSecretKey": secret,
        "processedHistoryMessages": [],
        "nextPreKeyId": 2,
        "firstUnuploadedPreKeyId": 2,
        "accountSyncCounter": 1,
        "registered": False,
        "account": {"details": secret, "accountSignature": secret, "deviceSignature": secret},
        "me": {"id": f"40{account:09}:1@s.whatsapp.net", "name": "~"},
        "platform": "android",
    }


def _forked(root: pathlib.Path, accounts: t.Sequence[int], files: int) -> int:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            _make_some(root, accounts, files)
            os._exit(0)
        finally:
            os._exit(1)
    return child
