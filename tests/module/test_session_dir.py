# SPDX-License-Identifier: GPL-3.0-or-later
"""session_dir, the real module as root, on real filesystems, with real other users and a real attacker."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._directory import job as directory_job
from conftest import Mount, RunModule

CANARY = "5511999990000"
UID, GID = 65534, 65534  # nobody and nogroup: a user whose group has another name
OTHER = 1
OPTIONS: dict[str, t.Any] = {
    "state": "present", "unit": None, "owner": None, "group": None, "mode": "0750", "allow_ephemeral": False,
    "require_mount": False, "min_free_bytes": None, "min_free_inodes": None, "recurse": False,
}  # fmt: skip


def facts(path: pathlib.Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def put(path: pathlib.Path, uid: int = UID, mode: int = 0o644) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CANARY)
    os.chown(path, uid, uid)
    path.chmod(mode)
    return path


def test_check_mode_foresees_then_a_run_makes_it_then_nothing_changes(
    run_module: RunModule, place: pathlib.Path
) -> None:
    path = place / "whatsapp-backend" / "sessions"
    foreseen = run_module("session_dir", check=True, diff=True, path=f"{path}/", owner="nobody")
    assert not path.parent.exists()
    made = run_module("session_dir", diff=True, path=str(path), owner="nobody")
    assert facts(path) == (UID, GID, 0o750)
    assert facts(path.parent) == (0, 0, 0o755)
    before = path.stat()
    again = run_module("session_dir", diff=True, path=str(path), owner="nobody")
    assert [foreseen["changed"], made["changed"], again["changed"]] == [True, True, False]
    for told in (foreseen, made, again):
        assert {name: told[name] for name in ("path", "owner", "group", "mode")} == {
            "path": str(path),
            "owner": "nobody",
            "group": "nogroup",
            "mode": "0750",
        }
        filesystem = told["filesystem"]
        assert (filesystem["type"], filesystem["mount_point"], filesystem["ephemeral"]) == ("ext4", "/srv", False)
        assert filesystem["free_bytes"] > 1 << 20
        assert filesystem["free_inodes"] > 100
        assert sorted(filesystem) == ["ephemeral", "free_bytes", "free_inodes", "mount_point", "type"]
    assert [foreseen["writable_by_owner"], made["writable_by_owner"], again["writable_by_owner"]] == [None, True, True]
    assert foreseen["diff"] == made["diff"] == {
        "before": {"path": str(path), "state": "absent"},
        "after": {"path": str(path), "state": "present", "owner": "nobody", "group": "nogroup", "mode": "0750"},
    }  # fmt: skip
    assert again["diff"]["before"] == again["diff"]["after"]
    assert (path.stat().st_mtime_ns, path.stat().st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_umask_of_the_caller_does_not_matter(run_module: RunModule, place: pathlib.Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        run_module("session_dir", path=str(place / "a/b/c"), owner="nobody")
    finally:
        os.umask(before)
    assert [facts(place / path)[2] for path in ("a", "a/b", "a/b/c")] == [0o755, 0o755, 0o750]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (0, 0, 0o750)),
        ({"owner": "nobody"}, (UID, GID, 0o750)),
        ({"owner": "65534", "group": "root"}, (UID, 0, 0o750)),
        ({"owner": 4242, "group": 4343}, (4242, 4343, 0o750)),
        ({"group": "daemon"}, (0, 1, 0o750)),
        ({"mode": "0700"}, (0, 0, 0o700)),
        ({"mode": 0o700}, (0, 0, 0o700)),
        ({"mode": "u=rwx,g=rxs,o="}, (0, 0, 0o2750)),
    ],
)
def test_owner_group_and_mode(
    run_module: RunModule, place: pathlib.Path, options: dict[str, t.Any], expected: tuple[int, int, int]
) -> None:
    result = run_module("session_dir", path=str(place / "sessions"), **options)
    assert facts(place / "sessions") == expected
    assert result["changed"]
    assert not run_module("session_dir", path=str(place / "sessions"), **options)["changed"]


def test_a_directory_that_is_there_is_corrected_and_otherwise_kept(run_module: RunModule, place: pathlib.Path) -> None:
    creds = put(place / "sessions/wa1/creds.json", uid=OTHER)
    foreseen = run_module("session_dir", check=True, path=str(place / "sessions"), owner="nobody")
    assert facts(place / "sessions") == (0, 0, 0o755)
    assert (foreseen["owner"], foreseen["mode"], foreseen["writable_by_owner"]) == ("nobody", "0750", None)
    result = run_module("session_dir", diff=True, path=str(place / "sessions"), owner="nobody")
    assert facts(place / "sessions") == (UID, GID, 0o750)
    assert result["diff"]["before"]["owner"] == "root"
    assert facts(creds) == (OTHER, OTHER, 0o644)  # without recurse nothing below is touched
    kept = run_module("session_dir", path=str(place / "sessions"))
    assert (kept["changed"], kept["owner"], kept["writable_by_owner"]) == (False, "nobody", True)


# Refusals. Each is one sentence, and everything is as it was.


def refused(run_module: RunModule, place: pathlib.Path, **options: t.Any) -> str:
    before = snapshot(place)
    for check in (True, False):
        result = run_module("session_dir", check=check, **options)
        assert result["failed"], result
        assert "\n" not in result["msg"]
        assert snapshot(place) == before
    return t.cast(str, result["msg"])


def snapshot(place: pathlib.Path) -> list[tuple[t.Any, ...]]:
    found = [place, *sorted(place.rglob("*"))]
    return [(str(path), *facts(path), path.lstat().st_ino, path.lstat().st_mtime_ns) for path in found]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "sessions"}, "relative path"),
        ({"path": ".baileys_auth/"}, "relative path"),
        ({"path": "/"}, "a system or home directory"),
        ({"path": "/etc"}, "a system or home directory"),
        ({"path": "/var/lib/"}, "a system or home directory"),
        ({"path": "/home/alice"}, "a system or home directory"),
        ({"path": "/tmp"}, "a system or home directory"),
        ({"path": "/tmp/wa"}, "below /tmp"),
        ({"path": "/var/tmp/wa/sessions"}, "below /var/tmp"),
        ({"path": "/run/wa"}, "below /run"),
        ({"path": "/var/run/wa"}, "below /run"),
        ({"path": "/dev/shm/wa"}, "below /dev/shm"),
        ({"path": "/tmp/wa", "allow_ephemeral": True}, "all users can write to /tmp"),
        ({"path": "/srv/wa", "owner": "nobody-here"}, "the user 'nobody-here' does not exist"),
        ({"path": "/srv/wa", "group": "nogroup-here"}, "the group 'nogroup-here' does not exist"),
        ({"path": "/srv/wa", "owner": 4242}, "no primary group"),
        ({"path": "/srv/wa", "mode": 750}, "locks the owner out"),
        ({"path": "/srv/wa", "mode": "rwxr-x---"}, "which is not a mode"),
        ({"path": "/srv/wa", "unit": "a/b"}, "is not a valid unit name"),
        ({"path": "/srv/wa", "unit": "wa"}, "systemd does not run on this host"),
        ({"path": "/srv/w\na"}, "control character"),
        ({"path": "/srv/../etc/wa"}, "'..'"),
        ({}, "missing required arguments: path"),
    ],
)
def test_input_that_makes_no_sense(
    run_module: RunModule, place: pathlib.Path, options: dict[str, t.Any], words: str
) -> None:
    assert words in refused(run_module, place, **options)


def test_links_and_files_in_the_way(run_module: RunModule, place: pathlib.Path) -> None:
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    (place / "dangling").symlink_to("nowhere")
    put(place / "file")
    os.mkfifo(place / "fifo")
    for name in ("link", "dangling"):
        assert "is a symbolic link" in refused(run_module, place, path=str(place / name), owner="nobody")
        assert "is a symbolic link" in refused(run_module, place, path=str(place / name), state="absent")
    for name in ("file", "fifo"):
        assert "is not a directory" in refused(run_module, place, path=str(place / name))
        assert "is not a directory" in refused(run_module, place, path=str(place / name / "below"))
    assert "leads to no directory" in refused(run_module, place, path=str(place / "dangling/below"))


def test_a_link_above_made_by_root_is_followed(run_module: RunModule, place: pathlib.Path) -> None:
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    result = run_module("session_dir", path=str(place / "link/sessions"), owner="nobody")
    assert result["path"] == str(place / "link/sessions")
    assert facts(place / "real/sessions") == (UID, GID, 0o750)


def test_a_link_above_made_by_root_to_the_system_is_refused(run_module: RunModule, place: pathlib.Path) -> None:
    (place / "link").symlink_to("/var")
    assert "resolves to /var/lib, a system or home directory" in refused(
        run_module, place, path=str(place / "link/lib")
    )


@pytest.mark.parametrize(("maker", "target"), [(OTHER, 0), (OTHER, UID), (UID, 0), (UID, OTHER)])
def test_a_link_above_made_by_somebody_else_is_not_followed(
    run_module: RunModule, place: pathlib.Path, maker: int, target: int
) -> None:
    """Its maker could turn it elsewhere at any time; the owner's own link to the owner's own directory is no danger."""
    (place / "target").mkdir()
    os.chown(place / "target", target, target)
    (place / "link").symlink_to("target")
    os.lchown(place / "link", maker, maker)
    assert "symbolic link" in refused(run_module, place, path=str(place / "link/sessions"), owner="nobody")
    os.lchown(place / "link", UID, UID)
    os.chown(place / "target", UID, UID)
    assert run_module("session_dir", path=str(place / "link/sessions"), owner="nobody")["changed"]


def test_a_link_of_root_where_others_can_replace_it_is_not_followed(run_module: RunModule, place: pathlib.Path) -> None:
    (place / "target").mkdir()
    home = place / "home"
    home.mkdir()
    (home / "link").symlink_to(place / "target")
    os.chown(home, OTHER, OTHER)
    assert f"{home} belongs to daemon" in refused(run_module, place, path=str(home / "link/sessions"), owner="nobody")


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "words"),
    [
        (0, 0, 0o777, "all users can write"),
        (0, 0, 0o1777, "all users can write"),
        (0, 2, 0o775, "the group bin can write"),
        (OTHER, OTHER, 0o755, "belongs to daemon"),
    ],
)
def test_parents_that_others_can_write(
    run_module: RunModule, place: pathlib.Path, uid: int, gid: int, mode: int, words: str
) -> None:
    parent = place / "parent"
    parent.mkdir()
    os.chown(parent, uid, gid)
    parent.chmod(mode)
    for path in (parent / "sessions", parent / "wa/sessions"):
        assert words in refused(run_module, place, path=str(path), owner="nobody")
    (parent / "wa").mkdir()
    if mode & stat.S_ISVTX:  # below what root has there nobody else can change anything
        assert run_module("session_dir", path=str(parent / "wa/sessions"), owner="nobody")["changed"]
    else:
        assert words in refused(run_module, place, path=str(parent / "wa/sessions"), owner="nobody")


def test_a_parent_of_the_owner_is_fine(run_module: RunModule, place: pathlib.Path) -> None:
    os.chown(place, UID, GID)
    result = run_module("session_dir", path=str(place / "wa/sessions"), owner="nobody")
    assert facts(place / "wa") == (0, 0, 0o755)
    assert result["writable_by_owner"]


def test_a_parent_that_the_owner_may_not_pass(run_module: RunModule, place: pathlib.Path) -> None:
    (place / "closed").mkdir(mode=0o700)
    words = refused(run_module, place, path=str(place / "closed/wa/sessions"), owner="nobody")
    assert f"nobody cannot access {place}/closed/wa/sessions: it may not enter {place}/closed" in words
    assert run_module("session_dir", path=str(place / "closed/wa/sessions"))["changed"]  # root may


def test_memory_and_container_layers_do_not_last(run_module: RunModule, place: pathlib.Path, mount: Mount) -> None:
    for kind in ("tmpfs", "overlay"):
        where = mount(kind, place / kind)
        assert f"it is on {kind}" in refused(run_module, place, path=str(where / "wa/sessions"), owner="nobody")
        result = run_module("session_dir", path=str(where / "wa/sessions"), owner="nobody", allow_ephemeral=True)
        assert (result["filesystem"]["type"], result["filesystem"]["ephemeral"]) == (kind, True)
        assert result["writable_by_owner"]
        assert f"it is on {kind}" in refused(run_module, place, path=str(where / "wa/sessions"), owner="nobody")


def test_a_mount_of_its_own(run_module: RunModule, place: pathlib.Path, mount: Mount) -> None:
    where = place / "volume"
    where.mkdir()
    result = run_module("session_dir", check=True, path="/opt/wa-tests/sessions", require_mount=True)
    assert "is not on a mount of its own but on the filesystem of /," in result["msg"]
    mount("ext4", where)
    for path in (where / "sessions", where):
        result = run_module("session_dir", path=str(path), owner="nobody", require_mount=True)
        assert result["filesystem"]["mount_point"] == str(where)
        assert facts(path) == (UID, GID, 0o750)


def test_a_mount_that_hides_another_is_the_one_that_counts(
    run_module: RunModule, place: pathlib.Path, mount: Mount
) -> None:
    where = mount("tmpfs", place / "twice")
    mount("ext4", where)
    assert run_module("session_dir", path=str(where / "sessions"))["filesystem"]["type"] == "ext4"


def test_too_little_room(run_module: RunModule, place: pathlib.Path, mount: Mount) -> None:
    where = mount("ext4", place / "small", megabytes=4, inodes=64)
    path = str(where / "sessions")
    assert "bytes free, fewer than the 100000000 of min_free_bytes" in refused(
        run_module, place, path=path, min_free_bytes=100_000_000
    )
    assert "more files, fewer than the 65 of min_free_inodes" in refused(
        run_module, place, path=path, min_free_inodes=65
    )
    result = run_module("session_dir", path=path, min_free_bytes=100_000, min_free_inodes=10)
    assert result["changed"]


def test_a_full_filesystem_is_not_writable_and_nothing_half_made_stays(
    run_module: RunModule, place: pathlib.Path, mount: Mount
) -> None:
    where = mount("ext4", place / "full", megabytes=4, inodes=16)
    run_module("session_dir", path=str(where / "before"), owner="nobody")
    with contextlib.suppress(OSError):
        for number in range(64):
            (where / str(number)).touch()
    failed = run_module("session_dir", path=str(where / "wa/sessions"), owner="nobody")
    assert "No space left on device" in failed["msg"]
    assert not (where / "wa").exists()
    there = run_module("session_dir", path=str(where / "before"), owner="nobody")
    assert (there["changed"], there["writable_by_owner"]) == (False, False)
    assert "nobody cannot write in" in there["warnings"][0]


def test_half_of_the_parents_is_taken_back_when_the_rest_cannot_be_made(
    run_module: RunModule, place: pathlib.Path, mount: Mount
) -> None:
    where = mount("ext4", place / "almost-full", megabytes=4, inodes=16)
    made = []
    with contextlib.suppress(OSError):
        for number in range(64):
            (where / str(number)).touch()
            made.append(where / str(number))
    made[-1].unlink()  # room for one directory of three
    assert "No space left" in run_module("session_dir", path=str(where / "a/b/sessions"))["msg"]
    assert not (where / "a").exists()


def test_a_read_only_filesystem(run_module: RunModule, place: pathlib.Path, mount: Mount) -> None:
    where = mount("ext4", place / "disk")
    run_module("session_dir", path=str(where / "sessions"), owner="nobody")
    subprocess.run(["mount", "-o", "remount,ro", str(where)], check=True, timeout=30)
    for name in ("sessions", "new"):
        assert "mounted read-only" in refused(run_module, place, path=str(where / name), owner="nobody")


def test_an_immutable_directory_is_an_error_without_a_traceback(run_module: RunModule, place: pathlib.Path) -> None:
    path = place / "sessions"
    path.mkdir()
    subprocess.run(["chattr", "+i", str(path)], check=True, timeout=30)
    try:
        result = run_module("session_dir", path=str(path), owner="nobody")
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True, timeout=30)
    assert f"cannot finish {path}: Operation not permitted; check what prevents it" in result["msg"]


# Removing.


def test_absent_removes_an_empty_directory_only(run_module: RunModule, place: pathlib.Path) -> None:
    path = place / "sessions"
    creds = put(path / "wa1/creds.json")
    assert "holds 1 entries, and only an empty directory is removed" in refused(
        run_module, place, path=str(path), state="absent"
    )
    creds.unlink()
    creds.parent.rmdir()
    assert run_module("session_dir", check=True, path=str(path), state="absent")["changed"]
    assert path.exists()
    removed = run_module("session_dir", diff=True, path=str(path), state="absent")
    assert (removed["changed"], removed["path"], removed["diff"]["after"]["state"]) == (True, str(path), "absent")
    assert not path.exists()
    assert not run_module("session_dir", path=str(path), state="absent")["changed"]
    assert not run_module("session_dir", path=str(path / "deeper/still"), state="absent")["changed"]


def test_absent_does_not_remove_what_something_is_mounted_on(
    run_module: RunModule, place: pathlib.Path, mount: Mount
) -> None:
    where = mount("tmpfs", place / "volume")
    result = run_module("session_dir", path=str(where), state="absent")
    assert "Device or resource busy" in result["msg"]


# Below.


def test_recurse_corrects_everything_below_and_tells_counts_only(run_module: RunModule, place: pathlib.Path) -> None:
    path = place / "sessions"
    creds = put(path / CANARY / "creds.json", uid=0, mode=0o4755)
    key = put(path / CANARY / f"session-{CANARY}.json", uid=OTHER, mode=0o600)
    right = put(path / "wa2/creds.json", uid=UID, mode=0o640)
    os.chown(right.parent, UID, GID)
    right.parent.chmod(0o750)
    untouched = right.stat().st_ctime_ns
    foreseen = run_module("session_dir", check=True, diff=True, path=str(path), owner="nobody", recurse=True)
    assert facts(creds) == (0, 0, 0o4755)
    done = run_module("session_dir", diff=True, path=str(path), owner="nobody", recurse=True)
    again = run_module("session_dir", diff=True, path=str(path), owner="nobody", recurse=True)
    assert [facts(file) for file in (creds, key, right)] == [(UID, GID, 0o640)] * 3
    assert [facts(folder) for folder in (path, creds.parent)] == [(UID, GID, 0o750)] * 2
    assert right.stat().st_ctime_ns == untouched
    assert foreseen["repaired"] == done["repaired"] == {"owners": 3, "modes": 3, "left": 0}
    assert again["repaired"] == {"owners": 0, "modes": 0, "left": 0}
    assert [foreseen["changed"], done["changed"], again["changed"]] == [True, True, False]
    assert done["diff"]["before"]["corrections_below"] == 6
    assert CANARY not in json.dumps([foreseen, done, again])


def test_recurse_leaves_what_it_is_not_safe_to_give_away(
    run_module: RunModule, place: pathlib.Path, mount: Mount
) -> None:
    secret = put(place / "root-only/shadow", uid=0, mode=0o600)
    path = place / "sessions"
    put(path / "wa1/creds.json")
    (path / "wa1/link").symlink_to(secret)
    (path / "wa1/tree").symlink_to(secret.parent)
    os.link(secret, path / "wa1/hard")
    os.mkfifo(path / "wa1/fifo")
    os.mknod(path / "wa1/device", stat.S_IFBLK | 0o600, os.makedev(7, 250))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path / "wa1/socket"))
    other = put(mount("tmpfs", path / "wa1/mounted") / "file", uid=0)
    area = put(path / ".whatsapp-ops/staging/file", uid=0, mode=0o600)
    result = run_module("session_dir", path=str(path), owner="nobody", recurse=True)
    assert result["repaired"]["left"] == 5
    assert "5 entries below" in result["warnings"][0]
    assert facts(secret) == (0, 0, 0o600)
    assert facts(secret.parent) == (0, 0, 0o755)
    assert facts(path / "wa1/device") == (0, 0, 0o600)
    assert facts(other) == (0, 0, 0o644)
    assert facts(area) == (0, 0, 0o600)
    assert facts(area.parents[1]) == (0, 0, 0o755)
    assert not run_module("session_dir", path=str(path), owner="nobody", recurse=True)["changed"]


ATTACK = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
here = os.open(sys.argv[1], os.O_RDONLY)
exchange = lambda one, other: libc.renameat2(here, one, here, other, 2)
os.setgid(65534); os.setuid(65534)
print("ready", flush=True)
while True:
    exchange(b"account", b"link-to-root")
    exchange(b"file", b"hard")
    exchange(b"file", b"link-to-file")
"""


@contextlib.contextmanager
def attacker(directory: pathlib.Path) -> t.Iterator[None]:
    """A service user who swaps directories for links, and files for links and hard links, as fast as the kernel lets it."""
    process = subprocess.Popen([sys.executable, "-c", ATTACK, str(directory)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_an_attacker_who_swaps_entries_gains_nothing(run_module: RunModule, place: pathlib.Path) -> None:
    """The races of facts/safety.md H6 to H10: naive code loses this within a second."""
    victims = [put(place / f"root-only/{number}", uid=0, mode=0o600) for number in range(20)]
    linked = put(place / "linked-secret", uid=0, mode=0o600)
    path = place / "sessions"
    for number in range(20):
        put(path / "account" / str(number))
    put(path / "file")
    os.link(linked, path / "hard")
    (path / "link-to-file").symlink_to(linked)
    (path / "link-to-root").symlink_to(place / "root-only")
    os.chown(path, UID, GID)
    with attacker(path):
        until = time.monotonic() + 8
        while time.monotonic() < until:
            for mode in ("0750", "0700"):
                result = run_module("session_dir", path=str(path), owner="nobody", mode=mode, recurse=True)
                assert not result.get("failed"), result
                for file in (*victims, linked):
                    assert facts(file) == (0, 0, 0o600)
                assert facts(place / "root-only") == (0, 0, 0o755)


def test_naive_code_does_lose_to_this_attacker(place: pathlib.Path) -> None:
    """The test above would be worth nothing if the attack were none: chown by path, after a look that saw no link."""
    victim = put(place / "root-only/0", uid=0, mode=0o600)
    path = place / "sessions"
    put(path / "account/0")
    put(path / "file")
    os.link(put(place / "linked-secret", uid=0), path / "hard")
    (path / "link-to-file").symlink_to(place / "linked-secret")
    (path / "link-to-root").symlink_to(place / "root-only")
    os.chown(path, UID, GID)
    with attacker(path):
        until = time.monotonic() + 20
        while time.monotonic() < until and facts(victim)[0] == 0:
            if not (path / "account").is_symlink():
                os.chown(path / "account/0", UID, GID)
    assert facts(victim)[0] == UID


def test_a_path_that_is_swapped_for_a_link_while_it_is_made_leads_nowhere(
    run_module: RunModule, place: pathlib.Path
) -> None:
    """The owner of the parent swaps the path itself: what is behind the link never changes."""
    victim = place / "root-only"
    put(victim / "shadow", uid=0, mode=0o600)
    home = place / "home"
    (home / "account").mkdir(parents=True)
    (home / "link-to-root").symlink_to(victim)
    put(home / "file")
    (home / "link-to-file").symlink_to("file")
    os.link(home / "file", home / "hard")
    os.chown(home, UID, GID)
    replaced = 0
    with attacker(home):
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for mode in ("0750", "0700"):
                result = run_module("session_dir", path=str(home / "account"), owner="nobody", mode=mode)
                replaced += bool(result.get("failed"))
                assert "\n" not in result.get("msg", "")
                assert facts(victim) == (0, 0, 0o755)
    assert replaced  # the attack was met


@pytest.mark.parametrize("state", ["present", "absent"])
def test_only_the_directory_that_was_looked_at_is_changed(place: pathlib.Path, state: str) -> None:
    """Between look and deed the owner of the parent puts another directory of root at the path."""
    (place / "sessions").mkdir()
    (place / "of-root").mkdir(mode=0o700)
    params = directory_job.read_params({**OPTIONS, "path": str(place / "sessions"), "owner": "nobody", "state": state})
    seen = directory_job.observe(params)
    steps = directory_job.plan(seen, params)
    (place / "sessions").rename(place / "aside")
    (place / "of-root").rename(place / "sessions")
    with pytest.raises(SessionsError, match="was replaced during this run"):
        directory_job.apply(steps, seen, params)
    assert facts(place / "sessions") == (0, 0, 0o700)
    assert facts(place / "aside") == (0, 0, 0o755)


def test_a_parent_that_becomes_a_link_between_look_and_deed_is_not_followed(place: pathlib.Path) -> None:
    (place / "wa").mkdir()
    (place / "of-root").mkdir()
    params = directory_job.read_params({**OPTIONS, "path": str(place / "wa/sessions"), "owner": "nobody"})
    seen = directory_job.observe(params)
    steps = directory_job.plan(seen, params)
    (place / "wa").rmdir()
    (place / "wa").symlink_to("of-root")
    with pytest.raises(SessionsError, match="was replaced by a link during this run"):
        directory_job.apply(steps, seen, params)
    assert list((place / "of-root").iterdir()) == []


def test_another_user_may_run_it_for_themselves(place: pathlib.Path) -> None:
    os.chown(place, UID, GID)
    options = {**OPTIONS, "path": str(place / "wa/sessions"), "recurse": True}

    def run() -> tuple[bool, dict[str, t.Any]]:
        outcome = core_job.execute(directory_job, options, check_mode=False)
        return outcome.changed, dict(outcome.report.values)

    changed, values = as_nobody(run)
    assert (changed, values["owner"], values["mode"], values["writable_by_owner"]) == (True, "nobody", "0750", True)
    assert facts(place / "wa/sessions") == (UID, GID, 0o750)
    assert as_nobody(run)[0] is False


def as_nobody(work: t.Callable[[], t.Any]) -> t.Any:
    """Do ``work`` in a process that has given up root. Not a new interpreter: that user may not be able to read ours."""
    with open("/proc/self/stat", encoding="ascii"):  # loads the codec, which it could not read either
        reader, writer = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        os.setgroups([])
        os.setgid(GID)
        os.setuid(UID)
        try:
            writer.send(work())
        except BaseException as error:
            writer.send(repr(error))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    answer = reader.recv()
    process.join(30)
    return answer
