# SPDX-License-Identifier: GPL-3.0-or-later
"""What a receipt keeps for the way back: where accounts came from, and how the unit was configured before any switch of ours."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest
from test_switch import NEW, SECRET, Host, host

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import (
    Entry,
    FolderMark,
    Mark,
    document_of,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.install_switch import install
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.origins import ancestors, notes_for
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.rollback import (
    origin_of,
    switch_back,
    with_switch,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.sources import Source
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.switch import Switch, observe_switch
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit
from areas import control_of

__all__ = ["host"]  # the fixture

NOTHING: dict[str, t.Any] = {}
DROP_IN = "# by hand\n[Service]\nEnvironment=SESSIONS_PATH=/by/hand\n"
FILE = f"# mine\nTOKEN={SECRET}\nSESSIONS_PATH=.baileys_auth\n"


def mark(number: int) -> Mark:
    return Mark(FolderMark(number, number), {})


def entry(source: str, when: float, **more: t.Any) -> Entry:
    return Entry(source, mark(1), mark(2), when, **more)


def unit(directory: str) -> Unit:
    return Unit("wa.service", {**dict.fromkeys(PROPERTIES, ""), "WorkingDirectory": directory})


def there(host: Host, receipt: dict[str, t.Any], value: str = NEW) -> dict[str, t.Any]:
    """Switch, as a cutover does; return the receipt afterwards."""
    switch = host.switch(value)
    state = observe_switch(switch, host.unit)
    noted = with_switch(notes_for(receipt, [], None), switch, state)
    install(switch, state)
    return noted


def back(host: Host, receipt: dict[str, t.Any]) -> None:
    switch = switch_back(receipt, host.unit, NEW)
    install(switch, observe_switch(switch, host.unit))


@pytest.mark.parametrize("drop_in", [None, DROP_IN])
@pytest.mark.parametrize("file", [None, "", FILE])
def test_files_become_what_they_were(host: Host, drop_in: str | None, file: str | None) -> None:
    for path, text in ((host.drop_in, drop_in), (host.env, file)):
        if text is not None:
            host.put(str(path.relative_to(host.root)), text)
    receipt = there(host, NOTHING)
    assert NEW in host.drop_in.read_text()
    assert SECRET not in str(receipt)
    back(host, receipt)
    for path, text in ((host.drop_in, drop_in), (host.env, file)):
        assert (path.read_text() if path.exists() else None) == text


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_drop_in_that_was_private_is_so_again(host: Host, mode: int) -> None:
    host.put("etc/wa.service.d/20-sessions.conf", DROP_IN).chmod(mode)
    back(host, there(host, NOTHING))
    assert host.drop_in.read_text() == DROP_IN
    assert host.drop_in.stat().st_mode & 0o777 == mode


def test_what_was_there_before_the_first_switch_counts(host: Host) -> None:
    host.put("default/env", FILE)
    receipt = there(host, there(host, NOTHING, "/first"))
    back(host, receipt)
    assert host.env.read_text() == FILE
    assert not host.drop_in.exists()


def test_what_somebody_wrote_between_two_switches_counts(host: Host) -> None:
    host.put("default/env", FILE)
    receipt = there(host, NOTHING)
    host.put("default/env", "SESSIONS_PATH=/other\n")
    receipt = there(host, receipt)
    back(host, receipt)
    assert host.env.read_text() == "SESSIONS_PATH=/other\n"


def test_other_lines_of_an_environment_file_stay(host: Host) -> None:
    receipt = there(host, NOTHING)
    host.env.write_text(f"{host.env.read_text()}ADDED=since\n")
    back(host, receipt)
    assert host.env.read_text() == "ADDED=since\n"


def test_a_unit_that_would_stay_is_refused(host: Host) -> None:
    receipt = there(host, NOTHING)
    other = host.put("etc/wa.service.d/50-by-hand.conf", f"[Service]\nEnvironment=OTHER={NEW}/a\n")
    with pytest.raises(SessionsError, match=f"{other} line 2 points the backend to {NEW}"):
        switch_back(receipt, host.unit, NEW)
    with pytest.raises(SessionsError, match="its former value is unknown"):
        switch_back(NOTHING, host.unit, NEW)
    other.unlink()
    assert switch_back(receipt, host.unit, NEW) != Switch((), None)


def test_where_accounts_came_from(tmp_path: Path) -> None:
    old, new = tmp_path / "releases/1", tmp_path / "releases/2"
    new.mkdir(parents=True)
    current = tmp_path / "current"
    current.symlink_to(old)
    source = Source(f"{current}/auth", f"{old}/auth")
    notes = notes_for({}, [source], unit(str(current)))
    receipt = {**document_of(NEW, {"a": entry(source.path, 1)}), **notes}
    assert origin_of(receipt, unit(str(current)), NEW) == f"{old}/auth"
    current.unlink()
    current.symlink_to(new)
    assert origin_of(receipt, unit(str(current)), NEW) == f"{new}/auth"
    assert origin_of(receipt, None, NEW) == f"{old}/auth"
    elsewhere = {**receipt, **notes_for({}, [Source("/srv/auth", "/srv/auth")], unit(str(current)))}
    assert origin_of({**elsewhere, "accounts": document_of(NEW, {"a": entry("/srv/auth", 1)})["accounts"]}, None, NEW)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
@pytest.mark.parametrize(
    ("leads_to", "words"),
    [
        ("etc", "symbolic link of one user to a directory of another"),
        ("theirs", "now leads to .*theirs, which belongs to root"),
        ("empty", "is now the empty directory .*/empty/auth, which belongs to root"),
        ("gone", "is not a directory"),
        ("mine", ""),
        ("mounted", ""),
    ],
)
def test_a_user_cannot_have_accounts_brought_to_a_directory_of_root(tmp_path: Path, leads_to: str, words: str) -> None:
    """The link to the release belongs to its user (root made those that lead to what root has)."""
    current = tmp_path / "current"
    for name in ("etc/auth", "theirs", "empty/auth", "mine", "mounted/auth"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("mine", "mounted"):
        os.chown(tmp_path / name, 65534, 65534)
    current.symlink_to(tmp_path / leads_to)
    if leads_to not in ("theirs", "empty"):
        os.chown(current, 65534, 65534, follow_symlinks=False)
    os.chown(tmp_path, 65534, 65534)
    receipt = {**document_of(NEW, {"a": entry("/old/auth", 1)}), "origins": {"/old/auth": "auth"}}
    own = Unit("wa.service", {**unit(str(current)).properties, "User": "65534"})
    if words:
        with pytest.raises(SessionsError, match=f"came from auth below .* {words}.*; nothing was changed: name"):
            origin_of(receipt, own, NEW)
    else:
        assert origin_of(receipt, own, NEW) == f"{tmp_path}/{leads_to}/auth"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({}, "no receipt says where"),
        ({"a": entry("/a", 1, damaged=True)}, "no receipt says where"),
        ({"a": entry("/a", 1), "b": entry("/b", 1)}, "came from 2 legacy paths"),
    ],
)
def test_where_they_came_from_is_not_known(entries: dict[str, Entry], words: str) -> None:
    with pytest.raises(SessionsError, match=words):
        origin_of(document_of(NEW, entries), None, NEW)


@pytest.mark.parametrize(("own", "newer"), [(1.0, True), (3.0, False)])
def test_the_last_migration_counts_whichever_way_it_went(tmp_path: Path, own: float, newer: bool) -> None:
    path, source = tmp_path / "old", tmp_path / "sessions"
    control = control_of(source)
    for folder in (path, source, control.parent, control):
        folder.mkdir(mode=0o700)
    other = entry(str(path), 2.0)
    write = json.dumps(document_of(str(source), {"a": other, "c": entry("/elsewhere", 9)}))
    (control / "receipt.json").write_text(write)
    found = ancestors({"a": entry(str(source), own), "b": entry("/b", 1)}, [Source("", str(source))], str(path))
    assert set(found) == {"a", "b"}
    assert found["a"].mirrored is newer
    assert (found["a"].legacy == mark(2)) is newer
    control.chmod(0o755)  # anybody could have written it
    with pytest.raises(SessionsError, match="is not private to root"):
        ancestors({}, [Source("", str(source))], str(path))
