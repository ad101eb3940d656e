# SPDX-License-Identifier: GPL-3.0-or-later
"""What is really in force: files of a unit in a private tree, and what the rules of systemd make of them."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import (
    effective,
    load_path,
    option_types,
    specifiers,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.effective import (
    Effective,
    effective_in,
    effective_settings,
    read_sources,
    shadowed,
    variable_history,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import Unit
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit_file import read_sections, render

FRAGMENT = "[Service]\nExecStart=/bin/true\nEnvironment=FIRST=1\n"


class Tree:
    """A private stand-in for /etc, /run and /usr/lib."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.search = tuple(f"{root}/{name}" for name in ("etc", "run", "lib"))
        self.put("lib/wa.service", FRAGMENT)

    def put(self, name: str, text: str) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    def link(self, name: str, target: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).symlink_to(target)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    made = Tree(tmp_path)
    monkeypatch.setattr(load_path, "SEARCH_PATH", made.search)
    monkeypatch.setattr(effective, "systemd_runs", lambda: False)
    return made


def in_effect(overlay: load_path.Overlay | None = None) -> Effective:
    return effective_in(read_sources("wa.service", overlay), "A")


def environment(text: str) -> str:
    return f"[Service]\nEnvironment={text}\n"


def order(name: str) -> list[str]:
    return [
        Path(file.path).parent.parent.name + "/" + "/".join(Path(file.path).parts[-2:])
        for file in load_path.drop_ins(name)
    ]


def test_drop_ins_are_sorted_by_file_name_alone(tree: Tree) -> None:
    for name in (
        "lib/wa.service.d/zz.conf",
        "etc/wa.service.d/override.conf",
        "run/wa.service.d/90-run.conf",
        "etc/wa.service.d/9-z.conf",
        "etc/wa.service.d/100-x.conf",
        "etc/wa.service.d/Z-up.conf",
        "etc/wa.service.d/_u.conf",
    ):
        tree.put(name, "")
    assert order("wa.service") == [
        "etc/wa.service.d/100-x.conf",
        "etc/wa.service.d/9-z.conf",
        "run/wa.service.d/90-run.conf",
        "etc/wa.service.d/Z-up.conf",
        "etc/wa.service.d/_u.conf",
        "etc/wa.service.d/override.conf",
        "lib/wa.service.d/zz.conf",
    ]


def test_of_one_name_the_stronger_directory_wins(tree: Tree) -> None:
    tree.put("lib/wa.service.d/a.conf", environment("A=lib"))
    tree.put("run/wa.service.d/a.conf", environment("A=run"))
    tree.put("etc/service.d/a.conf", environment("A=top"))
    assert order("wa.service") == ["run/wa.service.d/a.conf"]


def test_ignored_names(tree: Tree) -> None:
    for name in (".hidden.conf", "x.conf~", "x.conf.bak", "x"):
        tree.put(f"etc/wa.service.d/{name}", environment("A=1"))
    assert order("wa.service") == []


def test_prefixes_templates_and_all_services(tree: Tree) -> None:
    tree.put("lib/wa-back@.service", FRAGMENT)
    directories = (
        "wa-back@1.service.d",
        "wa-back@.service.d",
        "wa-@1.service.d",
        "wa-@.service.d",
        "wa-.service.d",
        "service.d",
    )
    for number, directory in enumerate(directories):
        tree.put(f"etc/{directory}/{number}.conf", "")
        tree.put(f"etc/{directory}/same.conf", directory)
    assert [path.rpartition("/")[2] for path in order("wa-back@1.service")] == [
        "0.conf",
        "1.conf",
        "2.conf",
        "3.conf",
        "4.conf",
        "5.conf",
        "same.conf",
    ]
    assert order("wa-back@1.service")[-1] == "etc/wa-back@1.service.d/same.conf"


@pytest.mark.root
def test_masked_and_dangling_names_hide_others(tree: Tree) -> None:
    tree.put("lib/wa.service.d/a.conf", environment("A=lib"))
    tree.link("etc/wa.service.d/a.conf", "/dev/null")
    tree.put("lib/wa.service.d/b.conf", environment("B=lib"))
    tree.link("etc/wa.service.d/b.conf", "/nowhere")
    sources = read_sources("wa.service")
    assert variable_history(sources, "A") == variable_history(sources, "B") == ()


@pytest.mark.root
def test_directories_of_aliases(tree: Tree) -> None:
    tree.put("etc/other.service.d/a.conf", environment("A=alias"))
    assert in_effect().value is None
    tree.link("etc/other.service", f"{tree.root}/lib/wa.service")
    assert in_effect().value == "alias"
    assert load_path.canonical_name("other.service") == "wa.service"


@pytest.mark.parametrize(
    "make",
    [lambda tree: tree.link("etc/wa.service", "/dev/null"), lambda tree: tree.put("etc/wa.service", "")],
    ids=["link", "empty"],
)
@pytest.mark.root
def test_masked_unit(tree: Tree, make: t.Callable[[Tree], object]) -> None:
    make(tree)
    with pytest.raises(SessionsError, match="masked"):
        read_sources("wa.service")


def test_unit_that_does_not_exist(tree: Tree) -> None:
    with pytest.raises(SessionsError, match="does not exist"):
        read_sources("nope.service")


VARIABLE = [
    pytest.param([], [], Effective(None, "", 0), id="nowhere"),
    pytest.param(["[Service]\nEnvironment=A=1\nEnvironment=A=2"], [], Effective("2", "0.conf", 3), id="later line"),
    pytest.param([environment("A=1"), environment("A=2")], [], Effective("2", "1.conf", 2), id="later file"),
    pytest.param([environment("A=1"), environment("")], [], Effective(None, "1.conf", 2), id="reset"),
    pytest.param(
        [environment("A=1"), environment(""), environment("A=3")],
        [],
        Effective("3", "2.conf", 2),
        id="set after a reset",
    ),
    pytest.param([environment(""), environment("B=2")], [], Effective(None, "", 0), id="reset of something else"),
    pytest.param(["[Unit]\nEnvironment=A=1"], [], Effective(None, "", 0), id="wrong section"),
    pytest.param(
        ["[Service]\nEnvironmentFile={env}", environment("A=2")],
        ["A=file\n"],
        Effective("file", "env", 1),
        id="file beats a later drop-in",
    ),
    pytest.param(
        ["[Service]\nEnvironmentFile={env}", "[Service]\nEnvironmentFile="],
        ["A=file\n"],
        Effective(None, "", 0),
        id="files reset",
    ),
    pytest.param(
        ["[Service]\nEnvironmentFile={env}\nEnvironment="],
        ["A=file\n"],
        Effective("file", "env", 1),
        id="reset of Environment spares files",
    ),
    pytest.param(
        ["[Service]\nEnvironmentFile={env}"], ["# x\nA=1\nA=2\n"], Effective("2", "env", 3), id="later line of a file"
    ),
    pytest.param(
        ["[Service]\nEnvironmentFile=-/nowhere/env\nEnvironment=A=1"],
        [],
        Effective("1", "0.conf", 3),
        id="optional file",
    ),
    pytest.param(
        ["[Service]\nEnvironmentFile={env}"], ["A=%H\n"], Effective("%H", "env", 1), id="no specifiers in files"
    ),
    pytest.param([environment("A=1") + "UnsetEnvironment=A"], [], Effective(None, "0.conf", 3), id="unset"),
    pytest.param(
        [environment("A=1") + "UnsetEnvironment=A=1 B"], [], Effective(None, "0.conf", 3), id="unset by value"
    ),
    pytest.param(
        [environment("A=1") + "UnsetEnvironment=A=2"], [], Effective("1", "0.conf", 2), id="unset of another value"
    ),
    pytest.param(
        [environment("A=1") + "UnsetEnvironment=A\nUnsetEnvironment="],
        [],
        Effective("1", "0.conf", 2),
        id="unset reset",
    ),
    pytest.param(
        ["[Service]\nEnvironmentFile={env}\nUnsetEnvironment=A"],
        ["A=1\n"],
        Effective(None, "0.conf", 3),
        id="unset beats files",
    ),
    pytest.param([environment("A=%n:%p:%%")], [], Effective("wa.service:wa:%", "0.conf", 2), id="specifiers"),
    pytest.param([environment('"A=x y" B=2')], [], Effective("x y", "0.conf", 2), id="quoted"),
]


@pytest.mark.parametrize(("drop_ins", "files", "expected"), VARIABLE)
def test_variable(tree: Tree, drop_ins: list[str], files: list[str], expected: Effective) -> None:
    for text in files:
        tree.put("env", text)
    for number, text in enumerate(drop_ins):
        tree.put(f"etc/wa.service.d/{number}.conf", text.replace("{env}", f"{tree.root}/env"))
    found = in_effect()
    assert Effective(found.value, Path(found.source).name, found.line) == expected


def test_files_by_pattern_in_order(tree: Tree) -> None:
    tree.put("b.env", "A=b\n")
    tree.put("a.env", "A=a\n")
    tree.put("etc/wa.service.d/0.conf", f"[Service]\nEnvironmentFile={tree.root}/*.env\n")
    assert in_effect().value == "b"


def test_overlay(tree: Tree) -> None:
    env = f"{tree.root}/env"
    own = f"{tree.root}/etc/wa.service.d/20.conf"
    hidden = tree.put("lib/wa.service.d/20.conf", environment("A=lib"))
    drop_in = f"[Service]\nEnvironmentFile={env}\n"
    assert in_effect({own: drop_in, env: "A=planned\n"}) == Effective("planned", env, 1)
    tree.put("etc/wa.service.d/20.conf", drop_in)
    assert in_effect({own: None}) == Effective("lib", hidden, 2)


def test_the_history_names_every_place(tree: Tree) -> None:
    env = tree.put("env", "A=file\n")
    first = tree.put("etc/wa.service.d/1.conf", environment("A=old") + f"EnvironmentFile={env}\n")
    second = tree.put("etc/wa.service.d/2.conf", environment("A=new"))
    found = variable_history(read_sources("wa.service"), "A")
    assert [(place.value, place.source, place.line, place.wins) for place in found] == [
        ("old", first, 2, False),
        ("new", second, 2, False),
        ("file", env, 1, True),
    ]


@pytest.mark.root
def test_a_link_that_a_user_made_is_not_followed(tree: Tree) -> None:
    tree.put("secret", "A=CANARY\n")
    tree.link("env", f"{tree.root}/secret")
    os.lchown(tree.root / "env", 1500, 1500)
    tree.put("etc/wa.service.d/1.conf", f"[Service]\nEnvironmentFile={tree.root}/env\n")
    with pytest.raises(SessionsError, match="symbolic link"):
        in_effect()


OURS = {"Service": {"Environment": {"A": "ours"}, "KillSignal": "INT", "TimeoutStopSec": 90, "ReadWritePaths": "/x"}}
SHADOWS = [
    pytest.param(
        "etc/wa.service.d/10.conf",
        "[Service]\nEnvironment=A=x\nKillSignal=9\nTimeoutStopSec=1\nReadWritePaths=\n",
        [],
        id="sorts before",
    ),
    pytest.param("etc/wa.service.d/30.conf", environment("A=x"), ["A"], id="sorts after"),
    pytest.param("etc/wa.service.d/30.conf", environment("A=ours"), [], id="same value"),
    pytest.param("etc/wa.service.d/30.conf", environment(""), ["A"], id="reset"),
    pytest.param("etc/service.d/30.conf", environment("A=x"), ["A"], id="for all services"),
    pytest.param("lib/wa.service.d/30.conf", "[Service]\nKillSignal=SIGTERM\n", ["KillSignal"], id="option"),
    pytest.param(
        "etc/wa.service.d/30.conf", "[Service]\nKillSignal=2\nTimeoutStopSec=1min 30s\n", [], id="same in other words"
    ),
    pytest.param("etc/wa.service.d/30.conf", "[Service]\nTimeoutSec=10\n", ["TimeoutStopSec"], id="by its other name"),
    pytest.param("etc/wa.service.d/30.conf", "[Service]\nReadWritePaths=/y\n", [], id="adds to a list"),
    pytest.param(
        "etc/wa.service.d/30.conf",
        "[Service]\nReadWritePaths=\nReadWritePaths=/y\n",
        ["ReadWritePaths"],
        id="resets a list",
    ),
    pytest.param("etc/wa.service.d/30.conf", "[Service]\nUnsetEnvironment=A\n", ["A"], id="unset"),
    pytest.param("etc/wa.service.d/10.conf", "[Service]\nEnvironmentFile={root}/env\n", ["A"], id="environment file"),
]


@pytest.mark.parametrize(("name", "text", "beaten"), SHADOWS)
def test_shadowed(tree: Tree, name: str, text: str, beaten: list[str]) -> None:
    tree.put("env", "A=file\n")
    tree.put(name, text.replace("{root}", str(tree.root)))
    own = f"{tree.root}/etc/wa.service.d/20.conf"
    settings = read_sections(OURS)
    found = shadowed(read_sources("wa.service", {own: render(settings)}), own, settings)
    assert [variable or winner.name for _setting, variable, winner in found] == beaten


def test_hidden_by_the_same_name_in_a_stronger_directory(tree: Tree) -> None:
    hider = tree.put("etc/wa.service.d/20.conf", "[Service]\nKillSignal=2\n")
    own = f"{tree.root}/run/wa.service.d/20.conf"
    settings = read_sections(OURS)
    found = shadowed(read_sources("wa.service", {own: render(settings)}), own, settings)
    assert {(setting.option, winner.source, winner.line) for setting, _variable, winner in found} == {
        ("Environment", hider, 0),
        ("TimeoutStopSec", hider, 0),
        ("ReadWritePaths", hider, 0),
    }


def test_in_force(tree: Tree) -> None:
    tree.put("etc/wa.service.d/10.conf", "[Service]\nReadWritePaths=/a\nKillMode=mixed\n")
    tree.put("etc/wa.service.d/30.conf", "[Service]\nReadWritePaths=/c\nEnvironment=A=later\n")
    own = f"{tree.root}/etc/wa.service.d/20.conf"
    settings = read_sections(
        {
            "Service": {"Environment": {"A": "ours", "B": "%p"}, "ReadWritePaths": "/b", "KillMode": "process"},
            "Unit": {"Description": None},
        }
    )
    assert effective_settings(read_sources("wa.service", {own: render(settings)}), settings) == {
        "Service": {
            "Environment": {"A": "later", "B": "wa"},
            "ReadWritePaths": ["/a", "/b", "/c"],
            "KillMode": "process",
        },
        "Unit": {"Description": None},
    }


def test_loaded_environment() -> None:
    shown = '"A=a b" B=host "C=x\\$y\\"z" "D=tab\\tq" "Q=it\\"s"'
    loaded = effective.loaded_environment(Unit("wa.service", {"Environment": shown}))
    assert loaded == {"A": "a b", "B": "host", "C": 'x$y"z', "D": "tab\tq", "Q": 'it"s'}


@pytest.mark.parametrize(
    ("name", "text", "expanded"),
    [
        ("wa.service", "%n %N %p %i| %%n", "wa.service wa wa | %n"),
        ("wa-b@x-y.service", "%p %i %I %j %J %f", "wa-b x-y x/y b b /x/y"),
        ("wa@.service", "%i %n %t", "%i %n /run"),
        ("wa.service", "%d 100% %", "%d 100% %"),
    ],
)
def test_specifiers(name: str, text: str, expanded: str) -> None:
    assert specifiers.expand(text, load_path.name_parts(name)) == expanded


@pytest.mark.parametrize(
    ("option", "one", "other", "same"),
    [
        ("KillSignal", "SIGINT", "2", True),
        ("KillSignal", "int", "SIGTERM", False),
        ("TimeoutStopSec", "90", "1min 30s", True),
        ("TimeoutStopSec", "1h", "60min", True),
        ("TimeoutStopSec", "infinity", "infinity", True),
        ("TimeoutStopSec", "5", "5 parsecs", False),
        ("UMask", "77", "0077", True),
        ("SendSIGKILL", "no", "false", True),
        ("Restart", "always", "no", False),
    ],
)
def test_same_value(option: str, one: str, other: str, same: bool) -> None:
    assert option_types.same_value(option, one, other) is same
