# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of findings as a decision table: each entry has a planted cause, is found by it alone, and is absent on a clean host."""

from __future__ import annotations

import datetime
import pathlib
import re
import typing as t

import pytest
import yaml

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.facts import (
    Account,
    Backups,
    Box,
    Exempted,
    Facts,
    Overridden,
    Place,
    Program,
    Scan,
    Service,
    Thresholds,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.finding import SEVERITIES
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.findings import (
    BY_ID,
    FINDINGS,
    found_in,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import StopSettings

COLLECTION = pathlib.Path(__file__).resolve().parents[5]
PATH, OLD = "/var/lib/wa/sessions", "/opt/wa/current/.baileys_auth"
TODAY = datetime.date(2027, 1, 31)
CLEAN = Facts(
    PATH,
    Thresholds(free_bytes=256 << 20, free_inodes=5000, files=20_000, restarts=5, backup_age=26 * 3600),
    TODAY,
    StopSettings("SIGINT", 45),
    places=(Place(PATH, named_by="absolute"),),
    accounts=(Account("1…1-aa"), Account("2…2-bb")),
    service=Service("wa.service"),
    backups=Backups("/var/lib/whatsapp-ops/x/backups"),
    exempted=(Exempted("unit_root", "until spring", TODAY),),
)

Plant = t.Callable[[], Facts]


def place(**changes: t.Any) -> Facts:
    return CLEAN._replace(places=(CLEAN.places[0]._replace(**changes),))


def account(**changes: t.Any) -> Facts:
    return CLEAN._replace(accounts=(CLEAN.accounts[0]._replace(**changes), CLEAN.accounts[1]))


def service(**changes: t.Any) -> Facts:
    return CLEAN._replace(service=t.cast("Service", CLEAN.service)._replace(**changes))


def backups(**changes: t.Any) -> Facts:
    return CLEAN._replace(backups=t.cast("Backups", CLEAN.backups)._replace(**changes))


def box(**changes: t.Any) -> Facts:
    return CLEAN._replace(box=Box("wa.service (podman run, container wa)")._replace(**changes))


# What is planted for a finding, and words of the evidence that it has to give.
PLANTED: dict[str, tuple[tuple[Facts, str], ...]] = {
    "path_elsewhere": ((CLEAN._replace(elsewhere=(OLD,)), f"instead of in {PATH}"),),
    "path_relative": (
        (place(named_by="default"), "no setting names it"),
        (place(named_by="SESSION_PATH"), "SESSION_PATH names it by a path relative"),
    ),
    "path_ephemeral": ((place(lost="it is on tmpfs, which is memory"), "it is on tmpfs"),),
    "path_in_release": (
        (place(program=Program("/opt/wa/releases/2", "package.json")), "inside /opt/wa/releases/2, a program (package.json)"),
    ),
    "path_in_git": ((place(program=Program(git="/opt/wa")), "the git work tree /opt/wa"),),
    "path_wiped_by_script": (
        (place(program=Program(wipers=(("/opt/wa/package.json", "clean"),))), "the script clean of /opt/wa/package.json"),
    ),
    "path_private_view": (
        (place(replaced="PrivateTmp=yes", opening=("BindPaths=/tmp/wa",)), "PrivateTmp=yes shows the unit another directory"),
    ),
    "path_sandboxed": (
        (place(read_only="ProtectSystem=strict", opening=("ReadWritePaths=/x",)), "ReadWritePaths=/x would allow it"),
    ),
    "path_mounted_read_only": ((place(mounted_read_only=True), "mounted read-only"),),
    "path_owner": (
        (place(wrong_owner="root"), "it belongs to root"),
        (place(closed="/var/lib/private"), "may not enter /var/lib/private"),
    ),
    "path_is_link": ((place(is_link=True), "symbolic link"),),
    "parent_of_others": ((place(swappable="/srv belongs to eve"), "/srv belongs to eve"),),
    "parent_of_backend": ((place(owner_can_swap="/home/wa belongs to wa"), "/home/wa belongs to wa"),),
    "path_open": ((place(open_to_others=True, mode=0o755), "its mode is 0755"),),
    "mount_not_required": ((place(mount="/mnt/data", mount_required=False), "the volume /mnt/data"),),
    "disk_space": ((place(free_bytes=255 << 20), "255 MiB are free"),),
    "disk_inodes": ((place(free_inodes=4999), "4999 more files fit"),),
    "path_unproved": ((CLEAN._replace(unproved=True), "no open file, mount or variable"),),
    "former_path_newer": ((CLEAN._replace(newer=(OLD,)), "newer keys than in"),),
    "cutover_unfinished": ((CLEAN._replace(unfinished=True), "interrupted cutover"),),
    "container_without_volume": (
        (box(kinds=(("/app/auth", "on the container's own layer"),)), "/app/auth in the container is on the container's own layer"),
    ),
    "container_unknown": ((box(trouble="it has no name"), "it has no name"),),
    "two_writers": ((service(others="PID 7 (node)"), "also used by PID 7 (node)"),),
    "variable_overridden": (
        (service(overridden=(Overridden("SESSIONS_PATH", "/etc/wa/env", 3),)), f"SESSIONS_PATH is not {PATH}"),
    ),
    "restart_pending": ((service(outdated=("SESSIONS_PATH",)), "current value of SESSIONS_PATH"),),
    "dotenv_contradicts": ((service(dotenv=(("/opt/wa/.env", "SESSIONS_PATH"),)), "it sets SESSIONS_PATH"),),
    "stop_signal": ((service(stop={"KillSignal": ("SIGTERM", "SIGINT")}), "KillSignal is SIGTERM, but SIGINT"),),
    "stop_mode": ((service(stop={"KillMode": ("control-group", "mixed")}), "KillMode is control-group, but mixed"),),
    "stop_timeout": (
        (service(stop={"TimeoutStopSec": ("10s", "45 s")}), "TimeoutStopSec is 10s, but 45 s"),
        (box(grace=10.0), "killed after 10 s, but needs up to 45 s"),
    ),
    "unit_root": ((service(uid=0), "run as root"),),
    "umask_open": ((service(umask_open="0022"), "UMask is 0022"),),
    "restart_unlimited": ((service(limited=False, restart="always"), "Restart=always, and no limit"),),
    "restarts_repeated": ((service(restarts=5), "restarted it 5 times"),),
    "keys_in_journal": ((service(key_lines=2), "2 lines of its journal look like key material"),),
    "account_without_content": (
        (account(state="corrupt", problems=("credentials_empty",)), "the file of credentials has no content"),
        (account(scan=Scan(9, 9, empty=3)), "3 key files have no content"),
    ),
    "account_corrupt": (
        (account(state="corrupt", problems=("credentials_not_json",)), "not the JSON that the library reads"),
        (account(state="corrupt"), "its structure is damaged"),
    ),
    "account_twice": ((account(twins=("2…2-bb",)), "same linked device as 2…2-bb"),),
    "copy_in_path": ((account(copy_of="2…2-bb"), "that of a copy of 2…2-bb"),),
    "account_partial": (
        (account(problems=("keys_missing",)), "only credentials"),
        (account(state="unknown", problems=("credentials_in_sql",)), "in a SQL database"),
    ),
    "account_foreign_owner": (
        (account(wrong_owner="root"), "its directory belongs to root"),
        (account(problems=("credentials_foreign_owner",)), "belongs to another user than the account's directory"),
        (account(scan=Scan(9, 9, foreign=4)), "4 of 9 examined files belong to another user"),
    ),
    "account_open": (
        (account(problems=("readable_by_everybody",)), "lets all users read it"),
        (account(scan=Scan(9, 8, open=7)), "7 of 8 examined files can be read by all users"),
    ),
    "lock_blocks_start": ((account(lock="foreign"), "its lock is foreign"), (account(lock="damaged"), "damaged")),
    "lock_stale": ((account(lock="stale"), "no longer exists"),),
    "account_growth": ((account(scan=Scan(20_000, 1000)), "at least 20000 files"),),
    "link_not_followed": ((CLEAN._replace(links=(("3…3-cc", "it leads to nowhere"),)), "it leads to nowhere"),),
    "backup_hard_linked": ((account(problems=("credentials_hard_linked",)), "several hard links"),),
    "account_not_linked": ((account(state="fresh"), "its state is fresh"), (account(state="pending"), "pending")),
    "backup_missing": (
        (backups(exists=False), "there is no store of backups"),
        (backups(missing=("1…1-aa",)), "it is linked and has no sound backup"),
    ),
    "backup_old": ((backups(old=(("1…1-aa", 99 * 3600),)), "99 hours ago"),),
    "backup_failed": (
        (backups(failed_accounts=2), "failed for 2 accounts"),
        (backups(timers=(("whatsapp-ops-backup.service", "failed"),)), "it is failed"),
    ),
    "exception_expired": (
        (CLEAN._replace(exempted=(Exempted("unit_root", "until spring", TODAY - datetime.timedelta(1)),)), "ended on 2027-01-30"),
    ),
    "nothing_found": ((CLEAN._replace(accounts=()), "it holds no account"),),
    "not_examined": ((CLEAN._replace(unchecked=(("the journal of the unit", "it is unreadable"),)), "it is unreadable"),),
}  # fmt: skip
CASES = [
    pytest.param(name, *case, id=f"{name}-{number}")
    for name, cases in PLANTED.items()
    for number, case in enumerate(cases)
]


def test_every_entry_of_the_table_has_a_planted_cause() -> None:
    assert sorted(PLANTED) == sorted(finding.id for finding in FINDINGS)


def test_a_clean_host_has_no_finding() -> None:
    assert found_in(CLEAN) == ()


@pytest.mark.parametrize(("name", "facts", "words"), CASES)
def test_a_planted_cause_is_found_and_nothing_else(name: str, facts: Facts, words: str) -> None:
    found = {finding.id: evidence for finding, evidence in found_in(facts)}
    assert list(found) == [name]
    assert all(one.where and one.what for one in found[name])
    assert any(words in one.what for one in found[name]), found[name]


def test_the_worst_finding_comes_first() -> None:
    facts = account(lock="stale")._replace(unfinished=True, elsewhere=(OLD,), unproved=True)
    found = [finding.severity for finding, _evidence in found_in(facts)]
    assert found == sorted(found, key=SEVERITIES.index)
    assert found[0] == "critical"
    assert "path_unproved" not in [finding.id for finding, _evidence in found_in(facts)]


def test_less_than_a_threshold_is_no_finding() -> None:
    assert found_in(service(restarts=4)) == ()
    assert found_in(place(free_inodes=None)) == ()
    assert found_in(account(scan=Scan(19_999, 1000))) == ()
    assert found_in(box(grace=45.0)) == ()


def test_a_host_without_linked_accounts_needs_no_backup() -> None:
    facts = backups(exists=False)._replace(accounts=(Account("1…1-aa", "fresh"),))
    assert [finding.id for finding, _evidence in found_in(facts)] == ["account_not_linked"]


def test_ids_are_stable_words_and_each_remedy_is_an_instruction() -> None:
    assert len(BY_ID) == len(FINDINGS)
    for finding in FINDINGS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", finding.id)
        assert finding.severity in SEVERITIES
        assert finding.meaning.endswith(".")
        assert not finding.title.endswith(".")
        assert not finding.remedy.endswith(".")
        assert finding.remedy[0].islower()


def test_every_setting_that_a_remedy_names_exists() -> None:
    specs = [yaml.safe_load(path.read_text()) for path in (COLLECTION / "playbooks/argument_specs").glob("*.yml")]
    known = {name for spec in specs for entry in spec["argument_specs"].values() for name in entry["options"]}
    named = {name for finding in FINDINGS for name in re.findall(r"\bwa_\w+", finding.remedy)}
    assert "wa_sessions_path" in named
    assert named - known == set()
