# SPDX-License-Identifier: GPL-3.0-or-later
"""Manages a host: creates its files, boots it, waits for it, runs commands, stops and removes it.

The root is a plain copy of the image, not an overlay: the whole host is one ext4 filesystem, as on
a small server, so that renames between /opt and /var work and no path looks ephemeral. This takes 0.5 s and
160 to 210 MB for each host, and nothing with an overlay; `--overlay` is for tests with dozens of hosts.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import cgroup, network
from .command import LabError, run, succeeds, until
from .layout import TOOL, Lab

FIRST_ADDRESS = 11
BOOT_SECONDS = 90.0
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Host:
    name: str
    suite: str
    address: str
    image: str
    binds: tuple[str, ...] = ()
    overlay: bool = False
    system_calls: tuple[str, ...] = ()

    def folder(self, lab: Lab) -> Path:
        return lab.hosts / self.name

    def root(self, lab: Lab) -> Path:
        """Return the path of its files as visible from outside."""
        return self.folder(lab) / ("upper" if self.overlay else "root")

    def unit(self, lab: Lab) -> str:
        return f"{lab.bridge}-{self.name}.service"


def load(lab: Lab, name: str) -> Host:
    try:
        record = json.loads((lab.hosts / name / "host.json").read_text())
    except FileNotFoundError as error:
        raise LabError(f"there is no host '{name}' in {lab.folder}: 'lab up {name} SUITE' boots one") from error
    return Host(**{**record, "binds": tuple(record["binds"]), "system_calls": tuple(record.get("system_calls", ()))})


def names(lab: Lab) -> list[str]:
    return sorted(path.parent.name for path in lab.hosts.glob("*/host.json"))


def up(
    lab: Lab,
    name: str,
    suite: str,
    image: Path,
    *,
    binds: Sequence[str] = (),
    overlay: bool = False,
    system_calls: Sequence[str] = (),
) -> None:
    """Boot a host, unless it is already running."""
    if name in names(lab) and _is_running(lab, load(lab, name)):
        return
    with lab.locked():
        host = Host(name, suite, _free_address(lab, name), str(image), tuple(binds), overlay, tuple(system_calls))
        host.folder(lab).mkdir(parents=True, exist_ok=True)
        (host.folder(lab) / "host.json").write_text(json.dumps(asdict(host)))
    _lay_out(lab, host)
    _start(lab, host)


def wait(lab: Lab, name: str) -> None:
    """Wait until the host answers over SSH and systemd reports that it has booted."""
    host = load(lab, name)
    if not until(lambda: _answers(host) or not _is_running(lab, host), BOOT_SECONDS):
        raise LabError(f"host '{name}' did not answer within {BOOT_SECONDS:.0f} s; {_last_words(lab, host)}")
    if not _is_running(lab, host):
        raise LabError(f"host '{name}' went off while it booted; {_last_words(lab, host)}")
    state = _ssh_output(
        lab, host, "systemctl is-system-running --wait || systemctl list-units --failed --no-legend --plain"
    ).split()
    if state != ["running"]:
        raise LabError(f"host '{name}' has booted badly: {' '.join(state)}")


def ssh(lab: Lab, name: str, argv: Sequence[str]) -> int:
    """Run a command in the host as root, connected to the input and output of this process.

    A single word is a command line for the host's shell; several are an argument list.
    """
    words = argv if len(argv) == 1 else map(shlex.quote, argv)
    return subprocess.run([*_ssh_words(lab, load(lab, name)), *words]).returncode


def down(lab: Lab, wanted: Sequence[str]) -> None:
    """Stop hosts in parallel, then remove all their files."""
    hosts = [load(lab, name) for name in wanted if name in names(lab)]
    for host in hosts:
        _ask_to_stop(lab, host)
    for host in hosts:
        _see_it_gone(lab, host)
        cgroup.remove(lab.tag, host.name)
        run(
            [
                "rm",
                "--recursive",
                "--force",
                "--one-file-system",
                "/run/systemd/nspawn/propagate/" + machine(lab, host),
                host.folder(lab),
            ]
        )


# --- files -----------------------------------------------------------------------------------


def _free_address(lab: Lab, name: str) -> str:
    if name in names(lab):
        return load(lab, name).address
    taken = {load(lab, other).address for other in names(lab)}
    addresses = (str(address) for address in list(network.subnet(lab).hosts())[FIRST_ADDRESS - 1 :])
    try:
        return next(address for address in addresses if address not in taken)
    except StopIteration:
        raise LabError(f"all addresses of {network.subnet(lab)} are taken") from None


def _lay_out(lab: Lab, host: Host) -> None:
    root = host.root(lab)
    if not host.overlay and not root.exists():
        partial = root.with_name("root.partial")
        run(["rm", "--recursive", "--force", partial])
        run(["cp", "--archive", "--reflink=auto", host.image, partial])
        partial.rename(root)
    _write(root / "etc/hostname", f"{host.name}\n")
    _write(root / "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n")
    _write(
        root / "etc/systemd/network/10-host0.network",
        f"[Match]\nName=host0\n[Network]\nAddress={host.address}/{network.subnet(lab).prefixlen}\n"
        "LinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    )
    for home, owner in (("root", 0), ("home/ansible", _uid_of_ansible(Path(host.image)))):
        _authorise(root / home, owner, Path(f"{lab.key}.pub").read_text(), Path(host.image) / home)
    _know(lab, host)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _uid_of_ansible(image: Path) -> int:
    return (image / "home/ansible").stat().st_uid


def _authorise(home: Path, owner: int, key: str, original: Path) -> None:
    # In an overlay, a new directory hides that of the image, so its owner and mode have to be set.
    for folder, mode in ((home, original.stat().st_mode & 0o7777), (home / ".ssh", 0o700)):
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, owner, owner)
        folder.chmod(mode)
    keys = home / ".ssh" / "authorized_keys"
    keys.write_text(key)
    os.chown(keys, owner, owner)
    keys.chmod(0o600)


def _know(lab: Lab, host: Host) -> None:
    """Record the host key, so that host key checking works."""
    kind, key = (Path(host.image) / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    with lab.locked():
        known = lab.known_hosts.read_text().splitlines() if lab.known_hosts.exists() else []
        others = [line for line in known if not line.startswith(f"{host.address} ")]
        lab.known_hosts.write_text("\n".join([*others, f"{host.address} {kind} {key}"]) + "\n")


# --- running --------------------------------------------------------------------------------------


def _start(lab: Lab, host: Host) -> None:
    """Start the process that supervises the host, in a separate cgroup.

    Otherwise all hosts of a shell share one cgroup, and systemd inside cannot kill the processes of a unit.
    """
    environment = {"LAB_DIR": str(lab.folder), "LAB_CACHE": str(lab.cache)}
    words = [TOOL, "_boot", host.name]
    if host.overlay:
        # The mount vanishes with the process, so it never has to be unmounted.
        words = ["unshare", "--mount", "--propagation", "private", *words]
    if _has_systemd():
        properties = (
            "Delegate=yes",
            "KillMode=mixed",
            f"StandardOutput=append:{_console(lab, host)}",
            "StandardError=inherit",
        )
        run(
            ["systemd-run", "--quiet", "--collect", f"--unit={host.unit(lab)}"]
            + [f"--property={item}" for item in properties]
            + [f"--setenv={name}={value}" for name, value in environment.items()]
            + words
        )
        return
    with _console(lab, host).open("a") as console:
        process = subprocess.Popen(
            [str(word) for word in words],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
            preexec_fn=lambda: cgroup.enter(lab.tag, host.name),
        )
    (host.folder(lab) / "pid").write_text(f"{process.pid} {_started_at(process.pid)}")


def _ask_to_stop(lab: Lab, host: Host) -> None:
    if _has_systemd():
        run(["systemctl", "stop", "--no-block", host.unit(lab)]) if _is_running(lab, host) else None
    elif pid := _pid(lab, host):
        os.kill(pid, signal.SIGTERM)
    else:
        # The process that started it ended before it could record the PID.
        cgroup.kill(lab.tag, host.name)


def _see_it_gone(lab: Lab, host: Host) -> None:
    if until(lambda: not _is_running(lab, host), STOP_SECONDS):
        return
    if _has_systemd():
        run(["systemctl", "kill", "--signal=KILL", host.unit(lab)])
    else:
        cgroup.kill(lab.tag, host.name)
    if not until(lambda: not _is_running(lab, host), STOP_SECONDS):
        raise LabError(f"host '{host.name}' cannot be stopped; {_last_words(lab, host)}")


def _is_running(lab: Lab, host: Host) -> bool:
    if _has_systemd():
        return succeeds(["systemctl", "is-active", "--quiet", host.unit(lab)])
    # If the supervising process was killed, the host outlives it briefly.
    return _pid(lab, host) is not None or cgroup.is_populated(lab.tag, host.name)


def _pid(lab: Lab, host: Host) -> int | None:
    """Return the supervising process, unless its PID was reused."""
    try:
        pid, started = (host.folder(lab) / "pid").read_text().split()
        return int(pid) if _started_at(int(pid)) == started else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def _started_at(pid: int) -> str:
    state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if state == "Z":
        raise ProcessLookupError(pid)
    return rest[18]


def _has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def machine(lab: Lab, host: Host) -> str:
    return f"{host.name}-{lab.tag}"


def _console(lab: Lab, host: Host) -> Path:
    return host.folder(lab) / "console.log"


def _last_words(lab: Lab, host: Host) -> str:
    lines = _console(lab, host).read_text(errors="replace").splitlines()[-20:]
    return "\n".join(["its console said at last:", *lines] if lines else ["its console said nothing"])


# --- SSH --------------------------------------------------------------------------------


def _answers(host: Host) -> bool:
    try:
        with socket.create_connection((host.address, 22), timeout=1) as connection:
            return connection.recv(4).startswith(b"SSH")
    except OSError:
        return False


def ssh_options(lab: Lab) -> list[str]:
    settings = (
        f"UserKnownHostsFile={lab.known_hosts}",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        # The default key exchange takes both sides 0.2 s of a core, more than most commands of a test.
        "KexAlgorithms=curve25519-sha256",
    )
    return [word for setting in settings for word in ("-o", setting)]


def _ssh_words(lab: Lab, host: Host) -> list[str]:
    return [
        "ssh",
        "-F",
        "none",
        "-i",
        str(lab.key),
        *ssh_options(lab),
        "-o",
        "LogLevel=ERROR",
        f"root@{host.address}",
        "--",
    ]


def _ssh_output(lab: Lab, host: Host, command: str) -> str:
    return run([*_ssh_words(lab, host), command])
