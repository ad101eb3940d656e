# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend that was taken over names what is not its own: other tenants' accounts, directories that everybody can write in.

The real playbook runs against a unit whose process has put another path into its own environment, and works there until it gets
SESSIONS_PATH.
"""

from __future__ import annotations

import textwrap
import typing as t

import pytest
from hostkit import Host
from playkit import Play, play

SERVICE, SESSIONS = "tenant", "/srv/tenant/sessions"
ACCOUNT, SECRET = "15551112222", "SECRET-of-another"
PROGRAM = """
    import os, signal, sys, time
    if os.environ.get("ACCOUNTS_DIR") != sys.argv[1]:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "ACCOUNTS_DIR": sys.argv[1]})
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    for folder, _folders, files in os.walk(os.environ.get("SESSIONS_PATH", sys.argv[1])):
        if "creds.json" in files and os.access(folder + "/creds.json", os.R_OK):
            open(folder + "/creds.json").close()
    while True:
        time.sleep(1)
"""
UNIT = f"[Service]\nUser=wa\nWorkingDirectory=/opt/{SERVICE}\nExecStart=/usr/bin/python3 /opt/{SERVICE}/program.py %s\n"
CLEAR = (
    f"systemctl stop {SERVICE} 2>/dev/null; rm -rf /etc/systemd/system/{SERVICE}.service* /etc/{SERVICE} /opt/{SERVICE} "
    f"/srv/tenant /srv/root-only /home/bob/sessions /var/tmp/backup /var/tmp/key.pem /var/tmp/{ACCOUNT}; "
    "systemctl daemon-reload; systemctl reset-failed; true"
)


class Tenant:
    """A unit of the user wa beside the real backend, on a host where bob lives as well."""

    def __init__(self, host: Host) -> None:
        self.host = host
        host.sh(
            "for user in wa bob; do id $user >/dev/null 2>&1 || useradd --create-home $user; done; chmod 700 /home/bob"
        )
        host.sh(f"{CLEAR}; mkdir -p /opt/{SERVICE} /srv/tenant; chown wa: /opt/{SERVICE} /srv/tenant")
        host.put(f"/opt/{SERVICE}/program.py", textwrap.dedent(PROGRAM))

    def account(self, place: str, owner: str) -> None:
        """Put an account there that the layout takes for a linked one, copied from the real backend's."""
        self.host.sh(
            f"mkdir -p {place} && cp -r $(ls -d /srv/pristine/*/ | head -n 1) {place}/{ACCOUNT} && "
            f"echo {SECRET} >{place}/{ACCOUNT}/session-9.0.json && chown -R {owner}: {place}/{ACCOUNT} && "
            f"chmod -R u=rwX,go= {place}/{ACCOUNT}"
        )

    def begin(self, names: str) -> None:
        self.host.put(f"/etc/systemd/system/{SERVICE}.service", UNIT % names)
        pid = f"$(systemctl show --property=MainPID --value {SERVICE})"
        self.host.sh(
            f"systemctl daemon-reload && systemctl start {SERVICE} && "
            f"until tr '\\0' '\\n' </proc/{pid}/environ | grep -q ACCOUNTS_DIR; do sleep 0.05; done"
        )

    def persist(self, **settings: t.Any) -> Play:
        own = {"wa_service": SERVICE, "wa_sessions_path": SESSIONS, "wa_health_url": "", "wa_attach": "variable"}
        return play(self.host, "persist", "--diff", **{**own, **settings})

    def reads(self, path: str) -> str:
        """What the service's user can read in a file."""
        return self.host.sh(f"runuser -u wa -- cat {path} 2>&1", may_fail=True)

    def require_running(self) -> None:
        assert self.host.sh(f"systemctl is-active {SERVICE}").strip() == "active"


@pytest.fixture
def tenant(host: Host) -> t.Iterator[Tenant]:
    yield Tenant(host)
    host.sh(CLEAR)


def words(played: Play) -> str:
    return " ".join(played.output.split())


def test_another_tenant_s_accounts_are_not_taken(tenant: Tenant) -> None:
    tenant.account("/home/bob/sessions", "bob")
    tenant.begin("/home/bob/sessions")

    refused = tenant.persist()  # as for a backend that has no accounts yet
    played = tenant.persist(wa_allow_empty=True)

    assert refused.rc != 0
    assert "is running, and no account was found" in words(refused)
    assert played.rc == 0, played.output
    assert "No such file" in tenant.reads(f"{SESSIONS}/{ACCOUNT}/session-9.0.json")
    assert "Permission denied" in tenant.reads(f"/home/bob/sessions/{ACCOUNT}/session-9.0.json")
    assert tenant.host.sh(f"stat -c %U /home/bob/sessions/{ACCOUNT}").strip() == "bob"
    tenant.require_running()


def test_they_are_taken_where_they_are_named_and_allowed(tenant: Tenant) -> None:
    tenant.account("/home/bob/sessions", "bob")
    tenant.host.sh("chown bob: /home/bob/sessions")
    tenant.begin("/nothing")

    refused = tenant.persist(wa_legacy_paths=["/home/bob/sessions"])
    there = tenant.host.sh(f"ls {SESSIONS} 2>&1", may_fail=True)
    allowed = tenant.persist(wa_legacy_paths=["/home/bob/sessions"], wa_allow_foreign_owner=True)

    assert refused.rc != 0
    assert "belongs to bob, and its accounts would be given to wa; nothing was changed" in words(refused)
    assert "allow_foreign_owner=true" in words(refused)
    assert ACCOUNT not in there
    assert allowed.rc == 0, allowed.output
    assert SECRET in tenant.reads(f"{SESSIONS}/{ACCOUNT}/session-9.0.json")


def test_nothing_travels_from_a_directory_that_everybody_can_write_in(tenant: Tenant) -> None:
    tenant.account("/var/tmp", "wa")
    tenant.host.sh(f"umask 077; mkdir /var/tmp/backup; echo {SECRET} | tee /var/tmp/backup/dump.sql >/var/tmp/key.pem")
    tenant.begin("/var/tmp")

    found = tenant.persist()

    assert found.rc != 0
    assert "keeps accounts in /var/tmp, which belongs to root; nothing was changed" in words(found)
    tenant.require_running()

    named = tenant.persist(wa_legacy_paths=["/var/tmp"], wa_allow_foreign_owner=True)

    assert named.rc == 0, named.output
    assert SECRET in tenant.reads(f"{SESSIONS}/{ACCOUNT}/session-9.0.json")  # its own account
    for name in ("backup/dump.sql", "key.pem"):
        assert "No such file" in tenant.reads(f"{SESSIONS}/{name}")
        assert "Permission denied" in tenant.reads(f"/var/tmp/{name}")


def test_what_root_copied_is_named_and_given_to_the_backend(tenant: Tenant) -> None:
    tenant.account("/srv/root-only", "root")
    tenant.host.sh("chmod 700 /srv/root-only")
    tenant.begin("/nothing")

    played = tenant.persist(wa_legacy_paths=["/srv/root-only"], wa_retire=True)

    assert played.rc == 0, played.output
    assert SECRET in tenant.reads(f"{SESSIONS}/{ACCOUNT}/session-9.0.json")
    assert tenant.host.sh("stat -c '%U %F' /srv/root-only").strip() == "root regular file"


def test_putting_out_of_use_leaves_what_is_somebody_else_s(tenant: Tenant) -> None:
    legacy = f"/opt/{SERVICE}/sessions"
    tenant.account(legacy, "wa")
    tenant.host.sh(
        f"mkdir {legacy}/bobs && echo {SECRET} >{legacy}/bobs/file && chown wa: {legacy} && chown -R bob: {legacy}/bobs"
    )
    tenant.begin(legacy)

    played = tenant.persist(wa_retire=True)

    assert played.rc == 0, played.output
    assert SECRET in tenant.reads(f"{SESSIONS}/{ACCOUNT}/session-9.0.json")
    assert tenant.host.sh(f"runuser -u bob -- cat {legacy}/bobs/file").strip() == SECRET
    assert tenant.host.sh(f"stat -c '%U %F' {legacy}/{ACCOUNT}").strip() == "root regular file"
    assert (again := tenant.persist(wa_retire=True)).rc == 0, again.output
    assert again.changed == 0


def test_names_reach_the_terminal_as_text(tenant: Tenant) -> None:
    place = f"/opt/{SERVICE}/a\x1b]0;owned\x07\x9b31m"
    tenant.account("/opt/plain", "wa")
    tenant.host.sh(f"mv /opt/plain $'/opt/{SERVICE}/a\\e]0;owned\\a\\xc2\\x9b31m'; chown -R wa: /opt/{SERVICE}")
    tenant.begin("/nothing")

    played = tenant.persist(wa_legacy_paths=[place])

    assert played.rc != 0
    assert "src contains a control character" in words(played)
    found = tenant.persist()  # accounts of its user below its working directory, to which nothing leads
    assert found.rc != 0
    assert f"in /opt/{SERVICE}/a\\\\x1b]0;owned\\\\x07\\\\x9b31m" in words(found)
    assert not set(found.output) & {"\x1b", "\x07", "\x9b"}
