# SPDX-License-Identifier: GPL-3.0-or-later
"""Services of Docker Compose that no unit starts, on the real engine: the same verbs as for units, and no account is lost."""

from __future__ import annotations

import os
import typing as t

import pytest
from containerkit import COMPOSED, INSIDE, OVERRIDE, PATH, PROJECT, Engines, State, lost_with_container, require_same
from playkit import Play, play


def run(host: Engines, verb: str, *options: str, **settings: t.Any) -> Play:
    return play(host, verb, *options, wa_service="wabot", wa_health_url="", wa_restart_confirm=False, **settings)


def refusal(host: Engines, **options: t.Any) -> str:
    """Let the module try; return why it refuses."""
    outcome = host.module("session_migrate", **{"path": PATH, "unit": "wabot", **options})
    assert outcome.get("failed"), outcome
    return str(outcome["msg"])


def require_untouched(host: Engines, before: State) -> None:
    """The same container goes on, and nothing was laid down."""
    assert host.now("compose")["container"] == before["container"]
    require_same(before, host.going_on("compose"), 0)
    assert not host.sh(f"find {PATH} {OVERRIDE} /etc/systemd/system/wabot* -type f 2>/dev/null; true")
    assert (
        host.sh(f"docker inspect --format '{{{{.HostConfig.RestartPolicy.Name}}}}' {COMPOSED}").strip()
        == "unless-stopped"
    )


def redeployed(host: Engines, before: State, times: int = 3) -> State:
    """Have Compose make the container anew again and again: the account is the same in each."""
    now = before
    for _time in range(times):
        host.up("", "--force-recreate")
        anew = host.running("compose", but=now["container"])
        require_same(now, anew, 1)
        now = anew
    return now


def test_the_layer_of_a_service(engines: Engines) -> None:
    """Its accounts are brought out with what it writes as it stops, and stay through redeploys, which threw them away before."""
    before = engines.compose()
    assert lost_with_container(engines) == [f"{INSIDE} in the container is on the container's own layer"]
    asked = run(engines, "persist", "--check")
    assert asked.rc == 0 and asked.changed == 1, asked.output
    require_untouched(engines, before)
    played = run(engines, "persist")
    assert played.rc == 0, played.output
    now = engines.running("compose", but=before["container"])
    require_same(before, now, 1)
    assert lost_with_container(engines) == []
    again = run(engines, "persist")
    assert (again.rc, again.changed) == (0, 0), again.output
    assert engines.now("compose")["container"] == now["container"]
    now = redeployed(engines, now)
    verified = run(engines, "verify")
    assert verified.rc == 0, verified.output
    restarted = run(engines, "restart")
    assert restarted.rc == 0 and restarted.changed == 1, restarted.output
    after = engines.going_on("compose")
    assert (after["container"], after["starts"]) == (now["container"], now["starts"] + 1)
    require_same(now, after, 1)


@pytest.mark.parametrize("volume", ["accounts", "/srv/accounts"])
def test_what_outlives_the_container(engines: Engines, volume: str) -> None:
    """A named volume, or a directory of the host: that is the sessions path. Once it is named, nothing is changed."""
    before = engines.compose(f"{volume}:{INSIDE}")
    place = volume if volume.startswith("/") else "/var/lib/docker/volumes/bot_accounts/_data"
    refused = run(engines, "persist")
    assert refused.rc != 0
    assert f"set 'path' to {place} " in refused.output, refused.output
    require_untouched(engines, before)
    for verb in ("persist", "verify"):
        played = run(engines, verb, wa_sessions_path=place)
        assert (played.rc, played.changed) == (0, 0), played.output
    require_untouched(engines, before)
    now = redeployed(engines, before)
    restarted = run(engines, "restart", wa_sessions_path=place)
    assert restarted.rc == 0, restarted.output
    require_same(now, engines.going_on("compose"), 1)


def test_the_way_back(engines: Engines) -> None:
    """The accounts go into a new container with what was written last, and the override file away; a later run brings them out again."""
    before = engines.compose()
    for _time in range(2):
        done = engines.module("session_migrate", path=PATH, unit="wabot")
        assert done.get("changed"), done
        now = engines.running("compose", but=before["container"])
        require_same(before, now, 1)
        back = run(engines, "rollback")
        assert back.rc == 0 and back.changed == 1, back.output
        before = engines.running("compose", but=now["container"])
        require_same(now, before, 1)
        assert not engines.sh(f"ls {OVERRIDE} 2>/dev/null; true")
        mounts = engines.sh(f"docker inspect --format '{{{{json .Mounts}}}}' {COMPOSED}")
        assert PATH not in mounts
    assert "can only be rolled back into its container" in refusal(engines, state="rolled_back", src=["/srv/accounts"])
    again = engines.module("session_migrate", path=PATH, unit="wabot", state="rolled_back", src=done["src"])
    assert again.get("changed") is False, again
    edited = engines.module("session_migrate", path=PATH, unit="wabot")
    assert edited.get("changed"), edited
    engines.sh(f"echo '# mine' >>{OVERRIDE}")
    assert "no unchanged override file" in refusal(engines, state="rolled_back")


def test_a_program_that_does_not_end_when_asked(engines: Engines) -> None:
    """Docker ends it by force at each stop. Here that happens at a moment when it writes nothing."""
    before = engines.compose(lines=["environment: {DEAF: '1'}", "stop_grace_period: 1s"])
    done = engines.module("session_migrate", path=PATH, unit="wabot")
    assert done.get("changed"), done
    require_same(before, engines.running("compose", but=before["container"]), 0)


def test_a_project_that_compose_merges_nothing_into(engines: Engines) -> None:
    """The operator's own files stay as they are: the steps are given, and once they are taken the accounts are brought over."""
    before = engines.compose(file="bot.yaml")
    told = refusal(engines)
    assert f"add '{PATH}:{INSIDE}' to 'volumes' of wabot in {PROJECT}/bot.yaml" in told, told
    require_untouched(engines, before)
    engines.write_project(f"{PATH}:{INSIDE}", file="bot.yaml")
    done = engines.module("session_migrate", path=PATH, unit="wabot")
    assert done.get("changed"), done
    require_same(before, engines.running("compose", but=before["container"]), 1)
    again = engines.module("session_migrate", path=PATH, unit="wabot")
    assert again.get("changed") is False, again


def test_an_override_file_of_the_operator(engines: Engines) -> None:
    before = engines.compose()
    engines.put(OVERRIDE, "services:\n  wabot:\n    labels: {mine: '1'}\n")
    assert "has an override file already" in refusal(engines)
    assert "mine" in engines.sh(f"cat {OVERRIDE}; rm {OVERRIDE}")
    require_untouched(engines, before)


def test_a_project_that_changed_since(engines: Engines) -> None:
    """Making the container anew would deploy something else than what runs."""
    before = engines.compose()
    engines.write_project(lines=["environment: {ADDED: '1'}"])
    assert "they take from a shell, have changed" in refusal(engines)
    require_untouched(engines, before)


def test_files_that_others_can_write(engines: Engines) -> None:
    """Root has Compose read none of them: whoever writes them rules what it starts."""
    before = engines.compose()
    engines.sh(f"chown 1000 {PROJECT}/compose.yaml")
    assert f"{PROJECT}/compose.yaml is not a file that only root can write" in refusal(engines)
    engines.sh(f"chown 0 {PROJECT}/compose.yaml && chown 1000 {PROJECT}")
    assert f"{PROJECT} belongs to " in refusal(engines)
    require_untouched(engines, before)


WHOLE = bool(os.environ.get("WA_EVERYWHERE"))
# As strace counts what the run itself does: renames put documents, accounts and the override file in place, vfork starts a program.
# In the stop, at publishing, after the override file, at the proof.
SOME = [("vfork", 13), ("renameat2", 1), ("renameat", 11), ("vfork", 20)]
EVERYWHERE = [
    *(("syncfs", number) for number in range(1, 4)),
    *(("renameat2", number) for number in range(1, 2)),
    *(("renameat", number) for number in range(1, 12)),
    *(("unlink", number) for number in range(1, 9)),
    *(("vfork", number) for number in range(1, 30)),
]
# In the stop, before the accounts are in the new container, at the commit.
SOME_BACK = [("vfork", 10), ("vfork", 14), ("renameat", 7)]
EVERYWHERE_BACK = [
    *(("syncfs", number) for number in range(1, 3)),
    *(("renameat", number) for number in range(1, 8)),
    *(("unlink", number) for number in range(1, 10)),
    *(("vfork", number) for number in range(1, 20)),
]


def killed_at(engines: Engines, call: str, number: int, **options: t.Any) -> State:
    """Kill a run, and wait until the service runs on by itself."""
    strike = f"strace -f -qqq -o /dev/null -e trace=?{call} -e inject=?{call}:signal=KILL:when={number}"
    ended = engines.module("session_migrate", wrapper=strike, path=PATH, unit="wabot", unit_timeout=30, **options)
    # The long lists go on for longer than any run.
    assert not ended or WHOLE, f"{call} {number} does not kill the run: count its calls anew; it ended with {ended}"
    engines.sh("while ls /run/whatsapp-ops/*.busy >/dev/null 2>&1; do sleep 0.1; done")
    now = engines.going_on("compose")
    policy = engines.sh(f"docker inspect --format '{{{{.HostConfig.RestartPolicy.Name}}}}' {COMPOSED}").strip()
    assert policy == "unless-stopped"
    return now


@pytest.mark.parametrize(("call", "number"), EVERYWHERE if WHOLE else SOME)
def test_killed(engines: Engines, call: str, number: int) -> None:
    """In whatever phase a run is killed: the service runs on, and a second run brings its account over with all that it wrote."""
    before = engines.compose()
    between = killed_at(engines, call, number)
    require_same(before, between, between["starts"] - before["starts"])
    second = engines.module("session_migrate", path=PATH, unit="wabot", unit_timeout=30)
    assert "failed" not in second, second
    now = engines.going_on("compose")
    require_same(between, now, now["starts"] - between["starts"])
    redeployed(engines, now, 1)


@pytest.mark.parametrize(("call", "number"), EVERYWHERE_BACK if WHOLE else SOME_BACK)
def test_killed_on_the_way_back(engines: Engines, call: str, number: int) -> None:
    engines.compose()
    done = engines.module("session_migrate", path=PATH, unit="wabot")
    assert done.get("changed"), done
    before = engines.going_on("compose")
    between = killed_at(engines, call, number, state="rolled_back")
    require_same(before, between, between["starts"] - before["starts"])
    second = engines.module("session_migrate", path=PATH, unit="wabot", unit_timeout=30, state="rolled_back")
    assert "failed" not in second, second
    now = engines.going_on("compose")
    require_same(between, now, now["starts"] - between["starts"])
    assert PATH not in engines.sh(f"docker inspect --format '{{{{json .Mounts}}}}' {COMPOSED}")
