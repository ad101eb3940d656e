# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the lab: its hosts behave like servers, and it leaves nothing behind.

Takes root and a few seconds for each host:  pytest tests/lab/test_lab.py
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

LAB = Path(__file__).resolve().with_name("lab")
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="hosts need root")

# Has a second process behind the main one, like a browser or a shell wrapper.
TWO_PROCESSES = """[Service]
ExecStart=/bin/sh -c 'sleep 7771 & exec sleep 7772'
"""


class Laboratory:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "LAB_DIR": str(folder)}

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([LAB, *words], env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0 or not check, done.stderr
        return done

    def ssh(self, host: str, command: str) -> str:
        return self.run("ssh", host, command).stdout.strip()


@pytest.fixture(scope="module")
def make_lab():
    """Create labs on the disk of the checkout, because /tmp is a tmpfs on many machines."""
    work = LAB.parents[2] / ".work"
    work.mkdir(exist_ok=True)
    made: list[Laboratory] = []

    def make() -> Laboratory:
        made.append(Laboratory(Path(tempfile.mkdtemp(prefix="lab-test-", dir=work))))
        return made[-1]

    yield make
    for laboratory in made:
        laboratory.run("destroy")


@pytest.fixture(scope="module")
def lab(make_lab):
    return make_lab()


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def host(lab, request):
    lab.run("up", request.param, request.param)
    lab.run("wait", request.param)
    return request.param


def traces_of(folder: Path) -> list[str]:
    """Find everything on this machine with the directory, or with the tag derived from it."""
    tag = tag_of(folder)
    processes = [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if names(path, str(folder).encode())]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(folder) in line]
    links = [path.name for path in Path("/sys/class/net").iterdir() if path.name == f"wa-{tag}"]
    groups = [str(path) for path in Path("/sys/fs/cgroup").rglob(f"wa-lab/{tag}")]
    return processes + mounts + links + groups


def names(file: Path, word: bytes) -> bool:
    try:
        return word in file.read_bytes()
    except OSError:
        return False


def tag_of(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:6]


def test_a_host_has_booted_without_a_failed_unit(lab, host):
    assert lab.ssh(host, "systemctl is-system-running") == "running"


def test_its_file_system_is_that_of_a_server(lab, host):
    kinds = lab.ssh(host, "stat --file-system --format=%T / /var/lib /opt /srv").split()
    assert set(kinds) == {"ext2/ext3"}


def test_a_rename_works_between_the_places_of_old_and_new_sessions(lab, host):
    lab.ssh(
        host,
        "mkdir -p /opt/old && python3 -c \"import os; os.rename('/opt/old', '/var/lib/new')\" && test -d /var/lib/new",
    )


def test_a_restart_kills_every_process_of_a_unit(lab, host):
    lab.ssh(
        host,
        f"cat >/run/systemd/system/two.service <<'X'\n{TWO_PROCESSES}X\nsystemctl daemon-reload; systemctl start two",
    )
    first = lab.ssh(host, wait_for_two() + "; pgrep --full '^sleep 777'").split()
    lab.ssh(host, "systemctl restart two")
    second = lab.ssh(host, wait_for_two() + "; pgrep --full '^sleep 777'").split()
    assert len(first) == len(second) == 2
    assert not set(first) & set(second)
    lab.ssh(host, "systemctl stop two")
    assert lab.ssh(host, "pgrep --count --full '^sleep 777' || true") == "0"


def wait_for_two() -> str:
    return "until [ $(pgrep --count --full '^sleep 777') = 2 ]; do sleep 0.05; done"


def test_a_reboot_keeps_the_files(lab, host):
    before = lab.ssh(host, "touch /var/kept; sync; stat --format=%Y /proc/1")
    lab.run("ssh", host, "systemctl reboot", check=False)
    assert eventually(
        lambda: lab.run("ssh", host, "stat --format=%Y /proc/1", check=False).stdout.strip() not in ("", before)
    )
    lab.run("wait", host)
    lab.ssh(host, "test -e /var/kept")


def test_ansible_finds_its_hosts(lab, host):
    listed = lab.run("inventory").stdout
    assert lab.run("address", host).stdout.strip() in listed


def test_nothing_is_left_of_a_lab(make_lab):
    gone = make_lab()
    gone.run("up", "one", "trixie")
    gone.run("wait", "one")
    assert traces_of(gone.folder)
    gone.run("destroy")
    assert traces_of(gone.folder) == []
    assert not gone.folder.exists()


def test_nothing_is_left_of_a_lab_whose_keeper_was_killed(make_lab):
    gone = make_lab()
    gone.run("up", "one", "trixie")
    if not (gone.folder / "host/one/pid").exists():
        gone.run("destroy")
        pytest.skip("systemd keeps the hosts of this machine")
    os.kill(int((gone.folder / "host/one/pid").read_text().split()[0]), signal.SIGKILL)
    gone.run("destroy")
    assert traces_of(gone.folder) == []


def test_the_limit_of_this_machine_is_put_back_with_the_last_lab(make_lab):
    before = INOTIFY.read_text()
    one, two = make_lab(), make_lab()
    one.run("net-up")
    two.run("net-up")
    raised = INOTIFY.read_text()
    assert int(raised) >= 4096
    one.run("destroy")
    assert INOTIFY.read_text() == raised
    two.run("destroy")
    assert INOTIFY.read_text() == before


def test_a_host_on_a_temporary_file_system_is_refused():
    refused = Laboratory(Path("/dev/shm/wa-lab-test"))
    answer = refused.run("net-up", check=False)
    refused.run("destroy")
    assert answer.returncode == 1
    assert "set LAB_DIR" in answer.stderr


def eventually(condition, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
