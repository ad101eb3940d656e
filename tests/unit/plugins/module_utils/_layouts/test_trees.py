# SPDX-License-Identifier: GPL-3.0-or-later
"""Every layout of the table with the tree that its library makes: found, judged, told apart, and nothing of it told."""

from __future__ import annotations

import itertools
import pathlib

import pytest

from accounts import CANARY, content, put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.patterns import path_matcher
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.account import open_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import Judgement
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import (
    LAYOUTS,
    Recognition,
    layout_named,
    names_of_any,
    recognition,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.search import (
    account_names,
    companions,
    plain_count,
)
from layouts import KINDS, Made, put_account_of, put_csharp, put_evolution_2, put_profile, put_root_of

UUIDS = ("7afd5398-97c3-11eb-a990-f23c917564d6", "7AFD5398-97C3-11EB-A990-F23C917564D7")


def seen(root: pathlib.Path, layout: str) -> set[Made]:
    """What the entry of the table says of the accounts below a root."""
    entry = layout_named(layout)
    found = set()
    with opened_directory(str(root)) as opened:
        for name in account_names(opened, entry):
            with opened_directory(f"{root}/{name}") as account:
                judgement = entry.judge(account)
                assert CANARY not in f"{judgement.problems} {judgement.fingerprints}"
                assert (judgement.state == "corrupt") <= bool(judgement.problems)
                assert judgement.linked == (judgement.state == "paired")
                assert len(judgement.fingerprints) == judgement.linked
                found.add(Made(name, judgement.state, entry.lock_of(account)))
    return found


def auto(root: pathlib.Path) -> Recognition:
    with opened_directory(str(root)) as opened:
        found = recognition(opened, None)
        assert CANARY not in found.reason
        return found


def beside(root: pathlib.Path, layout: str) -> list[str]:
    with opened_directory(str(root)) as opened:
        return list(companions(opened, layout_named(layout)))


def count(root: pathlib.Path, layout: str) -> int:
    with opened_directory(str(root)) as opened:
        return plain_count(opened, layout_named(layout))


def made(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    made = tmp_path / "sessions"
    made.mkdir()
    return made


def test_every_layout_has_a_tree() -> None:
    """Adding a library is one entry and one fixture: this says which is missing."""
    assert set(KINDS) == set(LAYOUTS)


@pytest.mark.parametrize("layout", KINDS)
def test_what_a_library_makes_is_what_is_seen(root: pathlib.Path, layout: str) -> None:
    made = set(put_root_of(layout, root))
    before = content(root)
    assert seen(root, layout) == made
    assert content(root) == before


@pytest.mark.parametrize("layout", KINDS)
def test_auto_tells_them_apart(root: pathlib.Path, layout: str) -> None:
    put_root_of(layout, root)
    assert auto(root).layout.name == layout
    with opened_directory(str(root)) as opened:
        assert any(names_of_any(opened, None))
        assert any(names_of_any(opened, layout_named(layout)))


@pytest.mark.parametrize("layout", KINDS)
def test_auto_finds_nothing_in_what_is_no_account(root: pathlib.Path, layout: str) -> None:
    for account in put_root_of(layout, root):
        for path in sorted((root / account.name).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    with opened_directory(str(root)) as opened:
        assert list(account_names(opened, layout_named(layout))) == []


@pytest.mark.parametrize(
    ("layout", "expected"),
    {
        "session_manager": [".session-cache", "session-index.json", "session-state.json"],
        "waha": ["noweb/configured", "noweb/waha.sqlite3"],
    }.items(),
)
def test_what_travels_with_accounts(root: pathlib.Path, layout: str, expected: list[str]) -> None:
    put_root_of(layout, root)
    assert beside(root, layout) == expected


@pytest.mark.parametrize("layout", sorted(set(KINDS) - {"session_manager", "waha"}))
def test_nothing_else_travels_with_them(root: pathlib.Path, layout: str) -> None:
    put_root_of(layout, root)
    assert beside(root, layout) == []


@pytest.mark.parametrize("layout", [name for name, entry in LAYOUTS.items() if entry.companions is not None])
def test_a_root_may_hold_the_program_itself(root: pathlib.Path, layout: str) -> None:
    made = set(put_root_of(layout, root))
    (root / "node_modules/x/Default").mkdir(parents=True)
    put_file(root / "node_modules/x/creds.json", "{}")
    put_file(root / "package.json", "{}")
    before = beside(root, layout)
    put_file(root / "server.js", "")
    assert beside(root, layout) == before
    if LAYOUTS[layout].folders:
        assert seen(root, layout) == made


@pytest.mark.parametrize("layout", KINDS)
def test_the_plain_count_counts_markers_whatever_they_are_worth(root: pathlib.Path, layout: str) -> None:
    made = put_root_of(layout, root)
    marked = [account for account in made if account.state != "unknown"]
    marked = [account for account in marked if account.state != "pending" or "IndexedDB" not in LAYOUTS[layout].counted]
    extra = layout == "session_manager"  # its own backup of one account
    assert count(root, layout) == len(marked if layout != "waha" else made) + extra


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(KINDS, 2)))
def test_two_libraries_in_one_root_are_an_error_or_one_of_them_sees_all(
    root: pathlib.Path, one: str, other: str
) -> None:
    names = {layout: KINDS[layout].name(f"of-{layout}") for layout in (one, other)}
    for layout, name in names.items():
        put_account_of(layout, root, name)
        KINDS[layout].around(root)
    try:
        found = auto(root).layout
    except SessionsError as error:
        assert "more than one layout" in str(error)
        assert error.args[0].count("because") == 2
        assert CANARY not in str(error)
        assert "of-" not in str(error)
    else:
        with opened_directory(str(root)) as opened:
            assert set(names.values()) <= set(account_names(opened, found)), found.name


def test_a_special_layout_that_does_not_see_all_is_not_taken(root: pathlib.Path) -> None:
    """Or the flat accounts would be left behind without a word."""
    put_account_of("baileys_csharp", root, "tenant")
    put_account(root / "flat")
    with pytest.raises(SessionsError, match=r"baileys, because .*; baileys_csharp, because .*set 'layout'"):
        auto(root)


# --- what belongs to an account beside its directory ------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "account", "parts"),
    [
        ("wppconnect", "userDataDir/a", ("tokens/a.data.json",)),
        ("wppconnect", "tokens/a", ("tokens/a.data.json",)),
        ("wppconnect", "a", ("a.data.json",)),
        ("venom", "tokens/a", ("tokens/a.data.json",)),
        ("openwa", "_IGNORE_a", ("a.data.json",)),
        ("baileys_csharp", "a", ("a\\store.db", "a\\store-log.db")),
        ("baileys", "a", ()),
        ("wwebjs", "session-a", ()),
    ],
)
def test_parts(layout: str, account: str, parts: tuple[str, ...]) -> None:
    assert layout_named(layout).sidecars_of(account) == parts


def test_a_token_without_a_profile_travels_and_one_with_a_profile_is_part_of_it(root: pathlib.Path) -> None:
    put_root_of("wppconnect", root)
    put_file(root / "tokens/alone.data.json", "{}")
    assert beside(root, "wppconnect") == ["tokens/alone.data.json"]


@pytest.mark.parametrize("tokens", [True, False])
def test_a_directory_that_was_named_without_a_slash_is_found(root: pathlib.Path, tokens: bool) -> None:
    """wppconnect-server puts a session's name right behind customUserDataDir."""
    put_profile(root / "userDataDirloja", "paired")
    if tokens:
        put_file(made(root / "tokens") / "loja.data.json", "{}")
    assert auto(root).layout.name == "wppconnect"
    assert seen(root, "wppconnect") == {Made("userDataDirloja", "paired")}
    assert beside(root, "wppconnect") == []
    assert layout_named("wppconnect").sidecars_of("userDataDirloja") == ("tokens/loja.data.json",)
    assert "loja" in layout_named("wppconnect").called("userDataDirloja")


# --- wwebjs and its kin ------------------------------------------------------------------------------------------


def test_only_what_local_auth_calls_a_session_is_one(root: pathlib.Path) -> None:
    for name in ("session", "session-1", "RemoteAuth-1", "wwebjs_temp_session_1", "mysession-1", "sessions"):
        put_profile(root / name, "paired")
    assert {account.name for account in seen(root, "wwebjs")} == {"session", "session-1"}
    assert beside(root, "wwebjs") == ["mysession-1", "sessions"]


def test_a_profile_that_is_the_root_itself_is_an_account_where_the_layout_is_named(root: pathlib.Path) -> None:
    put_profile(root, "paired")
    assert seen(root, "wwebjs") == {Made(".", "paired")}


def test_the_sessions_of_a_session_manager_alone_are_those_of_local_auth(root: pathlib.Path) -> None:
    put_root_of("session_manager", root)
    assert auto(root / "sessions").layout.name == "wwebjs"
    assert {account.name for account in seen(root / "sessions", "session_manager")} == {
        account.name for account in seen(root / "sessions", "wwebjs")
    }


def test_tokens_alone_are_found_without_the_application_around_them(root: pathlib.Path) -> None:
    put_profile(root / "tokens/one", "paired")
    put_file(root / "tokens/one.data.json", CANARY)
    assert auto(root / "tokens").layout.name == "wppconnect"
    assert auto(root).layout.name == "wppconnect"
    (root / "tokens/one").chmod(0o777)
    with pytest.raises(
        SessionsError, match="wppconnect, because a profile has a token file next to it; venom, because"
    ):
        auto(root / "tokens")


# --- Baileys and its kin --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plural", [False, True])
@pytest.mark.parametrize("backslash", [False, True])
def test_folders_of_keys_may_have_either_name(root: pathlib.Path, plural: bool, backslash: bool) -> None:
    (root / "tenant").mkdir(mode=0o700)
    put_csharp(root / "tenant", "paired", 1, plural=plural, backslash=backslash)
    assert seen(root, "baileys_csharp") == {Made("tenant", "paired")}
    assert auto(root).layout.name == "baileys_csharp"


def test_credentials_without_any_key_are_what_an_interrupted_copy_of_the_program_leaves(root: pathlib.Path) -> None:
    account = put_account_of("baileys_csharp", root, "tenant")
    for folder in ("pre-key", "session", "sender-key"):
        for key in (account / folder).iterdir():
            key.unlink()
    with opened_directory(str(account)) as opened:
        assert layout_named("baileys_csharp").judge(opened).problems == ("keys_missing",)
    (account / "tenant_creds.json").unlink()
    assert seen(root, "baileys_csharp") == {Made("tenant", "corrupt")}


def test_two_credentials_in_one_directory_are_told(root: pathlib.Path) -> None:
    account = put_account_of("baileys_csharp", root, "tenant")
    put_file(account / "a_creds.json", "")
    with opened_directory(str(account)) as opened:
        judgement = layout_named("baileys_csharp").judge(opened)
    assert (judgement.state, judgement.problems) == ("paired", ("credentials_twice",))
    put_file(account / "creds.json", "")  # of the library before it was changed: nobody reads it
    (account / "a_creds.json").unlink()
    assert seen(root, "baileys_csharp") == {Made("tenant", "paired")}


def test_instances_whose_credentials_are_in_sql_are_counted_and_never_called_linked(root: pathlib.Path) -> None:
    for name in UUIDS:
        put_evolution_2(root / name)
    assert seen(root, "evolution") == {Made(name, "unknown") for name in UUIDS}
    elsewhere = root.rename(root.parent / "elsewhere")
    assert auto(elsewhere).layout.name == "evolution"
    with opened_directory(f"{elsewhere}/{UUIDS[0]}") as account:
        assert layout_named("evolution").judge(account).problems == ("credentials_in_sql",)
    put_file(elsewhere / UUIDS[0] / "pre-key-9.json", "")  # which the library takes for missing
    with opened_directory(f"{elsewhere}/{UUIDS[0]}") as account:
        assert layout_named("evolution").judge(account) == Judgement("unknown", ("credentials_in_sql", "keys_empty"))
    for key in (elsewhere / UUIDS[0]).iterdir():
        put_file(key, "")
    with opened_directory(f"{elsewhere}/{UUIDS[0]}") as account:
        assert layout_named("evolution").judge(account) == Judgement("corrupt", ("keys_empty",))


@pytest.mark.parametrize("called", ["instances", "_data", "sessions"])
@pytest.mark.parametrize("versions", [(2,), (1, 2)])
def test_instances_are_told_by_what_is_in_them(root: pathlib.Path, called: str, versions: tuple[int, ...]) -> None:
    root = root.rename(root.parent / called)
    put_evolution_2(root / UUIDS[0])
    if 1 in versions:
        put_account(root / "loja")
    assert auto(root).layout.name == "evolution"
    assert Made(UUIDS[0], "unknown") in seen(root, "evolution")
    assert (Made("loja", "paired") in seen(root, "evolution")) is (1 in versions)


@pytest.mark.parametrize("called", ["instances", "sessions"])
def test_what_version_1_has_alone_is_what_its_library_makes(root: pathlib.Path, called: str) -> None:
    root = root.rename(root.parent / called)
    put_account(root / "loja")
    assert auto(root).layout.name == "baileys"


def test_an_account_that_lost_its_credentials_is_not_taken_for_one_with_credentials_in_sql(root: pathlib.Path) -> None:
    put_evolution_2(root / UUIDS[0])
    put_account(root / UUIDS[1])
    assert auto(root).layout.name == "baileys"
    assert seen(root, "baileys") == {Made(UUIDS[0], "corrupt"), Made(UUIDS[1], "paired")}


def test_a_backup_of_credentials_is_told_where_they_are_useless(root: pathlib.Path) -> None:
    account = put_account_of("baileys", root, "one", "corrupt")
    put_file(account / "creds.json.bak", "x")
    with opened_directory(str(account)) as opened:
        judgement = layout_named("baileys").judge(opened)
    assert judgement.problems == ("credentials_empty", "backup_of_credentials_present")


# --- WAHA -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["webjs/one", "wpp/one", "webjs/one/session", "webjs/one/session-one"])
def test_a_profile_of_waha_is_found_wherever_its_engine_puts_it(root: pathlib.Path, place: str) -> None:
    put_profile(root / place, "paired")
    (root / place / "SingletonLock").symlink_to("elsewhere-1")
    assert seen(root, "waha") == {Made("/".join(place.split("/")[:2]), "paired", "foreign")}
    assert auto(root).layout.name == "waha"


def test_what_a_logout_leaves_is_no_account(root: pathlib.Path) -> None:
    put_root_of("waha", root)
    assert "noweb/configured" not in {account.name for account in seen(root, "waha")}


def test_the_directory_of_one_namespace_is_a_root_too(root: pathlib.Path) -> None:
    put_root_of("waha", root)
    assert auto(root / "noweb").layout.name == "waha"
    assert beside(root / "noweb", "waha") == ["configured", "waha.sqlite3"]


# --- what is copied ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [name for name, kind in KINDS.items() if kind.browser])
def test_caches_and_locks_of_a_profile_are_left_out_and_nothing_else(root: pathlib.Path, layout: str) -> None:
    put_root_of(layout, root)
    name = KINDS[layout].name(f"stale{CANARY}")
    entry = layout_named(layout)
    kept = {
        str(path.relative_to(root / name))
        for path in (root / name).rglob("*")
        if not entry.cache_matcher(str(path.relative_to(root / name))) and not entry.is_volatile(path.name)
    }
    databases = ("Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb", "Default/Local Storage/leveldb")
    assert {path for path in kept if (root / name / path).is_file()} == {
        "Local State",
        "Default/Preferences",
        "Default/Cookies",
        *(f"{place}/{file}" for place in databases for file in ("CURRENT", "MANIFEST-000001", "000003.log")),
        *(f"{place}/{file}" for place in databases for file in ("000005.ldb", "LOCK")),
    }


# Directories of the profile of a browser whose pages have service workers, files and blobs, and whether it makes all of one anew.
PROFILE = {
    **dict.fromkeys(
        (
            *(
                "Default/Cache/Cache_Data",
                "Default/Code Cache/js/index-dir",
                "Default/Code Cache/wasm",
                "Default/GPUCache",
            ),
            *(
                "Default/DawnGraphiteCache",
                "Default/DawnWebGPUCache",
                "Default/Service Worker/CacheStorage/1/2/index-dir",
            ),
            *(
                "Default/Service Worker/ScriptCache/index-dir",
                "Default/blob_storage/1",
                "Default/optimization_guide_hint_cache_store",
            ),
            *(
                "ShaderCache",
                "GrShaderCache",
                "GraphiteDawnCache",
                "GPUPersistentCache",
                "component_crx_cache",
                "Crashpad/completed",
            ),
            *(
                "Safe Browsing",
                "BrowserMetrics",
                "Default/Storage/ext/a/def/Code Cache/js",
                "Default/Storage/ext/a/def/GPUCache",
            ),
        ),
        True,
    ),
    **dict.fromkeys(
        (
            *("Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb", "Default/Local Storage/leveldb"),
            *(
                "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.blob/1/00",
                "Default/Session Storage",
                "Default/Sessions",
            ),
            *(
                "Default/Service Worker/Database",
                "Default/WebStorage/1/IndexedDB/indexeddb.blob/1/00",
                "Default/File System/000/t/00",
            ),
            *(
                "Default/WebStorage/1/IndexedDB/indexeddb.leveldb",
                "Default/databases/https_web.whatsapp.com_0",
                "Default/Network",
            ),
            *(
                "Default/shared_proto_db/metadata",
                "Default/Sync Data/LevelDB",
                "Default/Extension State",
                "Default/Local Extension Settings/a",
            ),
            *(
                "Default/GCM Store/Encryption",
                "Default/Platform Notifications",
                "Default/Site Characteristics Database",
                "Default/Storage/ext/a/def",
            ),
            *(
                "Default/Storage/ext/a/def/Local Storage/leveldb",
                "Default/Accounts",
                "Default/Web Applications",
                "Default/Extensions/a/1",
            ),
        ),
        False,
    ),
}


@pytest.mark.parametrize("layout", [name for name, kind in KINDS.items() if kind.browser])
@pytest.mark.parametrize("path", PROFILE)
def test_of_each_directory_of_a_profile_it_is_known_whether_it_is_a_cache(layout: str, path: str) -> None:
    is_cache = layout_named(layout).cache_matcher
    parts = path.split("/")
    left_out = any(is_cache("/".join(parts[:end])) for end in range(1, len(parts) + 1))
    assert left_out is PROFILE[path]
    assert bool(is_cache(f"{path}/000003.log")) <= left_out


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_an_account_needs_is_never_taken_for_a_cache(layout: str) -> None:
    caches = layout_named(layout).cache_matcher
    for path in ("Default/IndexedDB/x/CURRENT", "Default/Local Storage/leveldb/1.log", "creds.json", "whatsapp.db-wal"):
        assert not caches(path)


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("**/Cache", "Cache", True),
        ("**/Cache", "Default/Cache", True),
        ("**/Cache", "Default/Cache/a/b", True),
        ("**/Cache", "Default/MyCache", False),
        ("**/Cache", "Cached", False),
        ("**/a/b", "x/y/a/b/c", True),
        ("**/a/b", "x/a/c/b", False),
        ("a/*", "a/b", True),
        ("a/*", "a/b/c", True),
        ("a/*", "b/a/b", False),
        ("a/?", "a/bc", False),
        ("*.json", "x.json", True),
        ("*.json", "d/x.json", False),
        ("a", "a\nb", False),
        ("*", "a\nb", True),
        ("[a]", "a", False),
        ("[a]", "[a]", True),
    ],
)
def test_path_patterns(pattern: str, path: str, fits: bool) -> None:
    assert bool(path_matcher((pattern,))(path)) is fits


def test_no_pattern_fits_nothing() -> None:
    assert not path_matcher(())("")
    assert not path_matcher(())("a")


def test_open_account_follows_nothing(root: pathlib.Path) -> None:
    put_root_of("session_manager", root)
    (root / "link").symlink_to("sessions")
    with opened_directory(str(root)) as opened, pytest.raises(OSError):
        open_account(opened, f"link/session-paired{CANARY}")
