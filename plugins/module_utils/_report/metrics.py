# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The figures of a record in the text format of Prometheus, for the textfile collector of node_exporter. Pure.

Times instead of ages, so that the file changes only when something else did; a query subtracts them from time(). Accounts are masked IDs.
"""

from __future__ import annotations

import typing as t

from .history import seconds_of_text

Labels = t.Mapping[str, str]
Sample = tuple[Labels, float]
PREFIX = "whatsapp_sessions_"


class Metric(t.NamedTuple):
    """One metric, a gauge: its name without the prefix, what it is, and its samples of a record."""

    name: str
    help: str
    samples: t.Callable[[t.Mapping[str, t.Any]], t.Iterable[Sample]]


def _single(read: t.Callable[[t.Mapping[str, t.Any]], float | bool | None]) -> t.Callable[..., t.Iterator[Sample]]:
    """Return samples that are one value, or none if it is unknown."""

    def samples(record: t.Mapping[str, t.Any]) -> t.Iterator[Sample]:
        value = read(record)
        if value is not None:
            yield {}, float(value)

    return samples


def _of_accounts(read: t.Callable[[t.Mapping[str, t.Any]], float | None]) -> t.Callable[..., t.Iterator[Sample]]:
    def samples(record: t.Mapping[str, t.Any]) -> t.Iterator[Sample]:
        for account in record["accounts"]:
            value = read(account)
            if value is not None:
                yield {"account": account["id"]}, float(value)

    return samples


def _backend(read: t.Callable[[t.Mapping[str, t.Any]], float | bool | None]) -> t.Callable[..., t.Iterator[Sample]]:
    return _single(lambda record: read(record["backend"]) if record["backend"] else None)


def _states(record: t.Mapping[str, t.Any]) -> t.Iterator[Sample]:
    return (({"state": state}, float(number)) for state, number in sorted(record["states"].items()))


def _findings(record: t.Mapping[str, t.Any]) -> t.Iterator[Sample]:
    for severity in ("critical", "high", "medium", "low"):
        yield {"severity": severity}, float(sum(one["severity"] == severity for one in record["findings"]))


def _last_run(record: t.Mapping[str, t.Any]) -> float | None:
    last = (record["backups"] or {}).get("last_run")
    return seconds_of_text(last) if last else None


# The order is that of the file. docs/report.md lists the same names.
METRICS: tuple[Metric, ...] = (
    Metric("path_exists", "Whether the sessions path exists.", _single(lambda record: record["exists"])),
    Metric("accounts", "Accounts by state.", _states),
    Metric("linked_accounts", "Accounts that reconnect without a QR code.", _single(lambda record: record["linked"])),
    Metric("displaced_accounts", "Accounts that were put aside.", _single(lambda record: record["displaced"])),
    Metric(
        "duplicate_devices", "Linked devices in more than one account.", _single(lambda record: record["duplicates"])
    ),
    Metric("account_files", "Files of an account.", _of_accounts(lambda account: account["files"])),
    Metric("account_bytes", "Size of an account.", _of_accounts(lambda account: account["bytes"])),
    Metric(
        "account_written_timestamp_seconds",
        "When an account was last written to.",
        _of_accounts(lambda account: seconds_of_text(account["newest"])),
    ),
    Metric(
        "account_backup_timestamp_seconds",
        "When an account was last found saved.",
        _of_accounts(lambda account: seconds_of_text(account["saved"]) if account["saved"] else None),
    ),
    Metric(
        "accounts_without_backup",
        "Linked accounts without a sound snapshot.",
        _single(lambda record: record["backups"] and record["backups"]["without_snapshot"]),
    ),
    Metric("backup_last_run_timestamp_seconds", "When the last backup ran.", _single(_last_run)),
    Metric(
        "backup_last_failed_accounts",
        "Accounts that the last backup failed to save.",
        _single(lambda record: record["backups"] and record["backups"]["last_failed"]),
    ),
    Metric("backend_up", "Whether the backend runs.", _backend(lambda backend: backend["state"] == "running")),
    Metric("backend_failed", "Whether the unit has failed.", _backend(lambda backend: backend["state"] == "failed")),
    Metric(
        "backend_start_timestamp_seconds",
        "When the backend was started.",
        _backend(lambda backend: seconds_of_text(backend["since"]) if backend["since"] else None),
    ),
    Metric(
        "backend_uses_path",
        "Whether the running backend was seen to use the sessions path.",
        _backend(lambda backend: None if backend["use"] == "stopped" else backend["use"] == "used"),
    ),
    Metric("findings", "Findings of the audit by severity.", _findings),
    Metric(
        "work_in_progress",
        "Whether a migration, a backup or another run works on the accounts.",
        _single(lambda record: record["progress"] is not None),
    ),
    Metric(
        "problems", "Parts of the host that could not be examined.", _single(lambda record: len(record["problems"]))
    ),
)


def text_of_metrics(record: t.Mapping[str, t.Any]) -> str:
    """Return all metrics of a record. Each sample has the labels ``unit`` and ``path``, since a host may have several backends."""
    common = {"unit": record["unit"], "path": record["path"]}
    lines: list[str] = []
    for metric in METRICS:
        samples = list(metric.samples(record))
        if samples:
            lines += [f"# HELP {PREFIX}{metric.name} {metric.help}", f"# TYPE {PREFIX}{metric.name} gauge"]
            lines += [f"{PREFIX}{metric.name}{_labels({**common, **labels})} {value:.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
