#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the test host: watches places while a unit starts, and prints what that tells. JSON in and out, metadata only.

In: ``places`` (the sessions path first), ``unit``, ``seconds`` to wait for opens at the places ``at``, ``mounted`` (a directory, or none).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, "/repository/playbooks/collections")

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.service import read_service
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.process_view import binding_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.in_use import (
    known_places,
    leads_of,
    verdict,
    verdict_of_leads,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.open_watch import UseWatch


def main() -> None:
    given = json.load(sys.stdin)
    places, path = given["places"], given["places"][0]
    layout = layout_named("baileys")
    group = f"/system.slice/{given['unit']}"
    with contextlib.ExitStack() as open_roots:
        roots = {place: opened(place, open_roots) for place in places}
        watch = UseWatch([group])
        for place, root in roots.items():
            watch.add_place(place, root, layout)
        begin = time.monotonic()
        with watch:
            subprocess.run(["systemctl", "start", given["unit"]], check=True)
            came = watch.wait_for(lambda seen: all(seen[place].opens for place in given["at"]), given["seconds"])
            took = time.monotonic() - begin
            watch.wait_for(lambda seen: False, 0.3)  # what else comes
            seen = watch.seen()
        leads = leads_of([group], known_places({place: (root, layout) for place, root in roots.items()}))
        main_pid = read_service(given["unit"]).main_pid
        bound = binding_of(main_pid, given["mounted"], roots[path]) if given.get("mounted") else None
        print(
            json.dumps(
                {
                    "came": came,
                    "took": took,
                    "named": watch.named,
                    "verdict": verdict(seen, path),
                    "accounts": {place: sorted(use.accounts) for place, use in seen.items() if use.opens},
                    "others": sorted(set().union(*(use.others for use in seen.values()))),
                    "running": verdict_of_leads(leads, path),
                    "processes": leads.processes,
                    "bound": bound and [bound.reached, bound.mount and bound.mount.mount_point],
                }
            )
        )


def opened(path: str, keep: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    keep.callback(os.close, descriptor)
    return descriptor


if __name__ == "__main__":
    main()
