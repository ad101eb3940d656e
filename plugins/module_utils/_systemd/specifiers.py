# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The ``%`` specifiers of unit files, as the system manager expands them (systemd.unit(5), "Specifiers").

Those that depend on the state of the manager (``%d``, ``%s``, ``%y``, ...) are left unchanged.
"""

from __future__ import annotations

import os
import re
import typing as t

from .._fs.files import read_file
from .load_path import UnitName

# Directories and identities of the system manager, which runs as root.
_FIXED = {
    "%": "%",
    "t": "/run",
    "S": "/var/lib",
    "C": "/var/cache",
    "L": "/var/log",
    "E": "/etc",
    "T": "/tmp",
    "V": "/var/tmp",
    "u": "root",
    "U": "0",
    "g": "root",
    "G": "0",
    "h": "/root",
}


def expand(text: str, name: UnitName) -> str:
    """Expand the known specifiers in a value of the unit ``name``; leave others unchanged."""
    if "%" not in text:
        return text
    return re.sub(
        "%(.)", lambda found: _value(found[1], name) if _known(found[1], name) else found[0], text, flags=re.DOTALL
    )


def _known(letter: str, name: UnitName) -> bool:
    # The instance of a template itself is unknown.
    return letter in _FIXED or (letter in _BY_UNIT and not name.is_template) or letter in _BY_HOST


def _value(letter: str, name: UnitName) -> str:
    if letter in _FIXED:
        return _FIXED[letter]
    return _BY_UNIT[letter](name) if letter in _BY_UNIT else _BY_HOST[letter]()


def _unescape(text: str) -> str:
    """Undo the escaping of unit names, systemd-escape(1)."""
    return re.sub(r"\\x([0-9a-fA-F]{2})", lambda found: chr(int(found[1], 16)), text.replace("-", "/"))


def _last_part(prefix: str) -> str:
    return prefix.rpartition("-")[2]


def _as_path(name: UnitName) -> str:
    return "/" + _unescape(name.instance if name.instance else name.prefix).lstrip("/")


def _file_line(path: str) -> str:
    return (read_file(path) or b"").decode("ascii", "replace").strip()


_BY_UNIT: t.Mapping[str, t.Callable[[UnitName], str]] = {
    "n": lambda name: name.full,
    "N": lambda name: name.full.rpartition(".")[0],
    "p": lambda name: name.prefix,
    "P": lambda name: _unescape(name.prefix),
    "i": lambda name: name.instance or "",
    "I": lambda name: _unescape(name.instance or ""),
    "j": lambda name: _last_part(name.prefix),
    "J": lambda name: _unescape(_last_part(name.prefix)),
    "f": _as_path,
}
_BY_HOST: t.Mapping[str, t.Callable[[], str]] = {
    "H": lambda: os.uname().nodename,
    "l": lambda: os.uname().nodename.partition(".")[0],
    "v": lambda: os.uname().release,
    "m": lambda: _file_line("/etc/machine-id"),
    "b": lambda: _file_line("/proc/sys/kernel/random/boot_id").replace("-", ""),
}
