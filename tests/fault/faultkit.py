# SPDX-License-Identifier: GPL-3.0-or-later
"""What all fault tests share: accounts in generations that can be told apart, runs with faults, and what must hold after each.

Every byte of an account says which generation it belongs to, and each generation has files that the others lack. So a copy
that is torn, empty, mixed or lacks a file equals no generation, and ``generation_of`` finds it out.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import typing as t

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import control_path
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import rescue

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DRIVER = pathlib.Path(__file__).with_name("drive.py")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(REPOSITORY / "playbooks" / "collections"),
    "PYTHONPYCACHEPREFIX": str(REPOSITORY / ".work" / "cache" / "python"),
    "PYTHONDONTWRITEBYTECODE": "1",  # system calls of runs are counted
}
ENGINES = ("native", "rsync", "rename")
EVERYWHERE = bool(os.environ.get("WA_EVERYWHERE"))
BACKEND = 1500  # uid and gid that own the sessions; no such user has to exist
SECONDS = 60.0
CLONE_NEWPID = 0x20000000  # sched.h; os.setns() came with Python 3.12 only

# Whatever a run does to a disk. Those that only look (openat, fstat) are killed at, too, but not each time.
CHANGING = (
    *("write", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "link", "linkat"),
    *("fsync", "fdatasync", "syncfs", "ftruncate", "fchown", "fchownat", "fchmod", "utimensat", "fsetxattr", "flock"),
)
LOOKING = ("openat", "newfstatat", "getdents64", "read", "pread64", "clone", "close", "lseek", "execve", "pipe2")

PARTS = ("noiseKey", "signedIdentityKey", "signedPreKey", "registrationId", "advSecretKey")
Files = dict[str, bytes]
Outcome = dict[str, t.Any]


def in_turn(kinds: t.Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs of a kind and an engine: the first kind with each engine, every other one with the next engine.

    Engines differ in how they bring an account, kinds in which accounts there are. With WA_EVERYWHERE, all of them with all.
    """
    if EVERYWHERE:
        return list(itertools.product(kinds, ENGINES))
    first, *others = kinds
    return [*((first, engine) for engine in ENGINES), *zip(others, itertools.cycle(ENGINES))]


def compile_modules() -> None:
    """Write the bytecode that all runs read."""
    tool = REPOSITORY / "tests" / "tools" / "compile_modules.py"
    subprocess.run([sys.executable, str(tool)], env={**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": ""}, check=True)


def content(account: str, generation: int) -> Files:
    """Return the files of a paired account in one generation."""
    me = {"id": f"{account}:1@s.whatsapp.net"}
    parts = {part: {"k": generation} for part in PARTS}
    credentials = {
        **parts,
        "me": me,
        "account": {"details": "x"},
        "nextPreKeyId": generation + 3,
        "generation": generation,
    }
    files = {"creds.json": json.dumps(credentials).encode()}
    for number in range(generation, generation + 3):
        files[f"pre-key-{number}.json"] = stamped(account, generation, f"pre-key-{number}", 300)
    for contact in range(2):
        files[f"session-{contact}.0.json"] = stamped(account, generation, f"session-{contact}", 2500)
    files["deep/er/blob.bin"] = stamped(account, generation, "deep", 40)
    return files


def stamped(account: str, generation: int, name: str, size: int) -> bytes:
    """Return content of about ``size`` bytes that shows everywhere whose it is."""
    word = f"{account}/{generation}/{name};"
    return json.dumps({"stamp": word * (size // len(word) + 1)}).encode()


def write_account(directory: pathlib.Path, files: Files, *, uid: int = BACKEND, when: float | None = None) -> None:
    """Make an account's directory hold exactly ``files``, owned by ``uid``, written at ``when``."""
    shutil.rmtree(directory, ignore_errors=True)
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for path in (directory, *directory.rglob("*")):
        os.chown(path, uid, uid)
        path.chmod(0o700 if path.is_dir() else 0o600)
        if when is not None:
            os.utime(path, (when, when))


def put(path: pathlib.Path, held: bytes, when: float | None = None) -> None:
    """Write one file as the backend's user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(held)
    path.chmod(0o600)
    os.chown(path, BACKEND, BACKEND)
    if when is not None:
        os.utime(path, (when, when))


def write_in_place(directory: pathlib.Path, files: dict[str, bytes]) -> None:
    """Have a directory that stays hold ``files`` and nothing else."""
    fresh = directory.with_name(f"{directory.name}.fresh")
    write_account(fresh, files, uid=BACKEND)
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for path in fresh.iterdir():
        path.rename(directory / path.name)
    fresh.rmdir()


def read_account(directory: pathlib.Path) -> Files:
    """Return all regular files of a directory; anything that is no file or directory shows as a file of its kind."""
    found: Files = {}
    for folder, _folders, names in os.walk(directory):
        for name in names:
            path = pathlib.Path(folder, name)
            found[str(path.relative_to(directory))] = (
                path.read_bytes() if path.is_file() and not path.is_symlink() else b"?"
            )
    return found


@dataclasses.dataclass
class Scene:
    """A legacy root with accounts, a sessions path, what is there already, and the options of the run.

    ``legacy`` and ``present``: generation of each account there. ``later``: generations that were written since.
    """

    root: pathlib.Path
    path: pathlib.Path
    engine: str = "native"
    legacy: t.Mapping[str, int] = dataclasses.field(
        default_factory=lambda: {"5511999990001": 2, "5511999990002": 2, "5511999990003": 2}
    )
    present: t.Mapping[str, int] = dataclasses.field(default_factory=dict)
    state: str = "migrated"
    verify: str = "checksum"
    companions: bool = True
    later: dict[str, list[int]] = dataclasses.field(default_factory=dict)

    layout: t.ClassVar[str] = "baileys"

    # --- what is in accounts and beside them: other layouts have it otherwise (layoutkit.py) ---------

    def content_of(self, account: str, generation: int) -> Files:
        """Return what a whole account shows when it is read."""
        return content(account, generation)

    def written(self, account: str, generation: int) -> Files:
        """Return the files of an account as its library writes them."""
        return content(account, generation)

    def put_account(self, directory: pathlib.Path, account: str, generation: int, when: float | None = None) -> None:
        """Make an account, with all that belongs to it."""
        write_account(directory, self.written(account, generation), when=when)

    def read(self, directory: pathlib.Path) -> Files:
        """Return what is in an account's directory, as content_of has it."""
        return read_account(directory)

    @property
    def beside(self) -> Files:
        """What lies beside the accounts and travels with them, as read_beside shows it."""
        return {"lids.json": b'{"beside": "the accounts"}'}

    def put_beside(self) -> None:
        for name, held in self.beside.items():
            put(self.source / name, held)

    def read_beside(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    @property
    def source(self) -> pathlib.Path:
        return self.root / "app" / ".baileys_auth"

    @property
    def environment_file(self) -> pathlib.Path:
        return self.root / "etc" / "env"

    @property
    def control(self) -> pathlib.Path:
        """The control directory of the sessions path, where the driver has it."""
        return self.root / "ops" / pathlib.Path(control_path(str(self.path))).name

    @property
    def area(self) -> pathlib.Path:
        inside = self.path / ".whatsapp-ops"
        return inside if os.path.ismount(self.path) else self.path.with_name(f".{self.path.name}.whatsapp-ops")

    def build(self) -> Scene:
        """Lay everything out."""
        for account, generation in self.legacy.items():
            self.put_account(self.source / account if account != "." else self.source, account, generation)
        if self.companions and "." not in self.legacy:
            self.put_beside()
        for account, generation in self.present.items():
            self.put_account(self.path / account, account, generation, when=1_700_000_000)
        for top in (self.root / "app", self.path):
            for folder in (top, *(path for path in top.rglob("*") if path.is_dir())) if top.exists() else ():
                os.chown(folder, BACKEND, BACKEND)
        self.environment_file.parent.mkdir(parents=True, exist_ok=True)
        self.environment_file.write_text("# by hand\nOTHER=1\n")
        return self

    def options(self, **changed: t.Any) -> dict[str, t.Any]:
        wanted = {
            "src": [str(self.source)],
            "path": str(self.path),
            "layout": self.layout,
            "engine": self.engine,
            "state": self.state,
            "verify": self.verify,
            "owner": str(BACKEND),
            "group": str(BACKEND),
            "switch": {
                "environment_file": {"path": str(self.environment_file), "values": {"SESSIONS_PATH": str(self.path)}}
            },
        }
        return {**wanted, **changed}

    def run(
        self, faults: t.Sequence[str] = (), log: pathlib.Path | None = None, clock: float = 0, **changed: t.Any
    ) -> Outcome:
        """Run once. ``faults`` as strace takes them, ``log`` for its calls, ``clock``: by how many seconds that of the run is wrong."""
        return run_job("migration", self.options(**changed), faults, log, clock)

    # --- what must hold ---------------------------------------------------------------------------

    def generations(self, account: str) -> set[int]:
        known = {side[account] for side in (self.legacy, self.present) if account in side}
        return known.union(self.later.get(account, ()))

    def is_whole(self, directory: pathlib.Path, account: str) -> int | None:
        """Return the generation that the directory holds exactly, or None."""
        found = self.read(directory)
        whole = (number for number in self.generations(account) if self.content_of(account, number) == found)
        return next(whole, None)

    def places(self, account: str) -> dict[int, list[str]]:
        """Return where each generation of the account lies whole."""
        found: dict[int, list[str]] = collections.defaultdict(list)
        candidates = [
            self.path / account,
            self.source / account,
            *self.area.glob("staging/*"),
            *self.area.glob("displaced/*"),
        ]
        candidates += [old / account for old in self.source.parent.glob(f"{self.source.name}.migrated-*")]
        for directory in candidates:
            if directory.is_dir():
                generation = self.is_whole(directory, account)
                if generation is not None:
                    found[generation].append(str(directory.relative_to(self.root)))
        return found

    def check_after_fault(self) -> None:
        """Whatever happened: no torn or mixed account at the path, every generation whole somewhere, configuration old or new."""
        accounts = {*self.legacy, *self.present}
        for account in accounts:
            place = self.path / account
            if account == "." and not (self.path / "creds.json").exists():
                assert not read_account(self.path), "something of the account is at the path, but not all of it"
                continue
            if place.exists():
                assert self.is_whole(place, account), (
                    f"{account} at the sessions path is no whole generation: {sorted(read_account(place))}"
                )
            lost = self.generations(account) - set(self.places(account))
            assert not lost, f"{account}: generation {lost} is nowhere whole: {dict(self.places(account))}"
        known = {name.partition("/")[0] for name in (*accounts, *self.beside)}
        strangers = self._at_path() - known - {".whatsapp-ops"}
        assert "." in accounts or not strangers, f"strange entries at the sessions path: {strangers}"
        if not (self.control / "intent.json").exists():
            self._require_nothing_only_in_staging()
        assert self.environment_file.read_text() in (self._old_text, self._new_text)
        if self._intent().get("committed"):
            assert self.environment_file.read_text() == self._new_text, "committed before the switch was installed"

    def check_rescued(self) -> None:
        """What the rescuer does, before it starts a backend: where that would look by its configuration then, all of its accounts are."""
        rescue._take_back_all(str(self.control / "intent.json"))
        self.check_after_fault()
        is_switched = self.environment_file.read_text() == self._new_text
        for account, generation in self.legacy.items():
            place = (self.path if is_switched else self.source) / account
            assert self.is_whole(place, account) == generation, f"{account} is not where its backend would look for it"

    def _intent(self) -> dict[str, t.Any]:
        intent = self.control / "intent.json"
        return t.cast("dict[str, t.Any]", json.loads(intent.read_text())) if intent.exists() else {}

    def _require_nothing_only_in_staging(self) -> None:
        for account in self.legacy:
            only = [where for where in self.places(account)[self.legacy[account]] if "/staging/" not in where]
            assert only, f"{account} is in the staging area alone, and no intent says so"

    def check_converged(self) -> None:
        """The full result, and nothing left over."""
        self.check_published()
        assert not (self.control / "intent.json").exists()
        assert not list((self.area / "staging").iterdir())
        hidden = {entry.name for entry in self.area.iterdir()}
        assert hidden <= {"staging", "displaced"}, f"left over in the area: {hidden}"
        kept = {entry.name for entry in self.control.iterdir()}
        assert kept <= {"displaced", "receipt.json", "lock", "area.json"}, f"left over in the control directory: {kept}"

    def check_published(self) -> None:
        """The legacy generation of each account at the path, owned right, the former one displaced, the configuration new."""
        for account, generation in self.legacy.items():
            place = self.path / account
            assert self.is_whole(place, account) == generation, (
                f"{account} is not at the path: {dict(self.places(account))}"
            )
            assert all(path.lstat().st_uid == BACKEND for path in (place, *place.rglob("*")))
            former = self.present.get(account, generation)
            assert any("/displaced/" in where for where in self.places(account)[former]) or former == generation
        for account, generation in self.present.items():
            if account not in self.legacy:
                assert self.is_whole(self.path / account, account) == generation
        assert self.environment_file.read_text() == self._new_text
        if self.companions and "." not in self.legacy:
            for name, held in self.beside.items():
                assert self.read_beside(name) == held

    def check_finishes(self) -> None:
        """The same run again, without faults, leads to the full result (and saw itself that nothing is left to do)."""
        again = self.run()
        assert "failed" not in again, again
        self.check_converged()

    def check_converges(self) -> None:
        """The same run again leads to the full result; once more changes nothing."""
        self.check_finishes()
        assert self.run()["changed"] is False
        self.check_converged()

    def _at_path(self) -> set[str]:
        return {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()

    @property
    def _old_text(self) -> str:
        return "# by hand\nOTHER=1\n"

    @property
    def _new_text(self) -> str:
        return f"{self._old_text}SESSIONS_PATH={self.path}\n"


class WayBack(Scene):
    """The way back from a sessions path (here ``source``) to a legacy path (here ``path``), where each account is as it was before."""

    def build(self) -> Scene:
        super().build()
        for account in self.legacy:
            self.put_account(self.path / account, account, 1, when=1_700_000_000)
        self.source.rename(self.path.with_name("gone"))
        for name, held in self.beside.items():
            put(self.path / name, held)
        there = {"src": [str(self.path)], "path": str(self.source), "state": "migrated"}
        assert "failed" not in run_job("migration", {**self.options(), **there, "switch": self._switch(self.source)})
        for account, generation in self.legacy.items():
            write_in_place(self.source / account, self.written(account, generation))
        self.present = {} if self.engine == "rename" else dict.fromkeys(self.legacy, 1)
        return self

    def options(self, **changed: t.Any) -> dict[str, t.Any]:
        back = {"src": [], "path": str(self.source), "state": "rolled_back", "switch": None}
        return {**super().options(), **back, **changed}

    def _switch(self, path: pathlib.Path) -> dict[str, t.Any]:
        values = {"SESSIONS_PATH": str(path)}
        return {"environment_file": {"path": str(self.environment_file), "values": values}}

    @property
    def _old_text(self) -> str:
        return f"{self._new_text}SESSIONS_PATH={self.source}\n"

    @property
    def _new_text(self) -> str:
        return "# by hand\nOTHER=1\n"


class Driver:
    """The process that jobs are run by (drive.py), which ``wrapper`` starts."""

    def __init__(self, *wrapper: str) -> None:
        argv = [*wrapper, sys.executable, str(DRIVER)]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        assert self._reply() == {}, "it says when it is ready"

    def begin(self, job: str, options: dict[str, t.Any], clock: float = 0) -> int:
        """Have a child made that will run the job; return its PID."""
        self._tell(json.dumps({"job": job, "options": options, "clock": clock, "home": str(home_of(options))}))
        return int(self._reply()["pid"])

    def go(self) -> None:
        """Let the child run."""
        self._tell("go")

    def outcome(self) -> Outcome:
        """Wait for the child's end; ``{"killed": True}`` when it was killed."""
        return self._reply()

    @property
    def children_namespace(self) -> pathlib.Path:
        """The PID namespace of what ``unshare`` started."""
        return pathlib.Path(f"/proc/{self._process.pid}/ns/pid_for_children")

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(SECONDS)

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _reply(self) -> Outcome:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the driver ended"
        return t.cast("Outcome", json.loads(line))


_drivers: list[Driver] = []


def driver() -> Driver:
    """The driver of this test process."""
    return _drivers[0]


def make_own_processes() -> None:
    """Start the driver; it and all processes that are made from here on see only each other once /proc is mounted anew, and end with us.

    Each run looks at every process that it can see, and strace(1) at each call for that: without this most of a test is nothing else.
    """
    first = Driver("unshare", "--pid", "--fork", "--kill-child")
    libc = ctypes.CDLL(None, use_errno=True)
    with first.children_namespace.open() as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWPID) != 0:
            raise OSError(ctypes.get_errno(), "setns(CLONE_NEWPID)")
    _drivers.append(first)


def home_of(options: t.Mapping[str, t.Any]) -> pathlib.Path:
    """Give what stands for /var/lib/whatsapp-ops: on the disk of the scene, so that it loses power with it."""
    switch = options.get("switch")
    if switch:
        return pathlib.Path(switch["environment_file"]["path"]).parents[1] / "ops"
    return next(
        pathlib.Path(above) / "ops" for above in pathlib.Path(options["path"]).parents if (above / "ops").is_dir()
    )


def run_job(
    job: str,
    options: dict[str, t.Any],
    faults: t.Sequence[str] = (),
    log: pathlib.Path | None = None,
    clock: float = 0,
) -> Outcome:
    """Run a job in a process of its own, under strace where faults are to be injected or calls to be counted."""
    pid = driver().begin(job, options, clock)
    with traced(pid, faults, log):
        driver().go()
        return driver().outcome()


@contextlib.contextmanager
def traced(pid: int, faults: t.Sequence[str], log: pathlib.Path | None = None) -> t.Iterator[None]:
    """Have strace attached to a process and its children, as long as any of them lives."""
    if not faults and log is None:
        yield
        return
    calls = {call for fault in faults for call in fault.partition(":")[0].split(",")} or {*CHANGING, *LOOKING}
    known = [f"?{call}" for call in sorted(calls)]  # "?": not every architecture has each of them
    injected = [word for fault in faults for word in ("-e", f"inject={fault}")]
    argv = [
        "strace",
        "-f",
        *(("-y",) if log else ()),  # with the paths that descriptors stand for
        "-p",
        str(pid),
        "-qqq",
        "--signal=none",
        "-o",
        str(log or "/dev/null"),
        "-e",
        f"trace={','.join(known)}",
    ]
    with subprocess.Popen([*argv, *injected], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as tracer:
        until(lambda: is_traced(pid) or tracer.poll() is not None)
        assert tracer.poll() is None, tracer.stderr and tracer.stderr.read()
        yield
        tracer.wait(SECONDS)


def is_traced(pid: int) -> bool:
    return "TracerPid:\t0\n" not in pathlib.Path(f"/proc/{pid}/status").read_text()


def until(condition: t.Callable[[], t.Any], seconds: float = SECONDS) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def count_calls(log: pathlib.Path) -> dict[str, int]:
    """Return how often the job called each system call: the most that any process of it did, as strace counts for ``when=``."""
    counts: dict[tuple[str, str], int] = collections.Counter()
    for line in log.read_text(errors="replace").splitlines():
        found = re.match(r"(\d+) +(\w+)\(", line)
        if found:
            counts[found[1], found[2]] += 1
    most: dict[str, int] = collections.Counter()
    for (_pid, call), number in counts.items():
        most[call] = max(most[call], number)
    return dict(most)
