# SPDX-License-Identifier: GPL-3.0-or-later
"""The bridge between this machine and its hosts. No address of it is reachable from elsewhere.

Name and subnet are derived from the directory of the lab; a subnet that this machine already uses is skipped.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from .command import LabError, run, succeeds
from .layout import MACHINE, Lab, locked

# A systemd host uses about seven inotify instances, all counted for root: the default limit of 128 is
# sufficient for 23 hosts, and further hosts start without network.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_WANTED = 4096


def up(lab: Lab) -> None:
    with locked(MACHINE / "lock"):
        if _is_up(lab):
            return
        if succeeds(["ip", "link", "show", lab.bridge]):
            raise LabError(
                f"the bridge {lab.bridge} exists but is not recorded in {lab.folder}: remove the one that is left over"
            )
        lab.make()
        subnet = next(free for free in _candidates(lab) if not _is_used(free))
        _record(lab).write_text(json.dumps({"subnet": str(subnet)}))
        run(["ip", "link", "add", lab.bridge, "type", "bridge"])
        run(["ip", "address", "add", f"{subnet[1]}/{subnet.prefixlen}", "dev", lab.bridge])
        run(["ip", "link", "set", lab.bridge, "up"])
        _raise_inotify(lab)


def down(lab: Lab) -> None:
    with locked(MACHINE / "lock"):
        if _record(lab).exists() and succeeds(["ip", "link", "show", lab.bridge]):
            run(["ip", "link", "delete", lab.bridge])
        _record(lab).unlink(missing_ok=True)
        _restore_inotify(lab)


def subnet(lab: Lab) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(json.loads(_record(lab).read_text())["subnet"])


def _record(lab: Lab) -> Path:
    return lab.folder / "network.json"


def _is_up(lab: Lab) -> bool:
    return _record(lab).exists() and succeeds(["ip", "link", "show", lab.bridge])


def _candidates(lab: Lab) -> Iterator[ipaddress.IPv4Network]:
    for attempt in range(64):
        first, second = hashlib.sha256(f"{lab.tag} {attempt}".encode()).digest()[:2]
        yield ipaddress.IPv4Network(f"10.{128 + first % 127}.{second}.0/24")
    raise LabError("no free subnet within 10.128.0.0/9: this machine has routes to all that were tried")


def _is_used(subnet: ipaddress.IPv4Network) -> bool:
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]))
    taken = (
        ipaddress.ip_network(route["dst"], strict=False)
        for route in routes
        if route["dst"] not in ("default", "0.0.0.0/0")
    )
    return any(subnet.overlaps(other) for other in taken)


def _raise_inotify(lab: Lab) -> None:
    """Raise the limit while any lab is up; the first one records the old value."""
    before = INOTIFY.read_text().strip()
    users = MACHINE / "users"
    users.mkdir(parents=True, exist_ok=True)
    if not any(users.iterdir()):
        (MACHINE / "inotify").write_text(before)
    (users / lab.tag).touch()
    if int(before) < INOTIFY_WANTED:
        INOTIFY.write_text(str(INOTIFY_WANTED))


def _restore_inotify(lab: Lab) -> None:
    """Restore the old limit with the last lab."""
    users, old = MACHINE / "users", MACHINE / "inotify"
    (users / lab.tag).unlink(missing_ok=True)
    if old.exists() and not any(users.iterdir()):
        INOTIFY.write_text(old.read_text())
        old.unlink()
        shutil.rmtree(users)
