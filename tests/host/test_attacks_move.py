# SPDX-License-Identifier: GPL-3.0-or-later
"""A move between two hosts of which one is an attacker's, who is root there: what he gets on the other one is what the move gives."""

from __future__ import annotations

import contextlib
import re
import shlex
import time
import typing as t

import pytest
from hostkit import PATH, SECONDS, Host
from movekit import ACCOUNTS, INBOX, ONE, OUTBOX, Pair, begin, identities, kill, left_behind, move

WAY = f"{OUTBOX}/second.way"
RECEIVED = f"{INBOX}/backend/sessions"
# A program of this name comes before the real one, as does everything that an attacker puts there.
BEFORE = "/usr/local/sbin"
# A transfer waits here until it is allowed to go on.
WAITING = "#!/bin/sh\nuntil [ -e /srv/go ]; do sleep 0.05; done\n"


@pytest.fixture
def attacked(pair: Pair) -> t.Iterator[Pair]:
    """Both hosts, rid afterwards of what an attacker has put there."""
    ended = "touch /srv/go; while pgrep -f '[/]usr/local/sbin/rsync' >/dev/null; do sleep 0.1; done"
    clean = f"{ended}; rm -rf {BEFORE}/* /srv/go /srv/stolen /srv/bad; : >/root/.ssh/known_hosts"
    pair.second.sh("cp -a /root/.ssh/authorized_keys /srv/authorized_keys")
    try:
        yield pair
    finally:
        pair.first.sh(clean)
        pair.second.sh(
            f"{clean}; cp -a /srv/authorized_keys /root/.ssh/authorized_keys; systemctl stop 'whatsapp-ops-move-*'"
        )


def program(host: Host, name: str, text: str) -> None:
    """Put a program of the attacker before the one of the system."""
    host.put(f"{BEFORE}/{name}", text)
    host.sh(f"chmod 755 {BEFORE}/{name}")


def wait(host: Host, condition: str, seconds: float = SECONDS) -> None:
    host.sh(f"timeout {seconds} sh -c {shlex.quote(f'until {condition}; do sleep 0.1; done')}")


def steal(pair: Pair) -> str:
    """Copy the key of the move that waits for its first transfer; return a client that logs in with it."""
    wait(pair.first, "pgrep -f '[/]usr/local/sbin/rsync' >/dev/null")
    pair.first.sh(f"cp -a {WAY} /srv/stolen")
    options = "IdentitiesOnly=yes BatchMode=yes StrictHostKeyChecking=yes HostKeyAlias=move UserKnownHostsFile=/srv/stolen/known_hosts"
    return "ssh -F none -i /srv/stolen/key " + " ".join(
        f"-o {option}" for option in (*options.split(), "ConnectTimeout=10")
    )


def address(pair: Pair) -> str:
    return f"root@{pair.first.lab('address', pair.second.name).strip()}"


def said(host: Host, command: str) -> str:
    """What a command says that may fail, in both ways."""
    return host.sh(f"( timeout 60 {command} ) 2>&1", may_fail=True)


def listing(host: Host) -> list[str]:
    """What is on a host that nothing should change, by names and times of change; not the key of the move and its inbox."""
    skip = f"-path {PATH} -o -path {INBOX} -o -path /root/.ssh -o -path /var/lib/systemd"
    return host.sh(
        f"find /etc /root /usr /opt /srv /home /boot /var/lib -xdev \\( {skip} \\) -prune -o -printf '%p %C@ %m\\n'"
    ).splitlines()


def second_keys(pair: Pair) -> list[str]:
    """The lines of root's authorized_keys on the second host that were not there before."""
    before = set(pair.second.sh("cat /srv/authorized_keys").splitlines())
    return [line for line in pair.second.sh("cat /root/.ssh/authorized_keys").splitlines() if line not in before]


@contextlib.contextmanager
def opened(pair: Pair, **settings: t.Any) -> t.Iterator[str]:
    """A move that waits at its first transfer; yields the client with its key. The controller is killed in the end."""
    program(pair.first, "rsync", f'{WAITING}exec /usr/bin/rsync "$@"\n')
    running = begin(pair, wa_move_accounts=[ONE], **settings)
    try:
        yield steal(pair)
    finally:
        kill(running)


@pytest.mark.parametrize("more", ["cat $f.pub /srv/bad.pub | tac | tee $f.pub.new; mv $f.pub.new $f.pub"])
def test_a_public_key_of_two_lines_is_not_let_in(attacked: Pair, more: str) -> None:
    first = attacked.first
    first.sh("rm -f /srv/bad*; ssh-keygen -q -t ed25519 -N '' -C evil -f /srv/bad")
    program(first, "ssh-keygen", f'#!/bin/bash\n/usr/bin/ssh-keygen "$@"\nf="${{@: -1}}"\n{more}\n')

    played = move(attacked, wa_move_accounts=[ONE])

    assert played.rc != 0
    assert "backend did not create a single key of the type ssh-ed25519 for the move" in " ".join(played.output.split())
    assert second_keys(attacked) == []
    assert first.look()["pid"] == first.before["pid"]
    assert "uid=0" not in said(
        first, f"ssh -F none -i /srv/bad -o BatchMode=yes -o StrictHostKeyChecking=no {address(attacked)} id"
    )


@pytest.mark.parametrize("key", ['command="id" ssh-ed25519 AAAA', "{{ 7 * 7 }}"])
def test_what_is_no_key_is_not_let_in(attacked: Pair, key: str) -> None:
    program(attacked.first, "ssh-keygen", f'#!/bin/bash\nprintf \'{key}\\n\' >"${{@: -1}}.pub"\ntouch "${{@: -1}}"\n')

    played = move(attacked, wa_move_accounts=[ONE])

    assert played.rc != 0
    assert "did not create a single key of the type ssh-ed25519" in " ".join(played.output.split())
    assert second_keys(attacked) == []


def test_the_key_of_a_move_fills_its_inbox_and_does_nothing_else(attacked: Pair) -> None:
    first, second, before = attacked
    target = address(attacked)
    first.sh("mkdir -p /srv/bad/evil; echo x >/srv/bad/evil/creds.json; ln -s /etc /srv/bad/link; mkfifo /srv/bad/pipe")
    with opened(attacked) as ssh:
        untouched = listing(second)
        (line,) = second_keys(attacked)
        assert re.fullmatch(
            rf'restrict,command="\S+python3 -I {INBOX}/backend/receive_only \d+",expiry-time="\d{{14}}" '
            r"ssh-ed25519 \S+ whatsapp_ops\.sessions move from backend to second",
            line,
        )

        assert "only permits a move of accounts" in said(first, f"{ssh} {target} id")
        assert "uid=0" not in said(first, f"echo id | {ssh} -tt {target}")
        assert "Connected" not in said(
            first, f"echo pwd | sftp -b - -S '{ssh.split()[0]}' {' '.join(ssh.split()[1:])} {target}"
        )
        assert (
            said(first, f"{ssh} -s {target} sftp") == ""
        )  # what is said to a subsystem beside its protocol is not shown
        said(first, f"scp -O -S /usr/bin/ssh {' '.join(ssh.split()[1:])} /srv/bad/evil/creds.json {target}:/root/owned")
        assert "SSH-2.0" not in said(first, f"{ssh} -W 127.0.0.1:22 {target} </dev/null")
        assert "forwarding" in said(
            first, f"{ssh} -N -o ExitOnForwardFailure=yes -R 127.0.0.1:7777:127.0.0.1:22 {target}"
        )
        through = f"{ssh} -N -L 127.0.0.1:7778:127.0.0.1:22 {target} & held=$!; sleep 1; ssh-keyscan -T 5 -p 7778 127.0.0.1; kill $held"
        assert "ssh-ed25519 AAAA" not in said(first, f"bash -c {shlex.quote(through)}")

        rsync = f"/usr/bin/rsync --recursive --rsh='{ssh}'"
        for words in (
            f"/srv/bad/ {target}:/etc/cron.d/",
            f"/srv/bad/ {target}:../",
            f"--relative /srv/bad/ {target}:..",
            f"--links /srv/bad/ {target}:.",
            f"--copy-dirlinks -K /srv/bad/ {target}:.",
            f"--specials --devices /srv/bad/ {target}:.",
            f"--owner --group /srv/bad/ {target}:.",
            f"--inplace /srv/bad/ {target}:.",
            f"--append /srv/bad/ {target}:.",
            f"--partial-dir=/etc /srv/bad/ {target}:.",
            f"--temp-dir=/etc /srv/bad/ {target}:.",
            f"--backup --backup-dir=/etc /srv/bad/ {target}:.",
            f"-M--log-file=/root/owned /srv/bad/ {target}:.",
            f"-M--daemon /srv/bad/ {target}:.",
            f"-M--super -M--devices /srv/bad/ {target}:.",
            f"--secluded-args /srv/bad/ {target}:.",
            f"--remove-source-files /srv/bad/ {target}:.",
            f"{target}:. /srv/bad/down",
            f"{target}:/etc/shadow /srv/bad/down",
        ):
            assert "only permits a move of accounts" in said(first, f"{rsync} {words}"), words
        # A client that has links although its server was started without them: they are in what it says is coming.
        first.put("/srv/bad.ssh", f'#!/bin/bash\nset -- "${{@/-lre./-re.}}"\nexec {ssh} "$@"\n')
        said(first, f"/usr/bin/rsync -rl --rsh='bash /srv/bad.ssh' /srv/bad/ {target}:.")
        assert second.sh(f"find {RECEIVED} ! -type f ! -type d") == ""

        assert said(first, f"{rsync} --delete /srv/bad/evil {target}:.") == ""
        assert second.sh(f"ls {RECEIVED}").split() == ["evil"]
        assert listing(second) == untouched
        assert first.sh("ls /srv/bad").split() == ["evil", "link", "pipe"]
    assert identities(second) == {}
    assert identities(first) == before


def test_a_transfer_is_limited_to_what_was_announced_and_there_is_one_at_a_time(attacked: Pair) -> None:
    first, second = attacked[:2]
    target = address(attacked)
    first.sh(
        "mkdir -p /srv/bad/one /srv/bad/many; truncate -s 20G /srv/bad/one/endless; cd /srv/bad/many; seq 15000 | xargs touch"
    )
    with opened(attacked) as ssh:
        rsync = f"/usr/bin/rsync --recursive --rsh='{ssh}'"
        with first.begin(f"{ssh} {target} rsync --server -re.iLsfxCIvu . . >/dev/null 2>&1") as held:
            wait(second, "systemctl is-active --quiet 'whatsapp-ops-move-*.service'")
            assert "another transfer of this move is running" in said(first, f"{rsync} /srv/bad/one {target}:.")
            assert held.stdin
            held.stdin.close()
            held.wait(SECONDS)
        wait(second, "! systemctl is-active --quiet 'whatsapp-ops-move-*.service'")

        endless = first.sh(f"timeout 100 {rsync} /srv/bad/one {target}:. >/dev/null 2>&1; echo $?")
        assert endless.strip() not in ("0", "124")
        assert int(second.sh(f"du -s -BM {RECEIVED}").split("M")[0]) < 400

        assert "sent more than it announced" in said(first, f"{rsync} --delete /srv/bad/many {target}:.")
        assert "sent more than it announced" in second.sh("journalctl -t whatsapp-ops-move -n 5 --no-pager")


def test_rsync_that_was_taken_over_can_write_in_its_inbox_only(attacked: Pair) -> None:
    first, second = attacked[:2]
    places = "/etc/owned /root/owned /usr/owned /var/lib/owned /srv/owned /root/.ssh/authorized_keys"
    program(
        second,
        "rsync",
        f"#!/bin/sh\nfor place in {places} {INBOX}/backend/receive_only; do echo owned >>$place; done\n"
        "systemctl stop whatsapp-backend; busctl list; mount -o remount,rw /; echo $SSH_ORIGINAL_COMMAND; id >inside; exit 0\n",
    )
    with opened(attacked) as ssh:
        untouched = listing(second)
        said(first, f"{ssh} {address(attacked)} rsync --server -re.iLsfxCIvu . . </dev/null")

        assert second.sh(f"ls {RECEIVED}").split() == ["inside"]
        assert listing(second) == untouched
        assert len(second_keys(attacked)) == 1
        assert "owned" not in second.sh(f"cat {INBOX}/backend/receive_only /root/.ssh/authorized_keys")


def test_an_account_that_nobody_named_is_not_published(attacked: Pair) -> None:
    first, second, before = attacked
    others = f"{PATH}/{ACCOUNTS[1]}"
    program(
        first,
        "rsync",
        # As root of the first host, so outside of the sandbox that it is started in.
        f'#!/bin/bash\ncase " $* " in *" --delete "*) /usr/bin/rsync --recursive "${{@: -4:1}}" -- {others} "${{@: -1}}" || true;; esac\n'
        'args=()\nfor arg; do [ "$arg" = --delete ] || args+=("$arg"); case "$arg" in --rsh=*) rsh="$arg";; esac; done\n'
        f'/usr/bin/rsync --recursive "$rsh" -- {others} "${{@: -1}}"\nexec /usr/bin/rsync "${{args[@]}}"\n',
    )

    played = move(attacked, wa_move_accounts=[ONE])

    message = " ".join(played.output.split())
    assert played.rc != 0
    assert "something arrived that belongs to no listed account, so nothing was accepted" in message
    assert "so the accounts were put back on backend" in message
    assert identities(second) == {}
    assert identities(first) == before
    assert second_keys(attacked) == []
    assert second.sh(f"ls {INBOX}").strip() == ""


def test_after_a_killed_move_nothing_of_it_works_when_its_time_is_over(attacked: Pair) -> None:
    first, second, before = attacked
    target = address(attacked)
    first.sh("mkdir -p /srv/bad")
    with opened(attacked, wa_move_expiry=60) as ssh:
        pass  # from here on nobody is there who would remove anything
    rsync = f"/usr/bin/rsync --recursive --rsh='{ssh}' /srv/bad/ {target}:."
    assert said(first, rsync) == ""
    assert len(second_keys(attacked)) == 1
    second.sh("cp -a /root/.ssh/authorized_keys /srv/authorized_keys.move")
    with first.begin(f"{ssh} {target} rsync --server -re.iLsfxCIvu . .") as held:
        wait(second, "systemctl is-active --quiet 'whatsapp-ops-move-*.service'")
        held.wait(SECONDS)  # its standard input stays open, so it does not end by itself
        assert held.stderr
        assert "the time limit of this move has expired" in held.stderr.read()
    wait(second, "! grep -q whatsapp_ops /root/.ssh/authorized_keys")  # the timer has removed it
    assert second_keys(attacked) == []
    # As on a server without that timer, and then on one that knows no expiry-time: what is left is the program itself.
    second.sh("mv /srv/authorized_keys.move /root/.ssh/authorized_keys")
    # sshd lets a key in for the whole of its last second; the program does not.
    deadline = time.monotonic() + 10
    while "Permission denied" not in (answer := said(first, rsync)):
        assert "the time limit of this move has expired" in answer
        assert time.monotonic() < deadline
    second.sh(r"sed -i 's/,expiry-time=\"[0-9]*\"//' /root/.ssh/authorized_keys")
    assert "the time limit of this move has expired" in said(first, rsync)
    assert second.sh("systemctl list-units --all --no-legend 'whatsapp-ops-move-*'") == ""

    first.sh(f"rm {BEFORE}/rsync")
    played = move(attacked, wa_move_accounts=[ONE])

    assert played.rc == 0, played.output
    assert identities(second) == {ONE: before[ONE]}
    assert left_behind(attacked) == ""


# What the second host makes of its answers, as sed has it, and words of the sentence.
LIES = [
    (r's#"ssh-ed25519 #"@cert-authority * ssh-ed25519 #', "second: its SSH server presents invalid host keys"),
    (r's#"ssh-ed25519 #"{{ 7 * 7 }}\\nssh-ed25519 #', "second: its SSH server presents invalid host keys"),
    (
        rf's#"path": "{PATH}"#"path": "/x\\u001b[2J/{{{{ 7 * 7 }}}}"#g',
        "second returned invalid paths, names or numbers",
    ),
    (rf's#"path": "{PATH}"#"path": "{PATH}/../../../etc"#g', "second returned invalid paths, names or numbers"),
    (
        r's#"name": "whatsapp-backend.service"#"name": "x -oProxyCommand=id"#g',
        "second returned invalid paths, names or numbers",
    ),
    (r's#"owner": "whatsapp"#"owner": "whatsapp\\n--rsh=id"#g', "second returned invalid paths, names or numbers"),
]


def test_a_second_host_that_lies_changes_nothing_on_the_first(attacked: Pair) -> None:
    first, second = attacked[:2]
    second.sh("readlink -f /usr/bin/python3 >/srv/python; mv /usr/bin/python3 /srv/python3.link")
    second.put("/usr/bin/python3", '#!/bin/bash\nset -o pipefail\n"$(cat /srv/python)" "$@" | sed -f /srv/lie.sed\n')
    second.sh("chmod 755 /usr/bin/python3")
    try:
        for exchange, sentence in LIES:
            second.put("/srv/lie.sed", exchange)
            played = move(attacked, wa_move_accounts=[ONE])

            assert played.rc != 0, exchange
            assert sentence in " ".join(played.output.split()), exchange
            assert "49" not in re.findall(r"SSH server presents[^.]*|returned invalid[^.]*", played.output)
            assert "\x1b[2J" not in played.output
            assert first.look()["pid"] == first.before["pid"], exchange
            assert second_keys(attacked) == [], exchange
            assert first.sh(f"ls -d {WAY} 2>/dev/null", may_fail=True) == "", exchange
    finally:
        second.sh("mv /srv/python3.link /usr/bin/python3; rm -f /srv/lie.sed")
