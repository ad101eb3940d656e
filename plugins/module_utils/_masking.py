# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""How an account is called where others may read it: account names are often phone numbers."""

from __future__ import annotations

import functools
import hashlib


def masked(account: str) -> str:
    """Return a name that tells accounts of one host apart but does not tell whose they are, for example ``4…7-9c1f2e``.

    The six hex digits are keyed with the host's machine id, so a list of phone numbers cannot be tried against them elsewhere.
    """
    keyed = hashlib.blake2b(account.encode("utf-8", "surrogateescape"), key=_host_key(), digest_size=3)
    return f"{_visible(account[:1])}…{_visible(account[-1:])}-{keyed.hexdigest()}"


def _visible(character: str) -> str:
    """Names may hold anything: what is not a plain letter, digit or mark could turn a line of output into something else."""
    return character if character.isascii() and character.isprintable() else "?"


@functools.lru_cache(maxsize=1)
def _host_key() -> bytes:
    try:
        with open("/etc/machine-id", "rb") as file:
            return hashlib.sha256(b"whatsapp_ops.sessions " + file.read().strip()).digest()
    except OSError:
        return b"whatsapp_ops.sessions, a host without machine id"
