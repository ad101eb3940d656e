# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The limits on everything that another user can make large, slow or endless, in one place; docs/security.md lists them.

Each has its unit and the reason for its size. What is past a limit is an error of one sentence, or a problem of the one account, and
never a wait without end.
"""

from __future__ import annotations

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

# --- Files that are read as a whole ---
# Bytes. A process gets at most 2 MiB of arguments and environment together on the kernel's default stack, and a file of settings is small.
FILE_BYTES = 1 * MIB
# Bytes. Real credentials have 1 to 50 kB.
CREDENTIALS_BYTES = 1 * MIB
# Assignments in one environment file. Real ones have less than a hundred; what compares them one by one stays fast.
VARIABLES = 4096
# Environment files of one unit, patterns expanded.
ENVIRONMENT_FILES = 256
# Digits of a number in JSON. Converting more takes a time that grows with their square; CPython's own limit since 3.11.
JSON_DIGITS = 4300

# --- Processes that work on what somebody may have crafted ---
# Seconds for the questions about one database, or for making one file of it, and how much longer for its size.
JAIL_SECONDS = 20.0
JAIL_BYTES_PER_SECOND = 8 * MIB
# Seconds that one run spends on databases that take longer than a second each, then a second for each, and never more than the last.
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
# Bytes of one database that is copied in order to be judged.
STORE_BYTES = 1 * GIB
# Seconds for what is tried as another user: a few system calls.
AS_USER_SECONDS = 10.0
# Seconds until a process that got SIGKILL has to be gone; one that waits for a dead disk may never be.
REAP_SECONDS = 10.0

# --- Trees ---
# Levels of directories. Real sessions have at most 9; a descriptor is held for each.
DEPTH = 64
# Names in one directory, and files and directories in one account: more are never read. Real accounts have up to 100,000.
NAMES = 1_000_000
# Directories below one root that are looked at in order to find accounts.
FOLDERS = 100_000
# Seconds for all that is copied and checked while a backend is stopped. Mostly it is less than one.
STOPPED_SECONDS = 600.0
# Seconds beyond that, and beyond what the unit may take to stop and to start, after which a run that holds it stopped is killed.
STUCK_SECONDS = 60.0
# Seconds that a boot waits for what undoes an interrupted run.
BOOT_SECONDS = 120

# --- Processes of the host ---
# Bytes of /proc/PID/environ or cmdline. The kernel gives a program at most 6 MiB (three quarters of its own limit of 8 MiB) of both.
PROC_BYTES = 8 * MIB
# Seconds for one such file: the memory behind it may be a file of a user's own filesystem that never answers.
PROC_SECONDS = 5.0
# Seconds for looking through all open files of all processes.
HOLDERS_SECONDS = 60.0

# --- Journal and HTTP ---
# Bytes of one entry as JSON; journald itself cuts a line of output at 48 KiB.
ENTRY_BYTES = 1 * MIB
# Characters of a line in which signals are looked for.
LINE_CHARACTERS = 64 * KIB
# Bytes of the journal that one look reads: a flood is read on by the next one.
JOURNAL_BYTES = 1 * GIB
# Bytes of the body of an answer.
BODY_BYTES = 1 * MIB

# --- Programs ---
# Seconds, where a call does not say otherwise: systemctl and others that answer at once.
COMMAND_SECONDS = 60.0
# Seconds for `systemctl daemon-reload`, which runs the generators.
RELOAD_SECONDS = 120.0
# Seconds for rsync, which copies while the backend runs.
RSYNC_SECONDS = 6 * 3600.0
