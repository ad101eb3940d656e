# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The one table of all findings: what a host can have that loses accounts, how bad it is, and what fixes it.

To add a finding, write its condition (a pure function from the facts to evidence, in ``of_*.py``), add one entry here and one fixture in
tests/unit/plugins/module_utils/_audit/test_findings.py. docs/findings.md is made from this table.
"""

from __future__ import annotations

import typing as t

from . import of_accounts, of_places, of_service
from .evidence import Condition, Evidence
from .facts import Facts

# From worst to mildest. critical: the next ordinary event (a restart, a deployment, a save) loses accounts, or one is lost already.
CRITICAL, HIGH, MEDIUM, LOW = SEVERITIES = ("critical", "high", "medium", "low")


class Finding(t.NamedTuple):
    """An entry of the table. ``id`` is stable: exceptions name it. ``remedy``: the setting or playbook that fixes it, as an imperative."""

    id: str
    severity: str
    title: str
    meaning: str
    remedy: str
    condition: Condition


_PERSIST = "run the playbook persist"

FINDINGS: tuple[Finding, ...] = (
    # --- Where accounts are ---
    Finding(
        "path_elsewhere", CRITICAL, "The backend uses another directory than the sessions path",
        "Open files, mounts or variables of its processes lead to another directory. Backups and checks of the sessions path miss "
        "the accounts, and the directory that is used is usually one that a deployment replaces.",
        f"{_PERSIST}; if the directory in use is the right one, set wa_sessions_path to it", of_places.elsewhere,
    ),
    Finding(
        "path_relative", CRITICAL, "The directory depends on the working directory",
        "A relative path, or a directory name written into the program, leads to another directory after each deployment and with "
        "each other way to start the program.",
        f"{_PERSIST} (wa_variable names the variable, wa_attach=bind mounts the sessions path for a program without one)",
        of_places.relative,
    ),
    Finding(
        "path_ephemeral", CRITICAL, "The directory does not survive a restart",
        "It is on a filesystem in memory, on the layer of a container, or below a directory that is emptied at boot or by age.",
        f"set wa_sessions_path to a directory on a disk, then {_PERSIST}", of_places.ephemeral,
    ),
    Finding(
        "path_in_release", CRITICAL, "The directory is inside a deployed program",
        "A deployment that replaces the program deletes the accounts with it.", _PERSIST, of_places.in_release,
    ),
    Finding(
        "path_in_git", HIGH, "The directory is inside a git work tree",
        "git clean -fdx, or a fresh clone in its place, deletes the accounts.", _PERSIST, of_places.in_git_tree,
    ),
    Finding(
        "path_wiped_by_script", HIGH, "A script of the program deletes the directory",
        "A script in a package.json removes a directory of this name, and is one command or one pipeline away from running.",
        f"{_PERSIST}, which moves the accounts out of the reach of the script, or remove the script", of_places.wiped_by_script,
    ),
    Finding(
        "path_private_view", CRITICAL, "The unit sees another directory at the path",
        "A directive of its sandbox (PrivateTmp=, TemporaryFileSystem=, ProtectHome=tmpfs, ...) hides the directory of the host: what the "
        "backend writes there ends with the unit.",
        f"{_PERSIST} with wa_sessions_path below /var/lib, or add the line that the evidence names to a drop-in of the unit",
        of_places.private_view,
    ),
    Finding(
        "path_sandboxed", CRITICAL, "The sandbox of the unit forbids writing to the directory",
        "Each save of a key fails, and the next restart continues with old keys.",
        f"{_PERSIST}, whose drop-in sets ReadWritePaths=, or add the line that the evidence names", of_places.unwritable,
    ),
    Finding(
        "path_mounted_read_only", CRITICAL, "The filesystem is mounted read-only",
        "The kernel does that after disk errors. Each save of a key fails.",
        "check the disk, mount the filesystem writable, then restore or relink what is damaged", of_places.mounted_read_only,
    ),
    Finding(
        "path_owner", CRITICAL, "The backend's user does not own the directory, or cannot reach it",
        "Its library cannot save keys, or cannot create the directory of a new account.",
        f"{_PERSIST}, which gives the directory to the user of the unit", of_places.wrong_owner,
    ),
    Finding(
        "path_is_link", MEDIUM, "The sessions path is a symbolic link",
        "The user who may replace the link decides which accounts the backend starts, and modules refuse to change such a path.",
        "set wa_sessions_path to the target of the link", of_places.is_link,
    ),
    Finding(
        "parent_of_others", HIGH, "Another user can replace the directory",
        "A directory above belongs to, or is writable for, a user other than root and the backend's: that user can exchange all accounts.",
        "remove that permission (chown, chmod go-w), or set wa_sessions_path below directories of root", of_places.swappable,
    ),
    Finding(
        "parent_of_backend", LOW, "The backend's user can replace the directory",
        "A directory above belongs to the backend's user, so that a fault of the program can remove the sessions path as a whole.",
        "set wa_sessions_path below directories of root, such as /var/lib/SERVICE, and run the playbook persist",
        of_places.owner_can_swap,
    ),
    Finding(
        "path_open", MEDIUM, "Other users can list or enter the directory",
        "Its entries are named after phone numbers, and any key file with a wide mode is open to all users.",
        f"{_PERSIST} (wa_mode, by default 0750)", of_places.open_to_others,
    ),
    Finding(
        "mount_not_required", HIGH, "The unit starts without the volume of its accounts",
        "If the volume is not mounted in time, the backend starts on the empty mount point and shows QR codes, or pairs again.",
        f"{_PERSIST}, whose drop-in sets RequiresMountsFor=", of_places.mount_not_required,
    ),
    Finding(
        "disk_space", HIGH, "The disk is almost full",
        "Libraries truncate the file of credentials before they write it: on a full disk it stays empty.",
        "free space, or move the sessions path to a larger disk (wa_sessions_path); wa_audit_min_free_bytes is the threshold",
        of_places.few_bytes,
    ),
    Finding(
        "disk_inodes", HIGH, "The disk has almost no inodes left",
        "Each key is a file. Without inodes no new key can be saved.",
        "remove files that are not needed; wa_audit_min_free_inodes is the threshold", of_places.few_inodes,
    ),
    Finding(
        "path_unproved", MEDIUM, "Nothing shows that the backend uses the sessions path",
        "Neither open files nor mounts nor variables of its processes lead there.",
        "check which directory its program uses, then run the playbook persist", of_places.unproved,
    ),
    Finding(
        "former_path_newer", CRITICAL, "A former path has newer keys",
        "The backend, or another program, has continued to write to the directory from which the accounts were moved.",
        f"find out which program writes to it, then {_PERSIST}, which takes the newer copy", of_places.former_newer,
    ),
    Finding(
        "cutover_unfinished", CRITICAL, "A migration was interrupted",
        "Its intent is still recorded, so accounts may be in a directory of this collection instead of where the backend looks.",
        f"{_PERSIST}, which undoes or completes it first", of_service.unfinished,
    ),
    # --- The unit or container ---
    Finding(
        "container_without_volume", CRITICAL, "The container keeps its accounts in storage that is deleted with it",
        "The layer of a container and anonymous volumes end with the container, at an update or at each restart.",
        f"{_PERSIST}, which copies the accounts out and mounts the sessions path, or reports the option to add", of_service.no_volume,
    ),
    Finding(
        "container_unknown", HIGH, "It is unknown what the container keeps",
        "The container of the unit could not be identified or examined.",
        "give the container a name (--name) and mount the sessions path, then run the playbook verify", of_service.box_unknown,
    ),
    Finding(
        "two_writers", CRITICAL, "A second process uses the accounts",
        "Two clients with the same keys log each other out, and each overwrites the keys of the other.",
        "stop the other process, or give each of both units its own sessions path (wa_sessions_path)", of_service.others,
    ),
    Finding(
        "variable_overridden", CRITICAL, "Another definition overrides the sessions path",
        "One file of the unit sets a variable to the sessions path, a later one or an environment file to something else: the next start "
        "uses the other directory.",
        f"remove the line that the evidence names, or {_PERSIST}, which also edits the environment file", of_service.overridden,
    ),
    Finding(
        "restart_pending", MEDIUM, "The running process lacks settings of its unit",
        "It was started before they were changed, so the next restart, whenever it happens, changes the directory.",
        "run the playbook restart", of_service.outdated,
    ),
    Finding(
        "dotenv_contradicts", MEDIUM, "A .env file of the program leads elsewhere",
        "A program that lets its .env override the environment, or that is started by hand, uses the other directory.",
        "set the variable in that file to the sessions path, or remove it there", of_service.dotenv,
    ),
    Finding(
        "stop_signal", HIGH, "The backend is not asked to stop by the signal that it handles",
        "With another signal it ends without saving, and the last keys are lost or torn.",
        f"{_PERSIST}, whose drop-in 10-graceful-stop sets it (wa_stop_signal overrides it)", of_service.stop_signal,
    ),
    Finding(
        "stop_mode", HIGH, "The kill mode does not suit the library",
        "Processes of a browser are killed before the program can close it, or survive and keep the profile locked.",
        f"{_PERSIST} (wa_stop_mode overrides what it sets)", of_service.stop_mode,
    ),
    Finding(
        "stop_timeout", HIGH, "The backend is killed before it has saved",
        "The time to stop is shorter than this library needs. SIGKILL then truncates what is being written.",
        f"{_PERSIST} (wa_stop_timeout); of a container, raise StopTimeout=, --stop-timeout or stop_grace_period", of_service.stop_timeout,
    ),
    Finding(
        "unit_root", MEDIUM, "The backend runs as root",
        "A fault of the program, or of a browser in it, has the whole host.",
        f"set User= in the unit, then {_PERSIST}, which gives the accounts to that user", of_service.runs_as_root,
    ),
    Finding(
        "umask_open", MEDIUM, "New key files can be read by other users",
        "The library creates files all the time with the mode that UMask= leaves.",
        f"{_PERSIST}, whose drop-in sets UMask=0077", of_service.umask_open,
    ),
    Finding(
        "restart_unlimited", MEDIUM, "No limit ends a restart storm",
        "A revoked account ends the program at once. Unlimited restarts make a storm of logins of that, and WhatsApp then refuses new "
        "links for hours.",
        "set Restart=on-failure, and StartLimitIntervalSec= longer than StartLimitBurst= times RestartSec=, in the unit",
        of_service.restart_unlimited,
    ),
    Finding(
        "restarts_repeated", HIGH, "The backend was restarted repeatedly",
        "systemd has restarted it more often since it was started than a healthy backend needs.",
        "find the cause in the journal of the unit, then run the playbook restart; wa_audit_max_restarts is the threshold",
        of_service.restarts,
    ),
    Finding(
        "keys_in_journal", HIGH, "The journal contains key material",
        "Some libraries print keys when they close a session. Everybody who can read the journal, or a copy of it, can use them.",
        "set the log level of the program, then remove the journal (journalctl --rotate --vacuum-time=1s); link the accounts again if "
        "others could read it", of_service.key_lines,
    ),
    # --- Accounts ---
    Finding(
        "account_without_content", CRITICAL, "Credentials or keys have no content",
        "A crash or a full disk left an empty file. The library silently creates a new identity, or loses sessions with contacts.",
        "restore the account from a backup (playbook restore) before the backend starts it, or link it again", of_accounts.without_content,
    ),
    Finding(
        "account_corrupt", CRITICAL, "An account is damaged",
        "Its structure shows that it will not reconnect after the next start.",
        "restore the account from a backup (playbook restore), or link it again", of_accounts.corrupt,
    ),
    Finding(
        "account_twice", CRITICAL, "Two accounts hold the same linked device",
        "The backend starts both, and WhatsApp logs both out.",
        "stop the backend and move the older one out of the sessions path", of_accounts.same_device,
    ),
    Finding(
        "copy_in_path", HIGH, "A copy of an account is inside the sessions path",
        "The backend starts every directory that it finds, also a backup under another name.",
        "move it out of the sessions path; the playbook backup keeps copies elsewhere", of_accounts.copy_in_path,
    ),
    Finding(
        "account_partial", MEDIUM, "Only a part of an account is on this disk",
        "The rest is in another store (SQL, Redis), which a copy or a backup of the directory does not contain.",
        "back up that store at the same moment, and restore both together", of_accounts.partial,
    ),
    Finding(
        "account_foreign_owner", HIGH, "Files of an account belong to another user",
        "Reading works, and the next save fails: usually after somebody ran the program as root.",
        "run the module session_dir with recurse=true for the sessions path and the unit", of_accounts.foreign_owner,
    ),
    Finding(
        "account_open", HIGH, "Other users can read keys",
        "Keys are all that is needed to take over the account.",
        f"{_PERSIST} (wa_mode closes the directory above, UMask=0077 new files)", of_accounts.open_keys,
    ),
    Finding(
        "lock_blocks_start", HIGH, "A lock keeps a browser from starting",
        "The lock of another host, or one that a copy damaged, makes every start of this account fail.",
        f"{_PERSIST}, which removes locks of accounts that are not in use", of_accounts.lock_blocks,
    ),
    Finding(
        "lock_stale", LOW, "A lock was left behind",
        "The last browser of this account did not end cleanly, so its last changes may be lost.",
        f"check how the unit stops: {_PERSIST}", of_accounts.lock_stale,
    ),
    Finding(
        "account_growth", MEDIUM, "An account has very many files",
        "Keys accumulate: listing, copying and backups slow down until the disk has no inodes.",
        "update the library, or link the account again; wa_audit_max_files is the threshold", of_accounts.many_files,
    ),
    Finding(
        "link_not_followed", MEDIUM, "A link that may be an account is not followed",
        "Neither a migration nor a backup nor this audit includes what it leads to.",
        "move the account to the sessions path, or remove the link", of_accounts.unfollowed_links,
    ),
    Finding(
        "backup_hard_linked", LOW, "A file of an account has several hard links",
        "This is not a backup: libraries write in place, so both names always have the same content.",
        "replace the other name by a backup (playbook backup)", of_accounts.hard_linked,
    ),
    Finding(
        "account_not_linked", LOW, "A directory is not a linked account",
        "The file exists, but no phone is linked: the backend shows a QR code for it.",
        "link it, or remove it", of_accounts.not_linked,
    ),
    # --- Backups ---
    Finding(
        "backup_missing", HIGH, "An account has no backup",
        "What is lost needs a QR code and somebody with the phone.",
        "run the playbook backup, and let a timer repeat it", of_accounts.no_backup,
    ),
    Finding(
        "backup_old", MEDIUM, "A backup is too old",
        "Restoring an old generation rolls keys back: messages are lost until chats have healed.",
        "run the playbook backup; wa_backup_max_age is the threshold", of_accounts.old_backup,
    ),
    Finding(
        "backup_failed", HIGH, "The last backup failed",
        "The run itself, or the unit that starts it, failed, so backups become older unnoticed.",
        "see the journal of the unit that the evidence names, then run the playbook backup", of_accounts.backup_failed,
    ),
    # --- The audit itself ---
    Finding(
        "exception_expired", HIGH, "An exception has expired",
        "The risk was accepted until a date that has passed.",
        "fix the finding that it names, or set a new end date in wa_audit_exceptions", of_accounts.expired,
    ),
    Finding(
        "nothing_found", MEDIUM, "No account was found",
        "There is nothing to lose, or the audit examined the wrong directory.",
        "check wa_sessions_path, wa_service and wa_layout", of_places.nothing_found,
    ),
    Finding(
        "not_examined", MEDIUM, "A part could not be examined",
        "What was not examined may have any of these findings.",
        "correct what the evidence names and run the audit again", of_accounts.unchecked,
    ),
)  # fmt: skip

BY_ID: t.Mapping[str, Finding] = {finding.id: finding for finding in FINDINGS}


def found_in(facts: Facts) -> tuple[tuple[Finding, tuple[Evidence, ...]], ...]:
    """Return each finding that applies with its evidence, the worst ones first, otherwise in the order of the table. Pure."""
    found = [(finding, tuple(finding.condition(facts))) for finding in FINDINGS]
    applying = [one for one in found if one[1]]
    return tuple(sorted(applying, key=lambda one: SEVERITIES.index(one[0].severity)))
