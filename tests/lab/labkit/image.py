# SPDX-License-Identifier: GPL-3.0-or-later
"""The image that all hosts of one Debian release start from: a plain directory, built once.

Its name carries a hash of the recipe, so that a changed recipe builds a new one. Packages that one scenario needs make
an image of their own: a browser would make every host four times as large.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from .command import run, succeeds
from .layout import Lab, locked

PACKAGES = (
    # what a server has
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "sudo",
    "iproute2",
    "procps",
    # what Ansible and the collection use
    "python3",
    "rsync",
    "acl",
    # what tests use: Node.js needs the C++ library, faults are injected with strace
    "libstdc++6",
    "strace",
)

# Timers that would work behind a test's back, and terminals that nobody looks at.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "systemd-networkd-wait-online.service",
    "getty@tty1.service",
    "console-getty.service",
)

HOOKS = (
    # The image's own name would win over the one that a host is given.
    'rm -f "$1/etc/hostname" "$1/etc/resolv.conf" "$1/var/lib/dbus/machine-id"; : >"$1/etc/machine-id"',
    'chroot "$1" systemctl --quiet enable systemd-networkd ssh',
    f'chroot "$1" systemctl --quiet mask {" ".join(MASKED)}',
    # Operators log in as a user and become root: so do the tests.
    'chroot "$1" useradd --create-home --shell /bin/bash ansible',
    'install -m 0440 /dev/null "$1/etc/sudoers.d/ansible"; echo "ansible ALL=(ALL) NOPASSWD:ALL" >"$1/etc/sudoers.d/ansible"',
)


def build(lab: Lab, suite: str, extra: Sequence[str] = ()) -> Path:
    """Return the tree of the image, with ``extra`` packages in it, built when it is not there yet."""
    options = _options((*PACKAGES, *sorted(extra)))
    recipe = hashlib.sha256(json.dumps([suite, options]).encode()).hexdigest()[:8]
    name = "+".join((suite, *sorted(extra)))
    tree = lab.cache / "image" / f"{name}-{recipe}"
    with locked(tree.parent / f"{name}.lock"):
        if not tree.exists():
            partial = tree.with_name(f"{tree.name}.partial")
            _remove(partial)
            run(["mmdebstrap", *options, *_apt_settings(), suite, partial, *_mirror()])
            for outdated in tree.parent.glob(f"{name}-*"):
                if outdated != partial:
                    _remove(outdated)
            partial.rename(tree)
    return tree


def _options(packages: Sequence[str]) -> tuple[str, ...]:
    return (
        "--quiet",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")),
        *(f"--customize-hook={hook}" for hook in HOOKS),
    )


def _remove(tree: Path) -> None:
    if tree.exists():
        run(["rm", "--recursive", "--force", "--one-file-system", tree])


def _mirror() -> list[str]:
    """Where this machine's own apt gets Debian from; nothing (mmdebstrap's default) where it is no Debian."""
    if not shutil.which("apt-get"):
        return []
    conditions = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    found = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *conditions]).split()
    return found[:1]


def _apt_settings() -> list[str]:
    """Proxies, certificates and clock tolerance of this machine's apt, which mmdebstrap does not read by itself."""
    if not succeeds(["apt-config", "dump"]):
        return []
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-")
    lines = run(["apt-config", "dump"]).splitlines()
    return [f"--aptopt={line}" for line in lines if line.startswith(wanted) and not line.endswith(' "";')]
