# SPDX-License-Identifier: GPL-3.0-or-later
"""The real library: whatsmeow, in the shared library that the PyPI package neonize carries.

The package's own Python is left aside, for it fetches what it misses. No client is ever started; and so that no mistake of
ours can reach the network, the library is loaded only where there is none.
"""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path

BETWEEN_DEVICES = b"|\1|"
Log = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)

# What the library was given must outlive the call: it may log from threads of its own.
_silent = Log(lambda _message, _size: None)


class UnusableStore(Exception):
    """The library refuses the store."""


def devices_of(store: Path) -> list[str]:
    """Have the library open a store, and return the ids of the devices that it finds.

    It makes the store when there is none, and keeps it open until this process ends, as a backend does.
    """
    library = _loaded()
    answer = library.GetAllDevices(str(store).encode(), _silent)
    try:
        told = ctypes.string_at(answer)
    finally:
        library.FreeString(answer)
    if told.startswith(b"error: "):
        # Only the first words, because the rest may contain data of the store.
        raise UnusableStore(f"the library cannot open the store: {told.decode(errors='replace').split(': ')[1]}")
    return [device.split(b",", 1)[0].decode() for device in told.split(BETWEEN_DEVICES) if device]


def _loaded() -> ctypes.CDLL:
    if _ways_out():
        raise SystemExit("there is a network here: run this with `unshare --net`, or in a unit with PrivateNetwork=yes")
    package = importlib.util.find_spec("neonize")
    if package is None:
        raise SystemExit("neonize is not on PYTHONPATH: see tests/backends/install_pip")
    (file,) = Path(package.submodule_search_locations[0]).glob("neonize-linux-*.so")
    library = ctypes.CDLL(str(file))
    library.GetAllDevices.argtypes = [ctypes.c_char_p, Log]
    library.GetAllDevices.restype = ctypes.c_void_p
    library.FreeString.argtypes = [ctypes.c_void_p]
    library.FreeString.restype = None
    return library


def _ways_out() -> list[str]:
    """Routes to anything but ourselves. Interfaces alone say nothing: some kernels put unused tunnels everywhere."""
    below = Path("/proc/self/net")
    routes = (below / "route").read_text().splitlines()[1:]
    if (below / "ipv6_route").exists():
        routes += (below / "ipv6_route").read_text().splitlines()
    return [route for route in routes if "lo" not in route.split()]
