# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that a move leaves on the second host for a while: what they accept from a first host that is an attacker."""

from __future__ import annotations

import base64
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time
import types
import typing as t

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

FILES = pathlib.Path(__file__).resolve().parents[3] / "roles" / "move" / "files"
BLOB = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
KEY = "ssh-ed25519 " + base64.b64encode(BLOB + bytes(range(32))).decode()
OTHER_KEY = "ssh-ed25519 " + base64.b64encode(BLOB + bytes(32)).decode()
OPERATOR = f'from="10.0.0.1" {OTHER_KEY} an operator'.encode()
COMMENT = "whatsapp_ops.sessions move from wa1 to wa2"
ASKED = "rsync --server -qtprce.iLsfxCIvu --timeout=300 --delete . ."


def program(name: str) -> types.ModuleType:
    """The program as a module."""
    loader = importlib.machinery.SourceFileLoader(name, str(FILES / name))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


receive_only = program("receive_only")
inbox_access = program("inbox_access")


def request(**changed: t.Any) -> dict[str, t.Any]:
    """What the controller asks for when a way is opened."""
    sizes = {"seconds": 600, "bytes": 1000, "files": 10, "port": 22, "accounts": ["a1"]}
    return {"from": "wa1", "to": "wa2", "key": KEY, **sizes, **changed}


def line_of(key: str = KEY, comment: str = COMMENT, expires: float | None = None) -> bytes:
    """A line of authorized_keys as it is written for a move."""
    until = int(time.time() + 600 if expires is None else expires)
    command = f'command="/usr/bin/python3 -I /var/lib/whatsapp-ops/x/inbox/wa1/receive_only {until}"'
    return f'restrict,{command},expiry-time="20260101000000" {key} {comment}'.encode()


# --- receive_only ------------------------------------------------------------------------------------

LETTERS = st.text("acdegilnopqrstuvxzADEHIKLOPRSWX0.", min_size=1, max_size=8).map("-".__add__)
WORDS = st.sampled_from(
    """--sender --daemon --config=/etc/x --log-file=/root/x --links --copy-dirlinks --keep-dirlinks --devices --specials --owner --super
    --files-from=/etc/shadow --temp-dir=/etc --partial-dir=/etc --backup-dir=/etc --compare-dest=/ --link-dest=/ --copy-dest=/ --rsh=sh
    --rsync-path=sh --remove-source-files --write-batch=/root/x --only-write-batch=x --protect-args -s --secluded-args --inplace --append
    --delete --delete-during --timeout=300 --timeout=x --usermap=*:root --chown=wa --mkpath --delete-missing-args -- . / .. /etc /root/.ssh
    ~ $HOME . .""".split()
)
CLUSTERS = st.tuples(st.text("cpqrtRl/ -", max_size=4), st.text("e.iLsf/ ", max_size=5)).map(
    lambda parts: f"-{parts[0]}e.{parts[1]}"
)
COMMANDS = st.one_of(
    st.lists(CLUSTERS, max_size=2).map(lambda words: shlex.join(["rsync", "--server", *words, ".", "."])),
    st.text(),
    st.lists(st.one_of(LETTERS, WORDS, st.text()), max_size=6).map(
        lambda words: shlex.join(["rsync", "--server", *words, ".", "."])
    ),
    st.lists(st.one_of(LETTERS, WORDS), max_size=8).map(shlex.join),
)


@given(COMMANDS)
@settings(max_examples=1000)
@example(ASKED)
@example("rsync --server -qtprRe.iLsfxCIvu --timeout=300 . .")
def test_whatever_is_asked_for_rsync_only_receives_files_and_directories_where_it_is(command: str) -> None:
    try:
        options = receive_only.allowed_options(command)
    except receive_only.Refused:
        return

    assert shlex.split(command) == ["rsync", "--server", *options, ".", "."]
    for option in options:
        # No path, no value but a number, nothing that it would expand, and no flag but for checksums, quiet, recursion, times and modes.
        assert not set(option) & set("/~$*\0\n \\"), option
        if option.startswith("--"):
            name, _equals, value = option.partition("=")
            assert name in {
                "--delete",
                "--delete-before",
                "--delete-during",
                "--delete-delay",
                "--delete-after",
                "--timeout",
            }
            assert value.isascii() and value.isdigit() if name == "--timeout" else not value
        else:
            flags, _e, capabilities = option[1:].partition("e")
            assert set(flags) <= set("cpqrtR"), option
            assert "." in capabilities, option


def test_what_the_role_asks_for_is_accepted() -> None:
    assert receive_only.allowed_options(ASKED) == ["-qtprce.iLsfxCIvu", "--timeout=300", "--delete"]


def start(here: pathlib.Path, command: str | None, expires: float) -> subprocess.CompletedProcess[str]:
    """Run the program as sshd does."""
    environment = (
        {"PATH": os.environ["PATH"]} if command is None else {"SSH_ORIGINAL_COMMAND": command, "RSYNC_RSH": "sh"}
    )
    (here / "receive_only").write_bytes((FILES / "receive_only").read_bytes())
    return subprocess.run(
        [sys.executable, "-I", str(here / "receive_only"), str(expires)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    "command", [None, "", "id", "rsync --server --sender . .", "'", "/usr/lib/openssh/sftp-server", "scp -t /etc"]
)
def test_anything_else_ends_in_one_sentence(tmp_path: pathlib.Path, command: str | None) -> None:
    done = start(tmp_path, command, time.time() + 600)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", "this key only permits a move of accounts\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["receive_only"]


def test_after_its_time_it_receives_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sessions").mkdir()

    done = start(tmp_path, ASKED, time.time() - 1)

    assert (done.returncode, done.stderr) == (1, "the time limit of this move has expired; run it again\n")


def test_a_second_transfer_at_the_same_time_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "announced.json").write_text(json.dumps({"limits": {"bytes": 1, "files": 1}}))
    with receive_only.locked(str(tmp_path)):
        done = start(tmp_path, ASKED, time.time() + 600)

    assert (done.returncode, done.stderr) == (1, "another transfer of this move is running\n")


def test_what_is_measured_is_what_the_disk_holds_and_every_entry(tmp_path: pathlib.Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("/usr")

    size, entries = receive_only.measure(str(tmp_path))

    assert entries == 4
    assert 100_000 <= size < 200_000


@pytest.mark.parametrize(("limits", "fits"), [((1 << 30, 3), True), ((1 << 30, 2), False), ((4096, 3), False)])
def test_more_than_was_announced_ends_it(
    tmp_path: pathlib.Path, limits: tuple[int, int], fits: bool, monkeypatch: t.Any
) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"x" * 4096)
    monkeypatch.chdir(tmp_path)
    announced = dict(zip(("bytes", "files"), limits, strict=True))

    if fits:
        receive_only.check_size(announced)
    else:
        with pytest.raises(receive_only.Refused, match="sent more than it announced"):
            receive_only.check_size(announced)


# --- inbox_access: what is given ---------------------------------------------------------------------


def test_one_key_is_one_key() -> None:
    assert inbox_access.judge(request()) == (KEY, COMMENT)


@pytest.mark.parametrize(
    "key",
    [
        f"{KEY}\n{OTHER_KEY}",
        f"{KEY}\n",
        f"{KEY} comment",
        f" {KEY}",
        f'command="id" {KEY}',
        KEY[:-1],
        KEY[:-4],
        f"{KEY}AAAA",
        KEY.replace("ssh-ed25519 ", "ssh-rsa "),
        f"ssh-ed25519 {base64.b64encode(BLOB.replace(b'ed25519', b'ed25518') + bytes(32)).decode()}",
        "",
        None,
        [KEY],
    ],
)
def test_what_is_not_one_key_is_refused(key: t.Any) -> None:
    with pytest.raises(inbox_access.Refused, match="did not create a single key"):
        inbox_access.judge(request(key=key))


@given(st.text())
def test_no_other_text_is_a_key(text: str) -> None:
    assume(text != KEY)
    assert not inbox_access.is_key(text)
    assert not inbox_access.is_key(f"{KEY}{text}") or not text
    assert not inbox_access.is_key(f"{text}{KEY}") or not text


@pytest.mark.parametrize("name", ["", "a b", "wa1\n", 'wa1"', "-x", "../x", None, "wa1\nssh-rsa"])
def test_hosts_have_names_that_can_stand_in_a_line(name: t.Any) -> None:
    with pytest.raises(inbox_access.Refused, match="invalid host names"):
        inbox_access.judge(request(**{"from": name}))


@pytest.mark.parametrize(
    "changed",
    [
        {"seconds": 59},
        {"seconds": 10**9},
        {"bytes": -1},
        {"files": "1"},
        {"port": True},
        {"bytes": 1 << 61},
        {"files": 1.5},
    ],
)
def test_numbers_are_numbers(changed: dict[str, t.Any]) -> None:
    with pytest.raises(inbox_access.Refused, match="invalid sizes or times"):
        inbox_access.judge_limits(request(**changed))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/a", "a/", "a/../b", "a//b", "a\nb", "a\x1b[2J", "a\0b", 1, "x" * 1024]
)
def test_accounts_have_names_of_directories(name: t.Any) -> None:
    with pytest.raises(inbox_access.Refused, match="not a valid directory name"):
        inbox_access.judge_limits(request(accounts=["good", name]))


@pytest.mark.parametrize("accounts", [None, [], ["a1"], ["folder/a1", "session-é"]])
def test_names_that_directories_can_have_are_taken(accounts: list[str] | None) -> None:
    inbox_access.judge_limits(request(accounts=accounts))


@pytest.mark.parametrize(
    "inbox", ["/x/inbox/../y", '/x"/inbox/wa1', "x/inbox/wa1", "/x/inbox/wa1\n", "/x /inbox/wa1", "/x/outbox/wa1"]
)
def test_an_inbox_that_is_none_is_refused_as_a_program(inbox: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(FILES / "inbox_access"), "open", inbox],
        input=json.dumps(request()),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "path of the inbox does not belong to this collection" in json.loads(done.stdout)["refused"]


def test_an_inbox_whose_parent_others_can_change_is_refused(tmp_path: pathlib.Path) -> None:
    inbox = tmp_path / "inbox" / "wa1"
    inbox.mkdir(parents=True, mode=0o700)
    tmp_path.chmod(0o777)

    with pytest.raises(inbox_access.Refused, match="not a directory that only root can change"):
        inbox_access.check_trusted(str(inbox))


# --- inbox_access: authorized_keys -------------------------------------------------------------------


@pytest.fixture
def ssh(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / ".ssh"
    directory.mkdir(mode=0o700)
    return directory


def edit(ssh: pathlib.Path, lines: list[bytes]) -> bool:
    return t.cast("bool", inbox_access.edit_authorized_keys(lambda _old: lines, str(ssh.parent)))


def test_other_lines_stay_byte_for_byte(ssh: pathlib.Path) -> None:
    keys = ssh / "authorized_keys"
    before = b"# a comment\r\n\n" + OPERATOR + b"\n  \xff\xfe not text\n" + line_of() + b"\n"
    keys.write_bytes(before)
    keys.chmod(0o640)

    changed = inbox_access.edit_authorized_keys(lambda lines: inbox_access.without(lines, COMMENT), str(ssh.parent))

    assert changed
    assert keys.read_bytes() == b"# a comment\r\n\n" + OPERATOR + b"\n  \xff\xfe not text\n"
    assert keys.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in ssh.iterdir()] == ["authorized_keys"]


def test_a_file_without_a_last_newline_keeps_its_last_key(ssh: pathlib.Path) -> None:
    (ssh / "authorized_keys").write_bytes(OPERATOR)

    inbox_access.edit_authorized_keys(lambda lines: [*lines, line_of()], str(ssh.parent))

    assert (ssh / "authorized_keys").read_bytes().splitlines() == [OPERATOR, line_of()]


def test_what_was_missing_is_made_for_root_alone(tmp_path: pathlib.Path) -> None:
    assert inbox_access.edit_authorized_keys(lambda lines: [*lines, line_of()], str(tmp_path))

    assert (tmp_path / ".ssh").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".ssh" / "authorized_keys").stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_where_nothing_changes(ssh: pathlib.Path) -> None:
    (ssh / "authorized_keys").write_bytes(OPERATOR + b"\n")
    before = (ssh / "authorized_keys").stat().st_ino

    assert not edit(ssh, [OPERATOR])
    assert (ssh / "authorized_keys").stat().st_ino == before


def test_a_link_is_not_followed(ssh: pathlib.Path, tmp_path: pathlib.Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(OPERATOR)
    (ssh / "authorized_keys").symlink_to(elsewhere)

    with pytest.raises(inbox_access.Refused, match="is a link or cannot be read"):
        edit(ssh, [])
    assert elsewhere.read_bytes() == OPERATOR


def test_a_directory_that_is_a_link_is_not_entered(tmp_path: pathlib.Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".ssh").symlink_to("elsewhere")

    with pytest.raises(inbox_access.Refused, match="is a link to one"):
        edit(tmp_path / ".ssh", [line_of()])
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(("name", "mode"), [("", 0o770), ("authorized_keys", 0o666)])
def test_what_others_can_change_is_left(ssh: pathlib.Path, name: str, mode: int) -> None:
    (ssh / "authorized_keys").write_bytes(OPERATOR)
    (ssh / name).chmod(mode)

    with pytest.raises(inbox_access.Refused, match="root can change"):
        edit(ssh, [])


def test_a_pipe_is_not_waited_for(ssh: pathlib.Path) -> None:
    os.mkfifo(ssh / "authorized_keys", 0o600)

    with pytest.raises(inbox_access.Refused, match="not a regular file"):
        edit(ssh, [])


def test_a_file_without_end_is_not_read(ssh: pathlib.Path) -> None:
    with open(ssh / "authorized_keys", "wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(inbox_access.Refused, match="has more than"):
        edit(ssh, [])


def test_only_the_line_of_this_move_goes_and_those_whose_time_is_over() -> None:
    other = COMMENT.replace("wa1", "wa10")
    back = "whatsapp_ops.sessions move from wa2 to wa1"
    over = line_of(comment=other, expires=time.time() - 1)
    older = b'restrict,command="python3 -I /x/receive_only" ' + f"{KEY} {COMMENT}".encode()  # of an earlier version
    note = b"# " + COMMENT.encode()
    lines = [OPERATOR, line_of(), older, line_of(comment=back), over, note]

    kept = [OPERATOR, line_of(comment=back), note]
    assert inbox_access.without(lines, COMMENT) == kept
    assert inbox_access.without(lines, None) == [OPERATOR, line_of(), older, *kept[1:]]


def test_a_run_removes_no_key_of_the_run_that_took_over() -> None:
    lines = [OPERATOR, line_of(OTHER_KEY)]

    assert inbox_access.without(lines, COMMENT, KEY) == lines
    assert inbox_access.without(lines, COMMENT, OTHER_KEY) == [OPERATOR]


# --- inbox_access: what arrived ----------------------------------------------------------------------


def arrived(root: pathlib.Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")


@pytest.mark.parametrize(
    ("path", "accounts"),
    [
        ("a1/creds.json", ["a1"]),
        ("a1/deep/er/still", ["a1"]),
        ("folder/a1/creds.json", ["folder/a1"]),
        ("a1.data.json", ["a1"]),
        ("tokens/a1.data.json", ["userDataDir/a1"]),
        ("a1\\store.db", ["a1"]),
        ("anything", None),
    ],
)
def test_what_was_announced_is_taken(tmp_path: pathlib.Path, path: str, accounts: list[str] | None) -> None:
    arrived(tmp_path, path)

    inbox_access.check_content(str(tmp_path), accounts)


@pytest.mark.parametrize(
    ("path", "accounts"),
    [
        ("a2/creds.json", ["a1"]),
        ("a10/creds.json", ["a1"]),
        ("a10.data.json", ["a1"]),
        ("x", ["a1"]),
        ("folder/a2/creds.json", ["folder/a1"]),
        ("tokens/a1/creds.json", ["a1"]),
        (".whatsapp-ops/receipt.json", ["a1"]),
        ("a1/creds.json", []),
    ],
)
def test_what_was_not_announced_is_not_taken(tmp_path: pathlib.Path, path: str, accounts: list[str]) -> None:
    arrived(tmp_path, path)

    with pytest.raises(inbox_access.Refused, match="belongs to no listed account"):
        inbox_access.check_content(str(tmp_path), accounts)


@pytest.mark.parametrize("accounts", [["a1"], None])
@pytest.mark.parametrize("kind", ["link", "pipe", "set-id"])
def test_only_plain_files_and_directories_are_taken(
    tmp_path: pathlib.Path, kind: str, accounts: list[str] | None
) -> None:
    arrived(tmp_path, "a1/creds.json")
    other = tmp_path / "a1" / "other"
    if kind == "link":
        other.symlink_to("/etc/passwd")
    elif kind == "pipe":
        os.mkfifo(other)
    else:
        other.write_text("")
        other.chmod(0o4755)

    with pytest.raises(inbox_access.Refused, match="not only directories and regular files"):
        inbox_access.check_content(str(tmp_path), accounts)


def test_what_does_not_fit_is_not_let_in(tmp_path: pathlib.Path) -> None:
    inbox_access.check_room(str(tmp_path), 1, 1)

    with pytest.raises(inbox_access.Refused, match="has no room"):
        inbox_access.check_room(str(tmp_path), 1 << 59, 1)
