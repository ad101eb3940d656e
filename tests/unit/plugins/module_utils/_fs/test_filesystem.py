# SPDX-License-Identifier: GPL-3.0-or-later
"""Filesystems: the parser of mountinfo, and what counts as lasting and as a mount of its own."""

from __future__ import annotations

import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.filesystem import (
    Filesystem,
    Mount,
    filesystem_of,
    is_own_mount,
    parse_mountinfo,
    why_ephemeral,
)

# Lines of real hosts: Debian 12, Docker (overlay), systemd-nspawn, a bind mount, NFS, several optional fields, and none.
RECORDED = r"""
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
612 28 0:53 / / rw,relatime master:300 - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d
35 28 8:17 /volumes/wa /srv/wa rw,noatime shared:20 master:2 propagate_from:9 - xfs /dev/sdb1 rw,attr2,inode64
36 28 0:45 / /mnt/with\040space\011and\134more rw - nfs4 nas:/export rw,vers=4.2
37 28 0:46 / /mnt/gr\303\274n rw - btrfs /dev/sdc rw
38 28 0:47 /a\040-\040b /mnt/dash rw - tmpfs tmpfs rw
"""


def test_recorded_lines_are_understood() -> None:
    mounts = parse_mountinfo(RECORDED)
    assert {number: (mount.mount_point, mount.type) for number, mount in mounts.items()} == {
        22: ("/sys", "sysfs"),
        28: ("/", "ext4"),
        612: ("/", "overlay"),
        35: ("/srv/wa", "xfs"),
        36: ("/mnt/with space\tand\\more", "nfs4"),
        37: ("/mnt/grün", "btrfs"),
        38: ("/mnt/dash", "tmpfs"),
    }


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    assert all(isinstance(mount, Mount) for mount in parse_mountinfo(text).values())


@given(
    st.integers(0, 2**31),
    st.binary(min_size=1).filter(lambda name: b"\0" not in name),
    st.sampled_from(["ext4", "fuse.sshfs"]),
)
def test_every_mount_point_survives_the_kernels_escapes(number: int, name: bytes, kind: str) -> None:
    """The kernel escapes these four bytes (show_mountinfo, seq_path) and leaves all others as they are."""
    escaped = name
    for byte in (b"\\", b" ", b"\t", b"\n"):
        escaped = escaped.replace(byte, b"\\%03o" % byte[0])
    line = b"%d 1 8:1 / /%s rw shared:1 - %s source rw" % (number, escaped, kind.encode())
    assert parse_mountinfo(os.fsdecode(line)) == {number: Mount(number, "/" + os.fsdecode(name), kind)}


def on(kind: str, mount_point: str = "/") -> Filesystem:
    return Filesystem(kind, mount_point, False, 1 << 30, 1000)


@pytest.mark.parametrize(
    ("kind", "path", "word"),
    [
        ("ext4", "/var/lib/wa/sessions", None),
        ("xfs", "/srv/wa", None),
        ("btrfs", "/runtime/wa", None),  # only looks like /run
        ("nfs4", "/var/tmpfiles/wa", None),
        ("tmpfs", "/srv/wa", "tmpfs"),
        ("ramfs", "/srv/wa", "ramfs"),
        ("overlay", "/var/lib/wa", "overlay"),
        ("aufs", "/var/lib/wa", "aufs"),
        ("rootfs", "/var/lib/wa", "rootfs"),
        ("ext4", "/tmp", "/tmp"),
        ("ext4", "/tmp/wa", "/tmp"),
        ("ext4", "/var/tmp/wa", "/var/tmp"),
        ("tmpfs", "/dev/shm/wa", "/dev/shm"),
        ("ext4", "/run/wa", "/run"),
        ("unknown", "/var/lib/wa", None),
    ],
)
def test_what_does_not_last(kind: str, path: str, word: str | None) -> None:
    why = why_ephemeral(on(kind), path)
    assert (why is None) if word is None else (why is not None and word in why)


@pytest.mark.parametrize(
    ("mount_point", "own"),
    [
        ("/", False),
        ("/var", False),
        ("/usr", False),
        ("/var/lib", False),
        ("/srv", True),
        ("/srv/wa", True),
        ("/data", True),
    ],
)
def test_a_mount_of_its_own_is_none_of_the_system(mount_point: str, own: bool) -> None:
    assert is_own_mount(on("ext4", mount_point)) is own


def test_a_real_directory_is_on_the_mount_that_findmnt_would_name(tmp_path: pathlib.Path) -> None:
    descriptor = os.open(tmp_path, os.O_PATH)
    try:
        found = filesystem_of(descriptor)
    finally:
        os.close(descriptor)
    above = [path for path in (tmp_path, *tmp_path.parents) if os.path.ismount(path)]
    assert found.mount_point == str(above[0])
    assert found.free_bytes > 0
    assert not found.read_only
