# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Mask account names for output: they are often phone numbers."""

from __future__ import annotations

import functools
import hashlib


def masked(account: str) -> str:
    """Return a name that distinguishes the accounts of one host without identifying their owners, for example ``4…7-9c1f2e``.

    The six hex digits are keyed with the host's machine ID, so phone numbers cannot be tested against them on another machine.
    """
    keyed = hashlib.blake2b(account.encode("utf-8", "surrogateescape"), key=_host_key(), digest_size=3)
    return f"{_visible(account[:1])}…{_visible(account[-1:])}-{keyed.hexdigest()}"


def account_id(account: str) -> str:
    """Return an ID that is the same in every report of this host and does not reveal the name: 16 hex digits, keyed like ``masked``."""
    return hashlib.blake2b(account.encode("utf-8", "surrogateescape"), key=_host_key(), digest_size=8).hexdigest()


def _visible(character: str) -> str:
    """Return ``?`` for characters that are not printable ASCII: names may hold any bytes, and control characters could alter the output."""
    return character if character.isascii() and character.isprintable() else "?"


@functools.lru_cache(maxsize=1)
def _host_key() -> bytes:
    try:
        with open("/etc/machine-id", "rb") as file:
            return hashlib.sha256(b"whatsapp_ops.sessions " + file.read().strip()).digest()
    except OSError:
        return b"whatsapp_ops.sessions, a host without machine id"


def account_key(account: str) -> str:
    """Return the name of an account in receipts and staging: a digest of fixed length that does not reveal it."""
    return hashlib.sha256(account.encode("utf-8", "surrogateescape")).hexdigest()[:40]
