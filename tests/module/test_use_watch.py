# SPDX-License-Identifier: GPL-3.0-or-later
"""Which place real processes open accounts at, named by this kernel: in other mounts, groups and namespaces, and hostile ones."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
import typing as t

import pytest

from accounts import opened, put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.process_view import binding_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage import open_watch
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.in_use import (
    NOWHERE,
    UNKNOWN,
    USED,
    Leads,
    Use,
    Verdict,
    known_places,
    leads_of,
    verdict,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.open_watch import UseWatch
from groups import Group, group

SECONDS = 60.0
READ = "read line <{path}/creds.json || :; echo ready; read line"  # stays until it is told, as a backend does


class Places(t.NamedTuple):
    """The sessions path and a former one, with the same account."""

    new: pathlib.Path
    old: pathlib.Path


@pytest.fixture
def places(place: pathlib.Path) -> Places:
    return Places(put_account(place / "new/wa1").parent, put_account(place / "old/wa1").parent)


@pytest.fixture
def unit() -> t.Iterator[Group]:
    with group(f"wa-test-{os.getpid()}.service") as made:
        yield made


def prepared(places: Places, *groups: str) -> UseWatch:
    watch = UseWatch(groups)
    for place in places:
        with opened(place) as root:
            watch.add_place(place.name, root, layout_named("baileys"))
    assert watch.named
    return watch


def wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert process.stdout.readline() == "ready\n"


def used(seen: t.Mapping[str, Use]) -> bool:
    return any(use.opens for use in seen.values())


def unshared(script: str, *flags: str) -> list[str]:
    return ["unshare", "--mount", *flags, "sh", "-ec", script]


WAYS: dict[str, t.Callable[[Places], list[str]]] = {
    "by its name": lambda places: ["sh", "-ec", READ.format(path=places.new / "wa1")],
    "mounted over the former one": lambda places: unshared(
        f"mount --bind {places.new} {places.old}; {READ.format(path=places.old / 'wa1')}"
    ),
    "an account alone mounted elsewhere": lambda places: unshared(
        f"mount --bind {places.new}/wa1 /mnt; {READ.format(path='/mnt')}"
    ),
    "in a container": lambda places: unshared(
        f"mount --bind {places.new} /mnt; {READ.format(path='/mnt/wa1')}", "--pid", "--fork", "--mount-proc"
    ),
    "through a link": lambda places: [
        "sh",
        "-ec",
        f"ln -s {places.new} {places.new}.link; {READ.format(path=f'{places.new}.link/wa1')}",
    ],
}


@pytest.mark.parametrize("way", WAYS)
def test_an_open_counts_where_the_account_really_is(places: Places, unit: Group, way: str) -> None:
    with prepared(places, unit.path) as watch:
        wait_ready(unit.begin(*WAYS[way](places)))
        assert watch.wait_for(used, SECONDS)
        seen = watch.seen()
    assert seen["new"].opens
    assert seen["new"].accounts == {"wa1"}
    assert verdict(seen, "new") == Verdict(USED)


def test_what_others_open_does_not_count(places: Places, unit: Group) -> None:
    with group(f"wa-other-{os.getpid()}.service") as backup, prepared(places, unit.path) as watch:
        wait_ready(backup.begin("sh", "-ec", READ.format(path=places.old / "wa1")))
        (places.old / "wa1/creds.json").read_bytes()  # we ourselves
        wait_ready(unit.begin("sh", "-ec", READ.format(path=places.new / "wa1")))
        assert watch.wait_for(used, SECONDS)
        seen = watch.seen()
        of_the_other = watch.seen([backup.path])
    assert seen["old"] == Use(others=frozenset((backup.path,)))
    assert verdict(seen, "new") == Verdict(USED)
    # A group that is known only later, as a container's.
    assert of_the_other["old"].opens == 1


def test_many_other_groups_hide_nothing_of_the_unit(
    places: Places, unit: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_watch, "_GROUPS_AT_MOST", 0)
    with group(f"wa-other-{os.getpid()}.service") as other, prepared(places, unit.path) as watch:
        wait_ready(other.begin("sh", "-ec", READ.format(path=places.old / "wa1")))
        wait_ready(unit.begin("sh", "-ec", READ.format(path=places.new / "wa1")))
        assert watch.wait_for(used, SECONDS)
        seen = watch.seen()
    assert (seen["old"], verdict(seen, "new")) == (Use(unknown=1), Verdict(USED))


def test_a_group_below_the_unit_counts(places: Places, unit: Group) -> None:
    (unit.directory / "payload").mkdir()
    move = f"echo $$ >{unit.directory}/payload/cgroup.procs"
    with prepared(places, unit.path) as watch:
        wait_ready(unit.begin("sh", "-ec", f"{move}; {READ.format(path=places.new / 'wa1')}"))
        assert watch.wait_for(used, SECONDS)


def test_a_process_that_is_gone_proves_nothing(places: Places, unit: Group) -> None:
    watch = prepared(places, unit.path)
    unit.begin("cat", str(places.new / "wa1/creds.json")).wait()
    with watch:
        seen = watch.seen()
    assert (seen["new"].opens, seen["new"].unknown) == (0, 1)
    assert verdict(seen, "new") == Verdict(UNKNOWN)


def test_a_process_that_nobody_has_waited_for_yet_proves_nothing_either(places: Places, unit: Group) -> None:
    watch = prepared(places, unit.path)
    ended = unit.begin("cat", str(places.old / "wa1/creds.json"))
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    with watch:
        seen = watch.seen()
    # Version 1 has it in the topmost group then, version 2 still in its own.
    assert seen["old"] in (Use(unknown=1), Use(1, frozenset(("wa1",))))


def test_nothing_opened_is_nowhere(places: Places, unit: Group) -> None:
    with prepared(places, unit.path) as watch:
        wait_ready(unit.begin("sh", "-ec", f"ls {places.new}/wa1 >&2; echo ready; read line"))
        assert not watch.wait_for(used, 0.3)
        assert verdict(watch.seen(), "new") == Verdict(NOWHERE)


def test_a_new_account_counts_at_once(places: Places, unit: Group) -> None:
    with prepared(places, unit.path) as watch:
        made = places.old / "wa2"
        script = f"mkdir {made}; while :; do : >{made}/creds.json; read -t 0.02 line || :; done"
        unit.begin("bash", "-c", script)
        assert watch.wait_for(lambda seen: "wa2" in seen["old"].accounts, SECONDS)


HOSTILE: dict[str, str] = {
    "a pipe that nobody reads": "os.mkfifo('pipe'); held = os.open('pipe', os.O_RDONLY | os.O_NONBLOCK)",
    # The kernel tells the holder of a lease by a signal that somebody opens the file, which ends who does not expect it.
    "a leased file": "signal.signal(signal.SIGIO, signal.SIG_IGN); held = os.open('lease', os.O_RDWR | os.O_CREAT); "
    "fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)",
    "a name that is no text": "open(b'\\xff\\n\\x1b[31m', 'w')",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_user_holds_nobody_up(places: Places, unit: Group, what: str) -> None:
    script = f"import fcntl, os, signal\n{HOSTILE[what]}\nopen('creds.json')\nprint('ready', flush=True)\ninput()"
    watch = prepared(places, unit.path)
    wait_ready(unit.begin(sys.executable, "-c", script, cwd=places.new / "wa1"))
    with watch:
        begin = time.monotonic()
        assert watch.wait_for(used, SECONDS)
        watch.seen()
        assert time.monotonic() - begin < 30  # a lease is broken after 45 seconds, a FIFO never has a writer


def test_a_flood_of_opens_does_not_hold_up_a_deadline(places: Places, unit: Group) -> None:
    put_file(places.old / "wa1/other.json", "")
    flood = "import itertools\nfor name in itertools.cycle(['creds.json', 'other.json']): open(name).close()"
    with prepared(places, unit.path) as watch:
        for _number in range(4):
            unit.begin(sys.executable, "-c", flood, cwd=places.old / "wa1")
        assert watch.wait_for(used, SECONDS)
        begin = time.monotonic()
        assert not watch.wait_for(lambda seen: bool(seen["new"].opens), 0.5)
        assert time.monotonic() - begin < 30


def test_what_the_kernel_dropped_is_said(places: Places, unit: Group) -> None:
    most = int(pathlib.Path("/proc/sys/fs/fanotify/max_queued_events").read_text(encoding="ascii"))
    watch = prepared(places, unit.path)
    script = (
        f"for number in range({most + 1000}): open(f'key-{{number}}', 'w').close()\nprint('ready', flush=True)\ninput()"
    )
    wait_ready(unit.begin(sys.executable, "-c", script, cwd=places.old / "wa1"))
    with watch:
        assert watch.wait_for(lambda seen: not seen["old"].complete, SECONDS)


def test_nothing_stays_open(places: Places) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with prepared(places) as watch:
        (places.new / "wa2").mkdir()
        subprocess.run(["cat", places.new / "wa1/creds.json"], check=True, stdout=subprocess.DEVNULL)
        watch.wait_for(used, 0.1)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_thousand_accounts_are_watched_at_once(place: pathlib.Path, unit: Group) -> None:
    for number in range(1000):
        put_account(place / f"new/wa{number:03}", keys=())
    put_account(place / "old/wa1")
    begin = time.process_time()
    watch = prepared(Places(place / "new", place / "old"), unit.path)
    took = time.process_time() - begin
    with watch:
        wait_ready(unit.begin("sh", "-ec", READ.format(path=place / "new/wa777")))
        assert watch.wait_for(used, SECONDS)
        assert watch.seen()["new"] == Use(1, frozenset(("wa777",)))
    assert took < 2, took


def look(places: Places, unit: Group) -> Leads:
    with opened(places.new) as new, opened(places.old) as old:
        baileys = layout_named("baileys")
        return leads_of([unit.path], known_places({"new": (new, baileys), "old": (old, baileys)}))


NEW, OLD, NONE = frozenset(("new",)), frozenset(("old",)), frozenset[str]()

RUNNING: dict[str, tuple[t.Callable[[Places], tuple[list[str], dict[str, t.Any]]], Leads]] = {
    "a variable": (
        lambda places: (["sh", "-c", "echo ready; read line"], {"env": {"AUTH": str(places.new)}}),
        Leads(environment=NEW),
    ),
    "a relative variable": (
        lambda places: (["sh", "-c", "echo ready; read line"], {"env": {"AUTH": "new/wa9"}, "cwd": places.new.parent}),
        Leads(environment=NEW),
    ),
    "a variable that means another place in a container": (
        lambda places: (
            unshared(f"mount -t tmpfs none {places.new}; exec env AUTH={places.new} sh -c 'echo ready; read line'"),
            {},
        ),
        Leads(),
    ),
    "a variable whose directory is mounted over": (
        lambda places: (
            unshared(f"mount --bind {places.new} {places.old}; exec env A={places.old} sh -c 'echo ready; read line'"),
            {},
        ),
        Leads(environment=NEW, mounts=NEW),
    ),
    "a mount alone": (
        lambda places: (unshared(f"mount --bind {places.old} /mnt; echo ready; read line"), {}),
        Leads(mounts=OLD),
    ),
    "mounted where it is, as ReadWritePaths= does": (
        lambda places: (unshared(f"mount --bind {places.new} {places.new}; echo ready; read line"), {}),
        Leads(),
    ),
    "a working directory": (
        lambda places: (["sh", "-c", "echo ready; read line"], {"cwd": places.old / "wa1"}),
        Leads(working_directories=OLD),
    ),
    "an open file": (
        lambda places: (["sh", "-c", f"exec 5<{places.old}/wa1/creds.json; echo ready; read line"], {}),
        Leads(open_files=OLD),
    ),
    "a home directory": (
        lambda places: (["sh", "-c", "echo ready; read line"], {"env": {"HOME": str(places.new)}}),
        Leads(),
    ),
    "nothing": (lambda places: (["sh", "-c", "echo ready; read line"], {}), Leads()),
}


@pytest.mark.parametrize("case", RUNNING)
def test_what_a_running_process_has_leads_somewhere(places: Places, unit: Group, case: str) -> None:
    command, expected = RUNNING[case]
    argv, options = command(places)
    wait_ready(unit.begin(*argv, **options))
    assert look(places, unit) == expected._replace(processes=1)


def test_all_processes_of_a_unit_count(places: Places, unit: Group) -> None:
    """As of PM2: two programs, each in a directory of its own."""
    for directory in places:
        wait_ready(unit.begin("sh", "-c", "echo ready; read line", cwd=directory))
    found = look(places, unit)
    assert (found.working_directories, found.processes) == ({"new", "old"}, 2)


def test_a_hostile_environment_costs_little(places: Places, unit: Group) -> None:
    environment = {f"V{number}": "/a" * 400 + f"/{number}" for number in range(1500)}
    for _number in range(5):
        wait_ready(unit.begin("sh", "-c", "echo ready; read line", env=environment))
    begin = time.monotonic()
    found = look(places, unit)
    assert time.monotonic() - begin < 60
    assert (found.environment, found.complete) == (NONE, False)


def test_a_binding_is_read_back(places: Places, unit: Group) -> None:
    wait_ready(unit.begin(*unshared(f"mount --bind {places.new} {places.old}; echo ready; exec sh -c 'read line'")))
    (pid,) = (int(line) for line in (unit.directory / "cgroup.procs").read_text().split())
    with opened(places.new) as new, opened(places.old) as old:
        bound = binding_of(pid, str(places.old), new)
        assert bound.reached
        assert bound.mount
        assert bound.mount.mount_point == str(places.old)
        assert not binding_of(pid, str(places.old), old).reached
        # A directory that merely lies there, and one that is not there.
        assert binding_of(os.getpid(), str(places.new), new) == (True, None)
        assert binding_of(pid, "/nothing/at/all", new) == (False, None)
    assert binding_of(2**22 + 1, str(places.old), 0) == (False, None)


def test_a_link_never_leads_out_of_a_container(places: Places, unit: Group, place: pathlib.Path) -> None:
    """The link means a path below the container's root, where nothing is; outside it would mean the sessions path."""
    root = place / "root"
    root.mkdir()
    for name in ("bin", "lib", "lib64", "usr"):
        (root / name).mkdir()
    (root / "auth").symlink_to(places.new)
    mounts = " ".join(f"mount --rbind /{name} {root}/{name};" for name in ("bin", "lib", "lib64", "usr"))
    wait_ready(unit.begin(*unshared(f"{mounts} exec chroot {root} sh -c 'echo ready; read line'")))
    (pid,) = (int(line) for line in (unit.directory / "cgroup.procs").read_text().split())
    with opened(places.new) as new:
        assert not binding_of(pid, "/auth", new).reached
        inside = root / str(places.new).lstrip("/")
        inside.mkdir(parents=True)
        assert not binding_of(pid, "/auth", new).reached
        with opened(inside) as meant:
            assert binding_of(pid, "/auth", meant).reached
