# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the image for all hosts of a Debian release: a plain directory, built once.

Its name contains a hash of the recipe, so that a changed recipe builds a new one. Packages for a single scenario get
a separate image, because a browser would make every host four times as large.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from .command import run, succeeds
from .layout import Lab, locked

PACKAGES = (
    # packages of a server
    "systemd",
    "systemd-sysv",
    "dbus",
    "openssh-server",
    "sudo",
    "iproute2",
    "procps",
    # packages for Ansible and the collection
    "python3",
    "python3-apt",
    "rsync",
    "acl",
    "restic",
    # packages for tests: Node.js needs the C++ library, faults are injected with strace
    "libstdc++6",
    "strace",
)

# Timers that would interfere with tests, and unused terminals.
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

# See compiled_once.py: read at each start of Python, like any .pth file there.
COMPILED_ONCE = (Path(__file__).parents[1] / "compiled_once.py").read_text(encoding="utf-8")
PACKAGES_OF_PYTHON = "usr/lib/python3/dist-packages"

HOOKS = (
    # The name in the image would override the name of a host.
    'rm -f "$1/etc/hostname" "$1/etc/resolv.conf" "$1/var/lib/dbus/machine-id"; : >"$1/etc/machine-id"',
    'chroot "$1" systemctl --quiet enable systemd-networkd ssh',
    f'chroot "$1" systemctl --quiet mask {" ".join(MASKED)}',
    # Like operators, tests log in as a user and become root.
    'chroot "$1" useradd --create-home --shell /bin/bash ansible',
    'install -m 0440 /dev/null "$1/etc/sudoers.d/ansible"; echo "ansible ALL=(ALL) NOPASSWD:ALL" >"$1/etc/sudoers.d/ansible"',
    f'printf %s {shlex.quote(COMPILED_ONCE)} >"$1/{PACKAGES_OF_PYTHON}/lab_compiled_once.py"',
    f'echo "import lab_compiled_once" >"$1/{PACKAGES_OF_PYTHON}/lab_compiled_once.pth"',
)


def build(lab: Lab, suite: str, extra: Sequence[str] = ()) -> Path:
    """Return the tree of the image with ``extra`` packages, and build it if necessary."""
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
        *(f"--customize-hook={hook}" for hook in HOOKS),
    )


def _remove(tree: Path) -> None:
    if tree.exists():
        run(["rm", "--recursive", "--force", "--one-file-system", tree])


def _mirror() -> list[str]:
    """Return the Debian mirror of this machine; empty (mmdebstrap's default) if it is not Debian."""
    if not shutil.which("apt-get"):
        return []
    conditions = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    found = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *conditions]).split()
    return found[:1]


def _apt_settings() -> list[str]:
    """Return apt settings of this machine (proxies, certificates, clock tolerance), which mmdebstrap does not read."""
    if not succeeds(["apt-config", "dump"]):
        return []
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-")
    lines = run(["apt-config", "dump"]).splitlines()
    return [f"--aptopt={line}" for line in lines if line.startswith(wanted) and not line.endswith(' "";')]
