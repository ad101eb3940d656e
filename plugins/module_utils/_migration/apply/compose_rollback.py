# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Roll a Docker Compose service back: copy its accounts into the layer of a new container and remove the override file of this collection.

The accounts stay at the sessions path as well. Until they are complete in the new container, which is created but not started, any failure
is undone: the override file is written again, and Compose creates a container from it that mounts the sessions path.
"""

from __future__ import annotations

import json
import os
import time
import typing as t

from ..._accounts.control_directory import control_path, read_document_at, write_document_at
from ..._accounts.receipts import RECEIPT, Entry, document_of, mark_at
from ..._accounts.work_area import COMPANIONS
from ..._containers.command_lines import DOCKER
from ..._containers.compose import Compose
from ..._containers.inspect import Box, inspected
from ..._containers.service import compose_of, read_service
from ..._containers.view import inode_inside, opened_plain
from ..._core.errors import SessionsError
from ..._core.masking import account_key
from ..._core.names import is_area
from ..._fs.copy_file import Rules
from ..._fs.copy_tree import remove_tree, sync_tree
from ..._fs.fdopen import DirFd, open_private, real_path
from ..._fs.files import remove_durably
from ..._fs.syscalls import sync_filesystem
from ..._fs.walk_tree import same_content
from ..._layouts.account import AccountRef
from ..._layouts.layout import Layout
from ..._layouts.search import account_names
from ..._proc.command import run_checked
from .publish import Place, announce, commit

if t.TYPE_CHECKING:
    from ..._containers.handling import WayBack

_BACK = COMPANIONS  # accessible only to root, and the next run removes what a killed one leaves
_SECONDS = 600.0  # for Docker to copy the accounts and to create a container
_STARTS_WITHIN = 30.0


def starts_back(compose: Compose) -> str:
    """Return, as JSON, the commands that start the service on the sessions path again, and those that start the new container."""
    up = [*compose.command, "up", "--detach", "--no-deps", compose.service]
    policy = [DOCKER, "update", f"--restart={compose.box.policy}", compose.box.id]
    return json.dumps({"former": [policy, up], "published": [[DOCKER, "start", compose.box.name]]})


def put_back(place: Place, compose: Compose, back: WayBack, path: str, layout: Layout) -> None:
    """Create a container without the mount, copy the accounts into it, write the receipt, and commit. The service must be stopped.

    Raises SessionsError, OSError; the caller then has to undo what was done.
    """
    intent = announce(place, [], [back.file], f"{control_path(path)}/{RECEIPT}")
    remove_tree(place.area, _BACK)  # one left by a killed run already has the owner and mode of the service
    staged = open_private(place.area, _BACK, called="the directory of accounts to roll back")
    try:
        rules = Rules(place.uid, place.gid, frozenset((place.uid,)), is_area, checksum=True)
        sync_tree(place.path, staged, rules, {})
        sync_filesystem(staged)
        # If a power cut restored it, the next container would use the older keys of the sessions path.
        remove_durably(back.file)
        new = _made_anew(compose)
        argv = [DOCKER, "cp", "--archive", f"{real_path(staged)}/.", f"{new.id}:{back.inside}"]
        run_checked(argv, purpose=f"copy the accounts to {back.inside} in {new.name}", timeout=_SECONDS)
        layer = f"{os.path.realpath(new.upper)}{back.inside}"
        with opened_plain(layer) as there:
            if not same_content(staged, there, is_area):
                raise SessionsError(f"the accounts in {back.inside} of {new.name} are not complete; run again")
            sync_filesystem(there)
            _write_receipt(place, there, layer, path, layout)
        commit(place.control, intent)
    finally:
        os.close(staged)
        remove_tree(place.area, _BACK)


def require_back(unit: str, back: WayBack) -> None:
    """Check that the service runs with its accounts in its container's layer. Raises SessionsError."""
    deadline = time.monotonic() + _STARTS_WITHIN
    while True:
        compose = compose_of(read_service(unit))
        box = compose.box if compose else None
        if box and box.pid and box.status == "running" and inode_inside(box, back.inside):
            return
        if time.monotonic() > deadline:
            raise SessionsError(
                f"the container of {unit} was recreated with its accounts in {back.inside}, but does not run; see its log and start it"
            )
        time.sleep(0.1)


def _made_anew(compose: Compose) -> Box:
    up = [*compose.command, "up", "--no-start", "--no-deps", compose.service]
    run_checked(up, purpose=f"create a container of {compose.service} without the mount", timeout=_SECONDS)
    box = inspected(DOCKER, compose.box.name)
    if box is None or box.id == compose.box.id or box.pid or not box.upper:
        raise SessionsError(f"Compose created no new container of {compose.service} that can be inspected; run again")
    return box


def _write_receipt(place: Place, there: DirFd, layer: str, path: str, layout: Layout) -> None:
    """Record in the receipt that the accounts moved to the layer, so that the next run treats them as newer once they are used."""
    entries = {}
    for name in account_names(place.path, layout):
        here = AccountRef(place.path, name, layout)
        entries[account_key(name)] = Entry(layer, mark_at(here._replace(root=there)), mark_at(here), time.time())
    document = {**read_document_at(place.control, RECEIPT), **document_of(path, entries)}
    write_document_at(place.control, RECEIPT, document)
