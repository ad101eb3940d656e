# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be durable before what, read from the system calls of a run.

A power cut on ext4 does not show a missing sync: any fsync(2) writes the whole journal. Other filesystems make durable only what was asked
for, so here the calls themselves are looked at.
"""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest

from faultkit import ENGINES, Scene
from test_kill import SCENES

MakeScene = t.Callable[..., Scene]
PATH = r"\d+<([^>]*)>"


class Call(t.NamedTuple):
    """One system call that succeeded. ``folder``: the directory that it is about, ``names``: the paths that it renames, from and to."""

    name: str
    folder: str
    names: tuple[str, ...] = ()


def calls_in(log: pathlib.Path) -> list[Call]:
    found = []
    for line in log.read_text(errors="replace").splitlines():
        call = re.match(rf"\d+ +(syncfs|fsync)\({PATH}\) += 0", line)
        if call:
            found.append(Call(call[1], call[2]))
        call = re.match(rf'\d+ +(renameat2?)\({PATH}, "([^"]*)", {PATH}, "([^"]*)"(?:, \w+)?\) += 0', line)
        if call:
            found.append(Call(call[1], call[4], (f"{call[2]}/{call[3]}", f"{call[4]}/{call[5]}")))
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_durable_before_what(scene: MakeScene, engine: str, tmp_path: pathlib.Path) -> None:
    struck = scene(engine=engine, **SCENES["conflict"])
    log = tmp_path / "calls"
    assert struck.run(log=log)["changed"]
    calls = calls_in(log)
    require_copies_before_publishing(calls, struck)
    require_publishing_before_receipt(calls, struck)
    require_announced(calls, struck)
    for document in (*("intent.json", "receipt.json", "area.json"), "env"):
        require_whole(calls, struck.environment_file.parent if document == "env" else struck.control, document)


def places(calls: t.Sequence[Call], test: t.Callable[[Call], object]) -> list[int]:
    return [number for number, call in enumerate(calls) if test(call)]


def publishing(calls: t.Sequence[Call], struck: Scene) -> list[int]:
    """Return which calls put accounts in their place at the sessions path."""
    wanted = {str(struck.path / account) for account in struck.legacy}
    found = places(calls, lambda call: call.name == "renameat2" and call.names[1] in wanted)
    assert len(found) == len(wanted), calls
    return found


def require_copies_before_publishing(calls: list[Call], struck: Scene) -> None:
    first = publishing(calls, struck)[0]
    synced = places(calls[:first], lambda call: call.name == "syncfs" and call.folder.startswith(str(struck.area)))
    assert synced, "nothing made the copies durable"
    staged = places(
        calls[:first], lambda call: call.names and "/staging/" in call.names[1] and "/displaced/" not in call.names[1]
    )
    assert not staged or synced[-1] > staged[-1], "something was staged after that"


def require_publishing_before_receipt(calls: list[Call], struck: Scene) -> None:
    last = publishing(calls, struck)[-1]
    written = places(calls, lambda call: call.names and call.names[1] == str(struck.control / "receipt.json"))
    assert written and written[-1] > last
    assert places(calls[last : written[-1]], lambda call: call.name == "syncfs"), "the renames were not made durable"


def require_whole(calls: list[Call], folder: pathlib.Path, document: str) -> None:
    """A document is durable as a whole or not at all: its content before it gets its name, and that before anything else is done."""
    written = places(calls, lambda call: call.names and call.names[1] == str(folder / document))
    assert written
    for number in written:
        assert calls[number - 1] == Call("fsync", calls[number].names[0]), calls[number - 1 : number + 2]
        assert calls[number + 1] == Call("fsync", str(folder)), calls[number - 1 : number + 2]


def require_announced(calls: list[Call], struck: Scene) -> None:
    """Nothing moves before it was announced, and nothing is announced as done before the switch is installed."""
    announced = places(calls, lambda call: call.names and call.names[1] == str(struck.control / "intent.json"))
    moved = places(calls, lambda call: call.name == "renameat2")
    switched = places(calls, lambda call: call.names and call.names[1] == str(struck.environment_file))
    assert announced[0] < moved[0]
    assert announced[-2] < publishing(calls, struck)[0]
    assert len(switched) == 1
    assert publishing(calls, struck)[-1] < switched[0] < announced[-1]


def test_what_is_taken_back_is_durable_before_the_intent_goes(scene: MakeScene, tmp_path: pathlib.Path) -> None:
    struck = scene(**SCENES["conflict"])
    log = tmp_path / "calls"
    listening = "renameat,renameat2,fsync,unlinkat:delay_enter=0:when=1"
    assert "rolled back" in struck.run(["syncfs:error=EIO:when=3", listening], log=log)["failed"]
    calls = calls_in(log)
    reversed_ = places(
        calls, lambda call: call.name == "renameat" and "/." not in call.names[0].removeprefix(str(struck.area))
    )
    back = [
        number
        for number in reversed_
        if calls[number].names[0].startswith(str(struck.path)) or "/displaced/" in calls[number].names[0]
    ]
    assert back
    for number in back:
        folders = {str(pathlib.Path(name).parent) for name in calls[number].names}
        assert {call.folder for call in calls[number + 1 : number + 3] if call.name == "fsync"} == folders, calls[
            number : number + 3
        ]
