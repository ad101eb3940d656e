# SPDX-License-Identifier: GPL-3.0-or-later
"""A booted host with the real backend, and modules run on it by the host's own Python."""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import subprocess
import time
import typing as t

import ansible

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# The backend, and a process manager that some hosts run beside it.
INSTALLED = [REPOSITORY / "tests" / "backends" / name / "install" for name in ("baileys", "pm2")]
ON_HOST = "python3 -I /repository/tests/host/on_host.py"
MODULES = "ansible_collections.whatsapp_ops.sessions.plugins.modules"
PYTHON = "PYTHONPYCACHEPREFIX=/var/cache/bytecode PYTHONPATH=/repository/playbooks/collections:/controller python3"
SECONDS = 120.0

UNIT = "whatsapp-backend.service"
PATH = "/var/lib/whatsapp-backend/sessions"
ENVIRONMENT_FILE = "/etc/whatsapp-backend/env"
LEGACY = "/opt/whatsapp/current/.baileys_auth"
DROP_INS = "/etc/systemd/system/whatsapp-backend.service.d"

Result = dict[str, t.Any]
State = dict[str, t.Any]


class Host:
    """One throw-away host of tests/lab."""

    def __init__(self, name: str, suite: str, lab: pathlib.Path) -> None:
        self.name = name
        self._suite = suite
        self.environment = {**os.environ, "LAB_DIR": str(lab)}
        self.before: dict[str, t.Any] = {}
        self._tool = str(REPOSITORY / "tests" / "lab" / "lab")

    def up(self) -> None:
        """Boot it, with the backend's accounts paired and the backend running on its legacy path."""
        self.boot()
        paired = "runuser -u whatsapp -- node pair.mjs --canaries .baileys_auth"
        self.sh(f"test -d /srv/pristine || {{ cd /opt/whatsapp/current && {paired}; }}")
        self.reset()

    def boot(self) -> None:
        """Boot it, with the backend installed, and without any account."""
        binds = [
            bind
            for install in INSTALLED
            for bind in subprocess.run(
                [str(install)], check=True, capture_output=True, text=True, timeout=600
            ).stdout.split()
        ]
        packages = pathlib.Path(ansible.__file__).parents[1]
        views = [f"--bind-ro={REPOSITORY}:/repository", f"--bind-ro={packages}:/controller"]
        self.lab("up", self.name, self._suite, *binds, *views)
        self.lab("wait", self.name)
        self.sh(f"/srv/build/app/setup; {PYTHON} /repository/tests/tools/compile_modules.py")

    @property
    def suite(self) -> str:
        """The Debian release."""
        return self._suite

    def lab(self, *words: str, seconds: float = 900) -> str:
        done = subprocess.run(
            [self._tool, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"lab {words[0]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Start a shell command on the host as root."""
        words = [self._tool, "ssh", self.name, command]
        return subprocess.Popen(
            words,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin_module(self, command: str, options: dict[str, t.Any]) -> subprocess.Popen[str]:
        """Start a module in a session of its own, so that the whole connection can be cut."""
        words = [self._tool, "ssh", self.name, command]
        running = subprocess.Popen(
            words,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert running.stdin
        running.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": options}))
        running.stdin.close()
        running.stdin = None
        return running

    @property
    def root(self) -> pathlib.Path:
        """Where the files of the host lie on this machine."""
        return pathlib.Path(self.lab("root", self.name).strip())

    def wait_for_boot(self) -> None:
        """Return when the host, which is rebooting, has booted again."""
        deadline = time.monotonic() + SECONDS
        while self.sh("cat /run/before-the-reboot", may_fail=True):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        self.lab("wait", self.name)

    def sh(self, command: str, given: str = "", may_fail: bool = False) -> str:
        """Run a shell command on the host as root; return what it printed."""
        with self.begin(command) as running:
            out, err = running.communicate(given, timeout=SECONDS)
        assert may_fail or running.returncode == 0, f"{command!r} ended with {running.returncode}:\n{out}\n{err}"
        return out

    def put(self, path: str, text: str) -> None:
        self.sh(f"mkdir -p {shlex.quote(os.path.dirname(path))} && cat >{shlex.quote(path)}", given=text)

    def reset(self) -> State:
        """Lay the scene anew; see on_host.py."""
        now = json.loads(self.sh(f"{ON_HOST} reset"))
        assert now["well"], now
        assert now["sessions_path"] is None
        return t.cast("State", now)

    def steps(self, *steps: t.Sequence[t.Any]) -> list[t.Any]:
        """Do several things in one connection: each a function of on_host.py and what it is given."""
        return t.cast("list[t.Any]", json.loads(self.sh(f"{ON_HOST} steps", given=json.dumps(steps))))

    def look(self) -> State:
        return t.cast("State", json.loads(self.sh(f"{ON_HOST} look")))

    def messages(self, since: float) -> dict[str, int]:
        """Count the messages ``sent`` since then (seconds since the epoch), and those ``unread`` because they could not be decrypted."""
        return t.cast("dict[str, int]", json.loads(self.sh(f"{ON_HOST} messages {since}")))

    def well(self, seconds: float = 20.0) -> State:
        """Wait until the backend runs with all accounts connected; return how things stand then."""
        return t.cast("State", json.loads(self.sh(f"{ON_HOST} well {seconds}")))

    def connected(self) -> State:
        """Wait until all accounts are connected, whatever systemd takes for the main process."""
        deadline = time.monotonic() + SECONDS
        while (now := self.look())["connected"] < len(self.before["legacy"]):
            assert time.monotonic() < deadline, now
        return now

    def module_command(self, module: str = "session_migrate", wrapper: str = "") -> str:
        # What a wrapper counts are the system calls of the module alone.
        python = PYTHON.replace("python3", f"PYTHONDONTWRITEBYTECODE=1 {wrapper} python3") if wrapper else PYTHON
        return f"{python} -m {MODULES}.{module}"

    def module(self, module: str = "session_migrate", /, wrapper: str = "", **options: t.Any) -> Result:
        """Run a module; ``wrapper`` is a command that runs it (strace, say). An empty result: it was killed."""
        check = options.pop("check", False)
        given = json.dumps({"ANSIBLE_MODULE_ARGS": {**options, "_ansible_check_mode": check, "_ansible_diff": False}})
        printed = self.sh(self.module_command(module, wrapper), given=given, may_fail=True)
        return t.cast("Result", json.loads(printed)) if printed.strip() else {}

    def migrate(self, wrapper: str = "", **changed: t.Any) -> Result:
        return self.module("session_migrate", wrapper=wrapper, **migrate_options(**changed))


def migration(*wrapper: str, **changed: t.Any) -> tuple[str, str, dict[str, t.Any], list[str]]:
    """Return the step that migrates; see Host.steps. ``wrapper`` is the command that runs the module."""
    return ("module", "session_migrate", migrate_options(**changed), list(wrapper))


def striking(call: str, number: int, folder: str = "") -> tuple[str, ...]:
    """Return the wrapper that kills a process before its n-th system call of a kind, with ``folder`` only those that name an entry of it.

    Descriptors count by what they lead to, so that a place is struck wherever in a run its turn comes.
    """
    where = ("-P", folder) if folder else ()
    strike = ("-e", f"trace=?{call}", "-e", f"inject=?{call}:signal=KILL:when={number}")
    return ("strace", "-f", "-qqq", "-o", "/dev/null", *where, *strike)


def migrate_options(**changed: t.Any) -> dict[str, t.Any]:
    """Options as the role persist gives them."""
    sections = {
        "Unit": {"RequiresMountsFor": PATH},
        "Service": {"Environment": {"SESSIONS_PATH": PATH}, "ReadWritePaths": PATH, "UMask": "0077"},
    }
    switch = {
        "overrides": [{"name": "20-sessions", "sections": sections}],
        "environment_file": {"path": ENVIRONMENT_FILE, "values": {"SESSIONS_PATH": PATH}},
    }
    return {"path": PATH, "unit": "whatsapp-backend", "unit_timeout": 30, "switch": switch, **changed}
