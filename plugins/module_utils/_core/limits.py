# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""All limits on what another user can make large, slow or endless; docs/security.md lists them.

Each has its unit and the reason for its value. Exceeding a limit is an error of one sentence or a problem of one account, never an endless
wait.
"""

from __future__ import annotations

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# --- Files that are read as a whole ---
# Bytes. A process gets at most 2 MiB of arguments and environment together on the kernel's default stack, and a file of settings is small.
FILE_BYTES = 1 * MIB
# Bytes. Real credentials have 1 to 50 kB.
CREDENTIALS_BYTES = 1 * MIB
# Bytes of the manifest of a snapshot, which may have come from another host, or of the list of a hundred thousand of them.
MANIFEST_BYTES = 16 * MIB
# Bytes of the list of the files of a snapshot: a hundred or two for each of the files that one account may have.
FILE_LIST_BYTES = 256 * MIB
# Assignments in one environment file. Real ones have fewer than a hundred; comparing them pairwise stays fast.
VARIABLES = 4096
# Environment files of one unit, after expansion of patterns.
ENVIRONMENT_FILES = 256
# Digits of a number in JSON. The conversion takes a time that grows with their square; CPython's own limit since 3.11.
JSON_DIGITS = 4300

# Bytes of everything in an archive, unpacked, and entries in it. A thousand accounts of a browser have less.
ARCHIVE_BYTES = 256 * GIB
ARCHIVE_ENTRIES = 5_000_000
# Bytes and levels of the name of one entry; the kernel allows 4096 bytes.
ARCHIVE_NAME_BYTES = 1024

# --- Processes that work on untrusted data ---
# Seconds for queries of one database, or for merging it into one file; plus a time that depends on its size.
JAIL_SECONDS = 20.0
JAIL_BYTES_PER_SECOND = 8 * MIB
# Seconds that one run spends on databases that take longer than a second each; after that, a second for each, up to the second limit.
SLOW_STORES_SECONDS = 120.0
ALL_STORES_SECONDS = 600.0
# Bytes of memory (address space): SQLite needs a few MiB, the interpreter around it up to 200.
JAIL_MEMORY = 1 * GIB
# Bytes that a database may grow by when its journal is rolled back, beyond the sum of its files.
JAIL_FILE_MARGIN = 1 * MIB
# Open files: the database, its -wal, its journal, the copy and its journal, the pipe, standard input and output.
JAIL_OPEN_FILES = 16
# Bytes of an answer: 100,000 devices with a digest each.
ANSWER_BYTES = 8 * MIB
# Bytes of one database that is copied to judge it.
STORE_BYTES = 1 * GIB
# Seconds for an attempt as another user: a few system calls.
AS_USER_SECONDS = 10.0
# Seconds until a process that got SIGKILL must have ended; one that waits for a failed disk may never end.
REAP_SECONDS = 10.0

# --- Trees ---
# Levels of directories. Real sessions have at most 9; each level keeps a descriptor open.
DEPTH = 64
# Names in one directory, and files and directories in one account. Real accounts have up to 100,000.
NAMES = 1_000_000
# Directories below one root that are searched for accounts.
FOLDERS = 100_000
# Seconds for everything that is copied and checked while a backend is stopped. It usually takes less than one.
STOPPED_SECONDS = 600.0
# Seconds in addition to that, and to the unit's stop and start timeouts, after which a run that keeps the unit stopped is killed.
STUCK_SECONDS = 60.0
# Seconds that a backend may be frozen for a backup. It usually takes less than a tenth of one.
FROZEN_SECONDS = 5.0
# Seconds that a backup waits for an account that is being written to become quiet.
QUIET_SECONDS = 5.0
# Seconds that an interruption may be put off until accounts are quiet; a run that waits longer is better started again.
QUIET_TIMEOUT = 86400.0
# Seconds that a boot waits until an interrupted run is undone.
BOOT_SECONDS = 120

# --- Processes of the host ---
# Bytes of /proc/PID/environ or cmdline. The kernel gives a program at most 6 MiB (three quarters of its own limit of 8 MiB) of both.
PROC_BYTES = 8 * MIB
# Seconds for one such file: the memory behind it may be a file on a user's own filesystem that never responds.
PROC_SECONDS = 5.0
# Seconds for checking all open files of all processes.
HOLDERS_SECONDS = 60.0

# --- Journal and HTTP ---
# Bytes of one entry as JSON; journald itself cuts a line of output at 48 KiB.
ENTRY_BYTES = 1 * MIB
# Characters of a line that are searched for signals.
LINE_CHARACTERS = 64 * KIB
# Bytes of the journal read in one check: the next one continues.
JOURNAL_BYTES = 1 * GIB
# Bytes of the body of a response.
BODY_BYTES = 1 * MIB

# --- Programs ---
# Seconds by default: for systemctl and other programs that respond at once.
COMMAND_SECONDS = 60.0
# Seconds for `systemctl daemon-reload`, which runs the generators.
RELOAD_SECONDS = 120.0
# Seconds for rsync, which copies while the backend runs.
RSYNC_SECONDS = 6 * 3600.0
# Seconds for one call of restic, which copies over a network.
RESTIC_SECONDS = 6 * 3600.0
# Seconds for another run of restic that has locked the repository, for example to remove old copies.
RESTIC_LOCK_SECONDS = 120.0
