# SPDX-License-Identifier: GPL-3.0-or-later
"""A layout that an operator describes as data: what it may say, and that it is then a layout like any other."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import CANARY, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts import info as accounts_info
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import LAYOUT
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import Judgement, Layout
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import chosen_layout, layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.search import (
    account_names,
    companions,
    plain_count,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job
from layouts import GONE, put_lock, put_profile

GATEWAY: dict[str, t.Any] = {
    "markers": ["keys/identity.key", "token"],
    "names": ["line-*"],
    "exclude": ["*.part"],
    "locks": ["pid", "*.lock"],
    "caches": ["**/thumbs", "media/tmp"],
    "databases": ["*.chats"],
    "ignored": ["logs"],
}


def described(**changes: t.Any) -> Layout:
    layout = chosen_layout({"layout": "custom", "custom": {**GATEWAY, **changes}})
    assert layout is not None
    return layout


def put_line(path: pathlib.Path) -> pathlib.Path:
    (path / "keys").mkdir(parents=True)
    path.chmod(0o700)
    put_file(path / "keys/identity.key", CANARY)
    put_file(path / "token", CANARY)
    return path


def judged(path: pathlib.Path, layout: Layout) -> Judgement:
    with opened_directory(str(path)) as opened:
        return layout.judge(opened)


def locked(path: pathlib.Path, layout: Layout) -> str:
    with opened_directory(str(path)) as opened:
        return layout.lock_of(opened)


# --- what may be said ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"layout": "custom"}, "'custom' does not describe how accounts are stored; set at least custom.markers"),
        ({"layout": "custom", "custom": {}}, "set at least custom.markers"),
        ({"layout": "custom", "custom": {"depth": 2}}, "custom.markers is empty; list the files"),
        ({"layout": "custom", "custom": {"markers": [], "origin": ""}}, "custom.markers is empty"),
        ({"custom": GATEWAY}, "layout is 'auto'; set layout=custom, or remove 'custom'"),
        ({"layout": "baileys", "custom": GATEWAY}, "layout is 'baileys'; set layout=custom"),
        ({"layout": "nothing"}, "'nothing' is unknown; choose one of baileys, .*, custom, or auto"),
    ],
)
def test_layout_and_description_belong_together(options: dict[str, t.Any], told: str) -> None:
    with pytest.raises(SessionsError, match=told):
        chosen_layout(options)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"markers": ["/etc/passwd"]}, "custom.markers contains '/etc/passwd'; use a path relative to the account"),
        ({"markers": ["/"]}, "custom.markers contains '/'; use a path relative"),
        ({"markers": ["a/../b"]}, r"custom.markers contains '\.\.', which is not a valid name"),
        ({"markers": ["a//b"]}, "custom.markers contains '', which is not a valid name"),
        ({"markers": [""]}, "custom.markers contains '', which"),
        ({"markers": ["."]}, r"custom.markers contains '\.', which"),
        ({"markers": ["a\nb"]}, r"custom.markers contains 'a\\nb', which"),
        ({"markers": ["**/a"]}, r"custom.markers contains '\*\*/a'; use a path of fixed depth"),
        ({"caches": ["a/**/b"]}, r"custom.caches contains '\*\*', which"),
        ({"caches": ["**"]}, r"custom.caches contains '\*\*', which"),
        ({"caches": ["**/"]}, r"custom.caches contains '\*\*', which"),
        ({"names": ["a/b"]}, "custom.names contains 'a/b'; use a name without directories"),
        ({"folders": ["a/b"]}, "custom.folders contains 'a/b'; use a name without directories"),
        ({"locks": ["../pid"]}, r"custom.locks contains '\.\./pid'; use a name without directories"),
        ({"databases": [".."]}, r"custom.databases contains '\.\.', which"),
        ({"companions": ["/index"]}, "custom.companions contains '/index'; use a path relative"),
        ({"depth": 6}, "custom.depth is 6; set it to a number from 1 to 5"),
        ({"depth": -1}, "custom.depth is -1"),
        (
            {"origin": "https://web.whatsapp.com"},
            "custom.origin is 'https://web.whatsapp.com'; write it like the browser",
        ),
        ({"origin": "../../x_0"}, "custom.origin is"),
    ],
)
def test_what_cannot_be_meant(changes: dict[str, t.Any], told: str) -> None:
    with pytest.raises(SessionsError, match=told):
        described(**changes)


def test_every_option_of_the_spec_is_read() -> None:
    """Or an option would do nothing, and nobody would notice."""
    changed = {name: {"depth": 3, "origin": "https_x_0"}.get(name, ["other"]) for name in LAYOUT["custom"]["options"]}
    plain = described()
    for name, value in changed.items():
        other = described(**{name: value})
        seen = [
            field
            for field in (
                "names",
                "depth",
                "folders",
                "volatile",
                "locks",
                "caches",
                "databases",
                "ignored",
                "companions",
                "watched",
            )
            if getattr(plain, field) != getattr(other, field)
        ]
        assert seen, name


@given(st.dictionaries(st.sampled_from(sorted(GATEWAY)), st.lists(st.text(max_size=8), max_size=3)))
def test_whatever_is_said_is_a_layout_or_a_sentence(changes: dict[str, list[str]]) -> None:
    try:
        layout = described(**changes)
    except SessionsError as error:
        assert str(error).startswith("custom.")
    else:
        assert layout.cache_matcher("x") is None or changes["caches"]


# --- accounts -------------------------------------------------------------------------------------------------------


def test_accounts_are_found_by_their_markers(tmp_path: pathlib.Path) -> None:
    for name in ("line-1", "line-2", "other", "logs/line-3", "t/line-4"):
        put_line(tmp_path / name)
    (tmp_path / "line-5").mkdir()
    put_file(tmp_path / "index", "")
    with opened_directory(str(tmp_path)) as root:
        assert list(account_names(root, described())) == ["line-1", "line-2"]
        assert list(account_names(root, described(depth=2))) == ["line-1", "line-2", "t/line-4"]
        assert list(account_names(root, described(names=[]))) == ["line-1", "line-2", "other"]
        assert list(account_names(root, described(folders=["t"]))) == ["t/line-4"]
        assert list(companions(root, described())) == ["index", "line-5", "other", "t"]
        assert list(companions(root, described(companions=["index"]))) == ["index"]
        assert list(companions(root, described(companions=[]))) == []
        assert plain_count(root, described()) == 10


@pytest.mark.parametrize(
    ("change", "state", "problems"),
    [
        (lambda line: None, "paired", ()),
        (lambda line: (line / "token").unlink(), "corrupt", ("marker_missing",)),
        (lambda line: put_file(line / "token", ""), "corrupt", ("marker_empty",)),
        (lambda line: ((line / "token").unlink(), (line / "token").mkdir()), "corrupt", ("marker_empty",)),
        (
            lambda line: ((line / "token").unlink(), (line / "token").symlink_to("keys")),
            "corrupt",
            ("marker_not_a_file",),
        ),
        (lambda line: os.link(line / "token", line / "x"), "paired", ("marker_hard_linked",)),
        (lambda line: (line.chmod(0o755), (line / "token").chmod(0o644)), "paired", ("readable_by_everybody",)),
    ],
)
def test_judging_by_markers(
    tmp_path: pathlib.Path, change: t.Callable[[pathlib.Path], t.Any], state: str, problems: tuple[str, ...]
) -> None:
    line = put_line(tmp_path / "line-1")
    (line / "keys").chmod(0o700)
    change(line)
    judgement = judged(line, described())
    assert (judgement.state, judgement.problems, judgement.linked) == (state, problems, state == "paired")


def test_a_marker_may_be_a_pattern(tmp_path: pathlib.Path) -> None:
    line = put_line(tmp_path / "line-1")
    (line / "keys").chmod(0o700)
    layout = described(markers=["k*/*.key"])
    assert judged(line, layout).state == "paired"
    put_file(line / "keys/second.key", "")
    assert judged(line, layout).problems == ("marker_empty",)


def test_a_profile_of_a_page_of_their_own(tmp_path: pathlib.Path) -> None:
    put_profile(tmp_path / "line-1", "paired", origin="http_127.0.0.1_8080")
    (tmp_path / "line-1").chmod(0o700)
    put_lock(tmp_path / "line-1", "foreign")
    layout = described(markers=[], origin="http_127.0.0.1_8080")
    with opened_directory(str(tmp_path)) as root:
        assert list(account_names(root, layout)) == ["line-1"]
    assert (judged(tmp_path / "line-1", layout).state, locked(tmp_path / "line-1", layout)) == ("paired", "foreign")
    assert judged(tmp_path / "line-1", described(markers=[], origin="https_web.whatsapp.com_0")).state == "pending"
    assert layout.cache_matcher("Default/Cache/x")
    assert layout.is_volatile("SingletonLock")
    assert layout.stop.mode == "mixed"
    with_marker = described(markers=["token"], origin="http_127.0.0.1_8080")
    assert judged(tmp_path / "line-1", with_marker).problems == ("marker_missing",)


# --- locks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "held", "expected"),
    [
        ("pid", str(GONE), "stale"),
        pytest.param("pid", f"{os.getpid()}\n", "live", id="pid-own-live"),
        ("pid", "", "live"),
        ("pid", "x", "live"),
        ("pid", "9" * 70, "live"),
        ("pid", "9" * 60, "stale"),
        ("a.lock", str(GONE), "stale"),
        pytest.param("other", str(os.getpid()), "", id="other-own"),
    ],
)
def test_locks(tmp_path: pathlib.Path, name: str, held: str, expected: str) -> None:
    line = put_line(tmp_path / "line-1")
    put_file(line / name, held)
    assert locked(line, described()) == expected


def test_of_several_locks_a_live_one_counts(tmp_path: pathlib.Path) -> None:
    line = put_line(tmp_path / "line-1")
    assert locked(line, described()) == ""
    put_file(line / "pid", str(GONE))
    put_file(line / "z.lock", str(os.getpid()))
    assert locked(line, described()) == "live"
    (line / "z.lock").unlink()
    (line / "z.lock").symlink_to("/nowhere")
    assert locked(line, described()) == "live"


# --- a layout like any other ---------------------------------------------------------------------------------------


def test_accounts_move_and_are_told_of(tmp_path: pathlib.Path) -> None:
    for name in ("line-1", "line-2"):
        line = put_line(tmp_path / "old" / name)
        put_file(line / "x.part", CANARY)
        put_file(line / "pid", str(GONE))
        (line / "thumbs").mkdir()
        put_file(line / "thumbs/x", CANARY)
    how = {"layout": "custom", "custom": GATEWAY}
    owner = {"owner": str(os.geteuid()), "group": str(os.getegid())}
    options = {"src": [str(tmp_path / "old")], "path": str(tmp_path / "new"), "state": "migrated", **how, **owner}
    outcome = core_job.execute(migration_job, options, check_mode=False)
    assert outcome.report.values["counts"]["migrated"] == 2
    assert not core_job.execute(migration_job, options, check_mode=False).changed
    moved = {str(path.relative_to(tmp_path / "new")) for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert moved == {f"line-{number}/{name}" for number in (1, 2) for name in ("keys/identity.key", "token")}
    told = core_job.execute(accounts_info, {"path": str(tmp_path / "new"), **how}, check_mode=False).report.values
    assert (told["layout"], told["layout_reason"], told["linked_accounts"]) == ("custom", "it was set explicitly", 2)
    assert CANARY not in json.dumps(told)


def test_a_description_is_not_in_the_table() -> None:
    with pytest.raises(SessionsError, match="'custom' is unknown"):
        layout_named("custom")
