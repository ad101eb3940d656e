# SPDX-License-Identifier: GPL-3.0-or-later
"""The job of session_dir as decision tables: what it refuses, what it plans and what it tells, from what was seen."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._directory import job as directory_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._directory import observe as directory_observe
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._directory.observe import Params, PathEntry, State
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._directory.refusals import is_taken
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._directory.steps import (
    ChangeDirectory,
    MakeDirectory,
    MakeParents,
    RemoveDirectory,
    RepairBelow,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs import ancestors
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.ancestors import (
    Directory,
    PathChain,
    untrusted_writer,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.chown_tree import OwnershipTally, Wanted
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.filesystem import Filesystem
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.modes import read_mode
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.users import Identity
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import unit as systemd_unit
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.sandbox import Verdict

PATH = "/var/lib/wa/sessions"
WA = Identity(1500, 1600, "wa", "wa-data")
ROOT = Identity(0, 0, "root", "root")
DISK = Filesystem("ext4", "/", False, 10_000, 500)
OPTIONS: dict[str, t.Any] = {
    "path": PATH, "state": "present", "unit": None, "owner": None, "group": None, "mode": "0750", "allow_ephemeral": False,
    "require_mount": False, "min_free_bytes": None, "min_free_inodes": None, "recurse": False,
}  # fmt: skip


def way(*missing: str, name: str = "sessions", **last: t.Any) -> PathChain:
    """The way to PATH; ``last`` changes the deepest directory above it that exists."""
    above = [
        Directory("/", 0, 0, 0o755, holds=0),
        Directory("/var", 0, 0, 0o755, holds=0),
        Directory("/var/lib", 0, 0, 0o755, holds=0),
    ]
    if not missing:
        above.append(Directory("/var/lib/wa", 0, 0, 0o755))
    above[-1] = above[-1]._replace(**last)
    return PathChain(tuple(above), missing, name)


def params(**options: t.Any) -> Params:
    return directory_job.read_params({**OPTIONS, **options})


def state(entry: PathEntry | None = None, **known: t.Any) -> State:
    return State(**{"way": way(), "filesystem": DISK, "wanted": WA, **known, "entry": entry})


def directory(uid: int = 1500, gid: int = 1600, mode: int = 0o750) -> PathEntry:
    return PathEntry("directory", uid, gid, mode, (1, 2))


@pytest.mark.parametrize(
    ("seen", "options", "steps"),
    [
        (state(), {}, (MakeDirectory(WA, 0o750),)),
        (state(way=way("wa")), {}, (MakeParents(), MakeDirectory(WA, 0o750))),
        (state(), {"mode": "u=rwx,go="}, (MakeDirectory(WA, 0o700),)),
        (state(), {"mode": "o-rx"}, (MakeDirectory(WA, 0o750),)),
        (state(directory()), {}, ()),
        (state(directory(uid=0)), {}, (ChangeDirectory(WA, 0o750),)),
        (state(directory(gid=0)), {}, (ChangeDirectory(WA, 0o750),)),
        (state(directory(mode=0o755)), {}, (ChangeDirectory(WA, 0o750),)),
        (state(directory(mode=0o2770)), {"mode": "o="}, ()),
        (state(directory(), below=OwnershipTally()), {"recurse": True}, ()),
        (state(directory(), below=OwnershipTally(hard_links=3, special=1)), {"recurse": True}, ()),
        (
            state(directory(), below=OwnershipTally(owners=1)),
            {"recurse": True},
            (RepairBelow(Wanted(WA, read_mode("0750"))),),
        ),
        (
            state(directory(uid=0), below=OwnershipTally(modes=1)),
            {"recurse": True},
            (RepairBelow(Wanted(WA, read_mode("0750"))), ChangeDirectory(WA, 0o750)),
        ),
        (state(), {"state": "absent"}, ()),
        (state(directory()), {"state": "absent"}, (RemoveDirectory(),)),
    ],
)
def test_what_is_planned(seen: State, options: dict[str, t.Any], steps: tuple[t.Any, ...]) -> None:
    assert directory_job.plan(seen, params(**options)) == steps


@pytest.mark.parametrize(
    ("seen", "options", "message"),
    [
        (state(PathEntry("link", 0, 0, 0o777)), {}, "is a symbolic link"),
        (state(PathEntry("other", 0, 0, 0o644)), {}, "exists and is not a directory"),
        (state(PathEntry("link", 0, 0, 0o777)), {"state": "absent"}, "is a symbolic link"),
        (state(way=way(path="/usr/bin")), {}, "resolves to /usr/bin/sessions, a system or home directory"),
        (state(way=way(uid=1700)), {}, "/var/lib/wa belongs to 1700, so a user other than root and wa"),
        (state(way=way(mode=0o777)), {}, "all users can write to /var/lib/wa (mode 0777)"),
        (state(way=way(mode=0o1777)), {}, "all users can write to /var/lib/wa (mode 1777)"),
        (state(way=way(mode=0o775, gid=4242, writers=(1500, 1700))), {}, "the group 4242 can write to /var/lib/wa"),
        (
            state(filesystem=DISK._replace(type="tmpfs", mount_point="/var/lib/wa")),
            {},
            "would not survive a restart: it is on tmpfs",
        ),
        (
            state(filesystem=DISK._replace(type="overlay")),
            {},
            "would not survive a restart: it is on overlay",
        ),
        (state(), {"require_mount": True}, "is not on a mount of its own but on the filesystem of /"),
        (state(filesystem=DISK._replace(read_only=True)), {}, "mounted read-only"),
        (state(), {"min_free_bytes": 10_001}, "has 10000 bytes free, fewer than the 10001"),
        (state(), {"min_free_inodes": 501}, "has room for 500 more files, fewer than the 501"),
        (
            state(closed_to_owner="/var/lib/wa"),
            {},
            "wa cannot access /var/lib/wa/sessions: it may not enter /var/lib/wa",
        ),
        (
            state(sandbox=Verdict(False, "ProtectSystem=strict", (f"ReadWritePaths={PATH}",))),
            {"unit": "wa"},
            f"ProtectSystem=strict keeps the unit wa.service from writing in {PATH}; add ReadWritePaths={PATH} to [Service]",
        ),
        (state(directory(), entries=2), {"state": "absent"}, "holds 2 entries, and only an empty directory is removed"),
    ],
)
def test_what_is_refused(seen: State, options: dict[str, t.Any], message: str) -> None:
    with pytest.raises(SessionsError) as refused:
        directory_job.plan(seen, params(**options))
    assert message in str(refused.value)
    assert str(refused.value).endswith("; nothing was changed")


@pytest.mark.parametrize(
    ("seen", "options"),
    [
        (state(way=way(uid=1500)), {}),
        (state(way=way(mode=0o775, gid=1600, writers=(1500,))), {}),
        (state(way=way(mode=0o775, gid=0)), {}),
        (state(way=way(uid=77), own_uid=77), {}),
        (state(filesystem=DISK._replace(type="tmpfs")), {"allow_ephemeral": True}),
        (state(filesystem=DISK._replace(mount_point="/var/lib/wa")), {"require_mount": True}),
        (state(), {"min_free_bytes": 10_000, "min_free_inodes": 500}),
        (state(filesystem=DISK._replace(free_inodes=None)), {"min_free_inodes": 10**9}),
        (state(sandbox=Verdict(True)), {"unit": "wa"}),
        # Absent asks only what removing it needs.
        (state(directory(), filesystem=DISK._replace(type="tmpfs")), {"state": "absent"}),
        (state(directory(), way=way(uid=1700)), {"state": "absent"}),
    ],
)
def test_what_is_not_refused(seen: State, options: dict[str, t.Any]) -> None:
    directory_job.plan(seen, params(**options))


@pytest.mark.parametrize(
    ("above", "who"),
    [
        # A sticky directory is safe above what belongs to someone trusted; not where anybody can make the next one.
        ([(0, 0o1777, 0), (0, 0o755, None)], None),
        ([(0, 0o1777, 1500), (1500, 0o700, None)], None),
        ([(0, 0o1777, 1700), (0, 0o755, None)], "/0"),
        ([(0, 0o1777, None)], "/0"),
        ([(0, 0o1777, 0)], "/0"),
        ([(0, 0o777, 0), (0, 0o755, None)], "/0"),
        ([(1700, 0o755, 0), (0, 0o755, None)], "/0"),
        ([(0, 0o755, 0), (1700, 0o700, None)], "/1"),
    ],
)
def test_who_could_swap_a_directory_above(above: list[tuple[int, int, int | None]], who: str | None) -> None:
    directories = tuple(
        Directory(f"/{number}", uid, 0, mode, holds=holds) for number, (uid, mode, holds) in enumerate(above)
    )
    found = untrusted_writer(PathChain(directories, (), "sessions"), {0, 1500})
    assert (found is None) if who is None else (found is not None and who in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "sessions"}, "give an absolute path"),
        ({"path": "./.baileys_auth"}, "give an absolute path"),
        ({"path": "/srv/../etc"}, "'..'"),
        ({"path": "/srv/a\nb"}, "control character"),
        ({"path": "/var//lib/"}, "path is /var/lib, a system or home directory"),
        ({"mode": 750}, "mode 750 is 1356 in octal, which locks the owner out"),
        ({"mode": "0050"}, "locks the owner out"),
        ({"mode": "private"}, "which is not a mode"),
        ({"unit": "../wa"}, "is not a valid unit name"),
    ],
)
def test_what_no_host_could_accept(options: dict[str, t.Any], message: str) -> None:
    with pytest.raises(SessionsError) as refused:
        params(**options)
    assert message in str(refused.value)


SYSTEM = (
    "/ /bin /bin/x /boot/x /dev /dev/shm /dev/x /etc /home /home/alice /lib /lib/x /lib64 /media /mnt /opt /proc/1 /root /run /sbin "
    "/srv /sys/x /tmp /usr /usr/bin/x /usr/lib/x /usr/local /usr/local/bin /usr/share /var /var/cache /var/lib /var/log /var/tmp"
).split()
FREE = (
    "/data /dev/shm/wa /etc/wa/sessions /home/alice/sessions /libreoffice /mnt/wa /opt/wa /procurement /root/wa /run/wa /srv/wa "
    "/usr/local/wa /usr/share/wa /var/lib/wa /var/lib/wa/sessions /var/wa"
).split()


@pytest.mark.parametrize("path", SYSTEM)
def test_directories_of_the_system_are_taken(path: str) -> None:
    assert is_taken(path)


@pytest.mark.parametrize("path", FREE)
def test_other_directories_are_free(path: str) -> None:
    assert not is_taken(path)


def told(seen: State, evidence: OwnershipTally | None = None, **options: t.Any) -> dict[str, t.Any]:
    chosen = params(**options)
    return dict(directory_job.report(chosen, seen, directory_job.plan(seen, chosen), evidence).values)


def test_what_is_told_has_the_fields_of_the_contract() -> None:
    assert told(state(directory(), not_writable="")) == {
        "path": PATH,
        "owner": "1500",
        "group": "1600",
        "mode": "0750",
        "filesystem": {
            "type": "ext4",
            "mount_point": "/",
            "ephemeral": False,
            "free_bytes": 10_000,
            "free_inodes": 500,
        },
        "writable_by_owner": True,
    }


@pytest.mark.parametrize(
    ("seen", "owner", "writable"),
    [
        (state(), "1500", None),  # check mode: not made yet
        (state(directory(uid=0), not_writable="Permission denied"), "1500", None),  # check mode: not handed over yet
        (state(directory(), not_writable=""), "1500", True),
        (state(directory(), not_writable="Read-only file system"), "1500", False),
        (state(directory(), not_writable=None), "1500", None),  # neither root nor the owner runs this
    ],
)
def test_check_mode_foresees_owner_and_claims_no_write_that_was_not_tried(
    seen: State, owner: str, writable: bool | None
) -> None:
    values = told(seen)
    assert (values["owner"], values["writable_by_owner"]) == (owner, writable)


def test_counts_of_a_repair_are_what_was_done_or_would_be() -> None:
    would = told(state(directory(), below=OwnershipTally(owners=3, modes=2, hard_links=1)), recurse=True)
    assert would["repaired"] == {"owners": 3, "modes": 2, "left": 1}
    done = told(
        state(directory(), below=OwnershipTally(hard_links=1)),
        OwnershipTally(owners=3, modes=2, hard_links=1),
        recurse=True,
    )
    assert done["repaired"] == {"owners": 3, "modes": 2, "left": 1}
    assert "repaired" not in told(state(directory()))


@pytest.mark.parametrize(
    ("seen", "options", "warning"),
    [
        (state(directory()), {}, None),
        (state(directory()), {"mode": "0755"}, "gives every user of this host access"),
        (
            state(directory(), not_writable="Disk quota exceeded"),
            {},
            "1500 cannot write in /var/lib/wa/sessions: Disk quota exceeded",
        ),
        (
            state(directory(), below=OwnershipTally(hard_links=2, special=1)),
            {"recurse": True},
            "3 entries below /var/lib/wa/sessions were not changed",
        ),
    ],
)
def test_what_is_warned_of(seen: State, options: dict[str, t.Any], warning: str | None) -> None:
    chosen = params(**options)
    warnings = directory_job.report(chosen, seen, directory_job.plan(seen, chosen), None).warnings
    assert (not warnings) if warning is None else (warning in " ".join(warnings))


def test_the_difference_is_metadata_before_and_after() -> None:
    chosen = params(recurse=True)
    seen = state(directory(uid=0, mode=0o777), below=OwnershipTally(owners=3))
    assert directory_job.diff(seen, directory_job.plan(seen, chosen), chosen) == {
        "before": {
            "path": PATH,
            "state": "present",
            "owner": "root",
            "group": "1600",
            "mode": "0777",
            "corrections_below": 3,
        },
        "after": {
            "path": PATH,
            "state": "present",
            "owner": "1500",
            "group": "1600",
            "mode": "0750",
            "corrections_below": 0,
        },
    }


@pytest.mark.parametrize(
    ("options", "seen"),
    [({}, state()), ({}, state(directory(uid=0))), ({"state": "absent"}, state(directory()))],
)
def test_what_did_not_come_about_is_an_error(options: dict[str, t.Any], seen: State) -> None:
    with pytest.raises(SessionsError, match="find the process that changes it"):
        directory_job.verify(seen, params(**options))


@pytest.mark.parametrize(
    ("owner", "group", "user", "unit_group", "expected"),
    [
        (None, None, "nobody", "", (65534, 65534)),  # the primary group, not one of the same name
        (None, None, "nobody", "daemon", (65534, 1)),
        (None, None, "", "", (0, 0)),  # no User= means root
        ("daemon", None, "nobody", "", (1, 1)),
        ("nobody", None, "nobody", "daemon", (65534, 1)),  # the unit knows the group of its own user
        ("nobody", "root", "nobody", "daemon", (65534, 0)),
        (None, "root", "nobody", "", (65534, 0)),
        ("1", None, None, "", (1, 1)),
        ("4242", "4343", None, "", (4242, 4343)),
        (None, None, None, "", (7, 8)),  # neither unit nor owner: as it is
        (None, "root", None, "", (7, 0)),
    ],
)
def test_who_is_to_own_it(
    owner: str | None, group: str | None, user: str | None, unit_group: str, expected: tuple[int, int]
) -> None:
    unit = (
        systemd_unit.Unit("wa.service", {"DynamicUser": "no", "User": user, "Group": unit_group})
        if user is not None
        else None
    )
    chosen = params(owner=owner, group=group)
    found = directory_observe._named_identity(chosen, unit) or directory_observe._kept_identity(
        group, directory(uid=7, gid=8)
    )
    assert (found.uid, found.gid) == expected


def test_a_unit_with_a_dynamic_user_is_refused_with_the_remedy() -> None:
    unit = systemd_unit.Unit("wa.service", {"DynamicUser": "yes", "User": "wa", "Group": ""})
    with pytest.raises(SessionsError, match="StateDirectory="):
        directory_observe._named_identity(params(), unit)


def test_members_of_a_group_are_those_listed_and_those_whose_primary_group_it_is() -> None:
    assert 0 in ancestors._members(0)
    assert ancestors._members(4_000_000) == ()
