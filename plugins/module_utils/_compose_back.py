# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The way back of a service of Docker Compose: its accounts go into the layer of a new container, and our override file away.

They stay at the sessions path as well. Until everything is in the new container, which is made and not started, any failure is taken back:
the override file is written again, and Compose makes a container of it that has the sessions path mounted.
"""

from __future__ import annotations

import json
import os
import time
import typing as t

from ._area import COMPANIONS
from ._command import run_checked
from ._compose import Compose
from ._container_inspect import Box, inspected
from ._container_view import inode_inside, opened_plain
from ._container_words import DOCKER
from ._control import control_path, open_private, read_document_at, write_document_at
from ._copy import Rules
from ._errors import SessionsError
from ._kernel import sync_filesystem
from ._layouts import Layout, account_names, is_area, opened_account
from ._paths import opened_directory, real_path
from ._publish import Place, announce, commit
from ._receipts import RECEIPT, Entry, account_key, document_of, mark_with_parts
from ._tree import bring_up_to_date, remove_tree, same_content
from ._unit import read_unit

if t.TYPE_CHECKING:
    from ._container_handling import WayBack

_BACK = COMPANIONS  # where only root reaches it, and where the next run removes what a killed one leaves
_SECONDS = 600.0  # for Docker to copy that, and to make a container
_STARTS_WITHIN = 30.0


def starts_back(compose: Compose) -> str:
    """Return, as JSON, the commands that start the service on the sessions path again, and those once all is in the new container."""
    up = [*compose.command, "up", "--detach", "--no-deps", compose.service]
    policy = [DOCKER, "update", f"--restart={compose.box.policy}", compose.box.id]
    return json.dumps({"former": [policy, up], "published": [[DOCKER, "start", compose.box.name]]})


def put_back(place: Place, compose: Compose, back: WayBack, path: str, layout: Layout) -> None:
    """Make a container without the mount, have the accounts in it, say so in the receipt, and commit. The service is stopped.

    Raises SessionsError, OSError; what was done has to be taken back then.
    """
    intent = announce(place, [], [back.file], f"{control_path(path)}/{RECEIPT}")
    remove_tree(place.area, _BACK)  # a killed run's has its owner's rights already
    staged = open_private(place.area, _BACK, called="the directory of accounts on their way back")
    try:
        rules = Rules(place.uid, place.gid, frozenset((place.uid,)), is_area, checksum=True)
        bring_up_to_date(place.path, staged, rules, {})
        sync_filesystem(staged)
        _remove_durably(back.file)
        new = _made_anew(compose)
        argv = [DOCKER, "cp", "--archive", f"{real_path(staged)}/.", f"{new.id}:{back.inside}"]
        run_checked(argv, purpose=f"copy the accounts to {back.inside} in {new.name}", timeout=_SECONDS)
        layer = f"{os.path.realpath(new.upper)}{back.inside}"
        with opened_plain(layer) as there:
            if not same_content(staged, there, is_area):
                raise SessionsError(f"not all accounts came to {back.inside} in {new.name}; run again")
            sync_filesystem(there)
            _write_receipt(place, there, layer, path, layout)
        commit(place.control, intent)
    finally:
        os.close(staged)
        remove_tree(place.area, _BACK)


def require_back(unit: str, back: WayBack) -> None:
    """See that the service runs with its accounts in its container's layer. Raises SessionsError."""
    deadline = time.monotonic() + _STARTS_WITHIN
    while True:
        compose = read_unit(unit).compose
        box = compose.box if compose else None
        if box and box.pid and box.status == "running" and inode_inside(box, back.inside):
            return
        if time.monotonic() > deadline:
            raise SessionsError(
                f"the container of {unit} was made anew with its accounts in {back.inside}, and does not run; see why, and start it"
            )
        time.sleep(0.1)


def _remove_durably(file: str) -> None:
    """Were it there again after a power cut, the next container would have the sessions path, whose keys are the older ones by then."""
    os.unlink(file)
    with opened_directory(os.path.dirname(file)) as directory:
        os.fsync(directory)


def _made_anew(compose: Compose) -> Box:
    up = [*compose.command, "up", "--no-start", "--no-deps", compose.service]
    run_checked(up, purpose=f"make a container of {compose.service} without the mount", timeout=_SECONDS)
    box = inspected(DOCKER, compose.box.name)
    if box is None or box.id == compose.box.id or box.pid or not box.upper:
        raise SessionsError(f"Compose made no new container of {compose.service} that can be looked into; run again")
    return box


def _write_receipt(place: Place, there: int, layer: str, path: str, layout: Layout) -> None:
    """Write down that the accounts went to the layer: used there from now on, they are the newer ones at the next run."""
    entries = {}
    for name in account_names(place.path, layout):
        with opened_account(place.path, name) as here, opened_account(there, name) as back:
            marks = (mark_with_parts(there, name, back, layout), mark_with_parts(place.path, name, here, layout))
            entries[account_key(name)] = Entry(layer, *marks, time.time())
    document = {**read_document_at(place.control, RECEIPT), **document_of(path, entries)}
    write_document_at(place.control, RECEIPT, document)
