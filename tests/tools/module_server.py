# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs modules in separate processes without starting an interpreter for each: they are forked from one that has loaded the code.

As a program, it is that interpreter, which may be a different Python (3.9 and newer) than that of the tests. A request is one
line of JSON: the name of the module, its arguments, and the uid to run as.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import traceback
import typing as t

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
COLLECTIONS = REPOSITORY / "playbooks" / "collections"
MODULES = "ansible_collections.whatsapp_ops.sessions.plugins.modules"


class Server:
    """The client of the interpreter that forks modules."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, module: str, arguments: t.Mapping[str, t.Any], uid: int = 0) -> dict[str, t.Any]:
        """Run ``module`` and return its output. Output on its stderr (for example, about an unclosed file) is an error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"module": module, "arguments": arguments, "uid": uid}) + "\n")
        self._process.stdin.flush()
        reply = json.loads(self._process.stdout.readline())
        assert not reply["stderr"], reply["stderr"]
        try:
            result: dict[str, t.Any] = json.loads(reply["stdout"])
        except ValueError:
            raise AssertionError(
                f"{module} ended with {reply['status']} and printed no result: {reply['stdout']}"
            ) from None
        return {**result, "warnings": [_sentence(warning) for warning in result.get("warnings", [])]}


@contextlib.contextmanager
def served() -> t.Iterator[Server]:
    """Start the interpreter; ``WA_MODULE_PYTHON`` sets another one, like that of a target."""
    import ansible

    search_path = os.pathsep.join([str(COLLECTIONS), str(pathlib.Path(ansible.__file__).parents[1])])
    with subprocess.Popen(
        [os.environ.get("WA_MODULE_PYTHON", sys.executable), __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={
            **os.environ,
            "PYTHONPATH": search_path,
            "PYTHONWARNINGS": "error::ResourceWarning",
        },
    ) as process:
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


def _sentence(warning: t.Any) -> str:
    """Return a warning as text; since ansible-core 2.19, modules print an object that the controller converts."""
    return warning if isinstance(warning, str) else str(warning["event"]["msg"])


def _serve() -> None:
    for name in sorted(path.stem for path in (REPOSITORY / "plugins" / "modules").glob("session_*.py")):
        importlib.import_module(f"{MODULES}.{name}")
    for encoding in ("ascii", "idna", "latin-1"):  # loaded now, because only root may have access to the interpreter
        codecs.lookup(encoding)
    importlib.import_module("sqlite3")
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        replies.write(json.dumps(_forked(json.loads(line))) + "\n")
        replies.flush()


def _forked(request: dict[str, t.Any]) -> dict[str, t.Any]:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as complained:
        given.write(json.dumps({"ANSIBLE_MODULE_ARGS": request["arguments"]}).encode())
        given.seek(0)
        pid = os.fork()
        if pid == 0:
            for number, file in enumerate((given, printed, complained)):
                os.dup2(file.fileno(), number)
            _run(request)
        _pid, status = os.waitpid(pid, 0)
        for file in (printed, complained):
            file.seek(0)
        stdout, stderr = (file.read().decode("utf-8", "backslashreplace") for file in (printed, complained))
        return {"status": status, "stdout": stdout, "stderr": stderr}


def _run(request: dict[str, t.Any]) -> t.NoReturn:
    try:
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        if request["uid"]:
            os.setgroups([])
            os.setresgid(request["uid"], request["uid"], request["uid"])
            os.setresuid(request["uid"], request["uid"], request["uid"])
            ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, as after exec(2): the process owns /proc/self again
        importlib.import_module(f"{MODULES}.{request['module']}").main()
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    _serve()
