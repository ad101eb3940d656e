# SPDX-License-Identifier: GPL-3.0-or-later
"""Backends in containers, on real engines: whatever a run does, no account is lost, and nothing is interrupted for nothing."""

from __future__ import annotations

import os
import typing as t

import pytest
from containerkit import (
    CONTAINER,
    DROP_IN,
    INSIDE,
    PATH,
    QUADLET,
    UNIT,
    Engines,
    State,
    lost_with_container,
    require_same,
)
from playkit import Play, play


def persist(host: Engines, *options: str, **settings: t.Any) -> Play:
    return play(host, "persist", *options, wa_service="wabot", wa_health_url="", **settings)


def refusal(host: Engines, **options: t.Any) -> str:
    """Let the module try; return why it refuses."""
    outcome = host.module("session_migrate", path=PATH, unit=UNIT, **options)
    assert outcome.get("failed"), outcome
    return str(outcome["msg"])


def require_untouched(host: Engines, engine: str, before: State) -> None:
    """The same container goes on, and nothing was laid down."""
    now = host.now(engine)
    assert now["container"] == before["container"]
    require_same(before, host.going_on(engine), 0)
    left = host.sh(f"find {PATH} {DROP_IN} /etc/systemd/system/{UNIT}.d /etc/wabot -type f 2>/dev/null; true")
    assert not left


def test_the_layer_of_a_quadlet(engines: Engines) -> None:
    """Its accounts are brought to the sessions path with what it writes as it stops, and the next containers use them there."""
    before = engines.quadlet()
    assert lost_with_container(engines) == [f"{INSIDE} in the container is on the container's own layer"]
    asked = persist(engines, "--check")
    assert asked.rc == 0 and asked.changed == 1, asked.output
    require_untouched(engines, "podman", before)
    played = persist(engines)
    assert played.rc == 0, played.output
    now = engines.running("podman", but=before["container"])
    require_same(before, now, 1)
    assert f"Volume={PATH}:{INSIDE}" in engines.sh(f"cat {DROP_IN}")
    assert lost_with_container(engines) == []
    again = persist(engines)
    assert (again.rc, again.changed) == (0, 0), again.output
    assert engines.now("podman")["container"] == now["container"]
    verified = play(engines, "verify", wa_service="wabot", wa_health_url="")
    assert verified.rc == 0, verified.output
    restarted = play(engines, "restart", wa_service="wabot", wa_health_url="", wa_restart_confirm=False)
    assert restarted.rc == 0, restarted.output
    require_same(before, engines.running("podman", but=now["container"]), 2)


def test_a_restart_of_a_quadlet_with_its_accounts_in_the_layer(engines: Engines) -> None:
    """It is refused, for it would destroy them."""
    before = engines.quadlet()
    restarted = play(engines, "restart", wa_service="wabot", wa_health_url="", wa_restart_confirm=False)
    assert restarted.rc != 0
    assert "run the role persist" in restarted.output
    require_untouched(engines, "podman", before)


def test_a_program_that_keeps_its_files_open(engines: Engines) -> None:
    """It cannot be taken from while it runs: refused with the steps, and it goes on."""
    before = engines.quadlet("Environment=HOLD=1")
    told = refusal(engines)
    assert "open" in told and "systemctl kill -s STOP" in told, told
    require_untouched(engines, "podman", before)


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_the_layer_of_a_run_line(engines: Engines, engine: str) -> None:
    """The line is the operator's: the exact option is named, and once it is there the accounts are brought over without loss."""
    before = engines.unit(engine)
    told = refusal(engines)
    assert f"'-v {PATH}:{INSIDE}' to '{engine} run' in ExecStart= of {UNIT}" in told, told
    require_untouched(engines, engine, before)
    engines.write_unit(engine, f"-v {PATH}:{INSIDE}")
    engines.sh("systemctl daemon-reload")
    done = engines.module("session_migrate", path=PATH, unit=UNIT)
    assert done.get("changed"), done
    require_same(before, engines.running(engine, but=before["container"]), 1)


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_directory_of_the_host(engines: Engines, engine: str) -> None:
    """It outlives the container, so it is the sessions path. Told so, a run changes nothing."""
    before = engines.unit(engine, f"-v /srv/accounts:{INSIDE}")
    told = refusal(engines)
    assert "set 'path' to /srv/accounts " in told, told
    require_untouched(engines, engine, before)
    done = engines.module("session_migrate", path="/srv/accounts", unit=UNIT)
    assert done.get("changed") is False, done
    require_untouched(engines, engine, before)


def test_a_volume_of_a_quadlet(engines: Engines) -> None:
    before = engines.quadlet(f"Volume=accounts:{INSIDE}")
    place = "/var/lib/containers/storage/volumes/accounts/_data"
    refused = persist(engines)
    assert refused.rc != 0
    assert f"set 'path' to {place} " in refused.output, refused.output
    require_untouched(engines, "podman", before)
    played = persist(engines, wa_sessions_path=place)
    assert (played.rc, played.changed) == (0, 0), played.output
    require_untouched(engines, "podman", before)


def test_a_volume_without_a_name(engines: Engines) -> None:
    """The engine removes it with the container. Two mounts at one place would keep it from starting."""
    before = engines.quadlet(f"Volume={INSIDE}")
    told = refusal(engines)
    assert "on an anonymous volume" in told and f"replace the option that mounts {INSIDE} by" in told, told
    require_untouched(engines, "podman", before)
    engines.sh(f"sed -i 's|^Volume={INSIDE}$|Volume={PATH}:{INSIDE}|' {QUADLET} && systemctl daemon-reload")
    done = engines.module("session_migrate", path=PATH, unit=UNIT)
    assert done.get("changed"), done
    require_same(before, engines.running("podman", but=before["container"]), 1)


def test_an_account_that_would_stay_behind(engines: Engines) -> None:
    """Nothing is left in a layer that is about to be thrown away."""
    before = engines.quadlet()
    engines.sh(f"podman exec systemd-{CONTAINER} sh -c 'mkdir {INSIDE}/other && : >{INSIDE}/other/creds.json'")
    assert "would be deleted with the container" in refusal(engines)
    require_untouched(engines, "podman", before)


def test_legacy_paths_of_a_container(engines: Engines) -> None:
    """Where it has the sessions path mounted, accounts of another directory of the host are brought in as for any unit."""
    before = engines.unit("docker", f"-v {PATH}:{INSIDE}")
    engines.sh(f"cp -a {PATH}/main /srv/accounts/second")
    layer = engines.sh(f"docker inspect --format '{{{{.GraphDriver.Data.UpperDir}}}}' {CONTAINER}").strip()
    assert "is deleted with the container" in refusal(engines, src=[f"{layer}/app"])
    assert engines.now("docker")["container"] == before["container"]
    done = engines.module("session_migrate", path=PATH, unit=UNIT, src=["/srv/accounts"])
    assert (done["changed"], done["counts"]["migrated"]) == (True, 1), done
    require_same(before, engines.running("docker", but=before["container"]), 1)
    assert engines.sh(f"ls {PATH}").split() == ["main", "second"]


# Where to strike, as strace counts: the first signals hold the processes still, renames put accounts and files in place, the tree is opened
# to be mounted in the container, vfork starts a program such as systemctl.
EVERYWHERE = [
    *(("kill", number) for number in range(1, 4)),
    *(("syncfs", number) for number in range(1, 4)),
    *(("renameat2", number) for number in range(1, 3)),
    *(("renameat", number) for number in range(1, 16)),
    ("open_tree", 1),
    *(("unlink", number) for number in range(1, 4)),
    *(("vfork", number) for number in range(1, 20)),
]
# Held still, publish, between commit and mount, before it goes on, restart.
SOME = [("kill", 1), ("renameat2", 1), ("open_tree", 1), ("kill", 2), ("vfork", 10)]


@pytest.mark.parametrize(("call", "number"), EVERYWHERE if os.environ.get("WA_EVERYWHERE") else SOME)
def test_killed(engines: Engines, call: str, number: int) -> None:
    """In whatever phase a run is killed: the program runs on, and its account is the same in its next container once a run was through."""
    before = engines.quadlet()
    strike = f"strace -f -qqq -o /dev/null -e trace=?{call} -e inject=?{call}:signal=KILL:when={number}"
    options = {"path": PATH, "unit": UNIT, "unit_timeout": 30}
    killed = engines.module("session_migrate", wrapper=strike, **options)
    engines.sh("while ls /run/whatsapp-ops/*.busy >/dev/null 2>&1; do sleep 0.1; done")
    between = engines.going_on("podman")
    assert between["identity"] == before["identity"]
    # One that is still held when its accounts are published already is ended: all that was on disk is kept. Else each stop was
    # written down.
    assert between["stops"] - before["stops"] >= between["starts"] - before["starts"] - 1
    assert between["saved"] > before["saved"]
    second = engines.module("session_migrate", **options)
    assert "failed" not in second, second
    now = engines.running("podman")
    engines.sh(f"systemctl restart {UNIT}")
    require_same(now, engines.running("podman", but=now["container"]), 1)
    assert now["identity"] == before["identity"]
    print(f"{call} {number}: {'killed' if not killed else 'not killed'}")
