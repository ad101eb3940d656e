# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Properties of single options of unit files: which ones accumulate, their other names, and when two values are the same."""

from __future__ import annotations

import re
import signal

# Further lines add to these options, and an empty one resets them (systemd.unit(5), systemd.service(5), systemd.exec(5),
# systemd.resource-control(5)). For all others, the last line counts.
_ACCUMULATING = frozenset(
    (
        "Documentation Wants Requires Requisite BindsTo PartOf Upholds Conflicts Before After OnFailure OnSuccess "
        "PropagatesReloadTo ReloadPropagatedFrom PropagatesStopTo StopPropagatedFrom JoinsNamespaceOf RequiresMountsFor WantsMountsFor "
        "WantedBy RequiredBy UpheldBy Also Alias "
        "SuccessExitStatus RestartPreventExitStatus RestartForceExitStatus Sockets OpenFile "
        "Environment EnvironmentFile PassEnvironment UnsetEnvironment SupplementaryGroups "
        "ReadWritePaths ReadOnlyPaths InaccessiblePaths NoExecPaths TemporaryFileSystem BindPaths BindReadOnlyPaths "
        "MountImages ExtensionImages ExtensionDirectories "
        "StateDirectory RuntimeDirectory CacheDirectory LogsDirectory ConfigurationDirectory "
        "CapabilityBoundingSet AmbientCapabilities SystemCallFilter SystemCallArchitectures SystemCallLog "
        "RestrictAddressFamilies RestrictNamespaces RestrictFileSystems RestrictNetworkInterfaces "
        "LoadCredential LoadCredentialEncrypted SetCredential SetCredentialEncrypted ImportCredential LogExtraFields LogFilterPatterns "
        "DeviceAllow IPAddressAllow IPAddressDeny IPIngressFilterPath IPEgressFilterPath SocketBindAllow SocketBindDeny "
        "IODeviceWeight IOReadBandwidthMax IOWriteBandwidthMax IOReadIOPSMax IOWriteIOPSMax IODeviceLatencyTargetSec "
        "OnCalendar OnActiveSec OnBootSec OnStartupSec OnUnitActiveSec OnUnitInactiveSec "
        "PathExists PathExistsGlob PathChanged PathModified DirectoryNotEmpty Symlinks"
    ).split()
)
_ACCUMULATING_FAMILIES = ("Exec", "Condition", "Assert", "Listen")

# Obsolete names that systemd still accepts, and an option that sets two others.
_OTHER_NAMES = {
    "TimeoutSec": ("TimeoutStartSec", "TimeoutStopSec"),
    "ReadWriteDirectories": ("ReadWritePaths",),
    "ReadOnlyDirectories": ("ReadOnlyPaths",),
    "InaccessibleDirectories": ("InaccessiblePaths",),
    "BindTo": ("BindsTo",),
}

_YES = ("1", "yes", "y", "true", "t", "on")
_NO = ("0", "no", "n", "false", "f", "off")
_MILLISECONDS = {
    "": 1000.0,
    **dict.fromkeys(("us", "usec", "µs"), 0.001),
    **dict.fromkeys(("ms", "msec"), 1.0),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1000.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60_000.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3_600_000.0),
    **dict.fromkeys(("d", "day", "days"), 86_400_000.0),
    **dict.fromkeys(("w", "week", "weeks"), 604_800_000.0),
}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zµ]*)\s*")


def accumulates(option: str) -> bool:
    """Whether further lines of ``option`` add to earlier ones instead of replacing them."""
    return option in _ACCUMULATING or option.startswith(_ACCUMULATING_FAMILIES)


def canonical_options(option: str) -> tuple[str, ...]:
    """Return the option or options that ``option`` sets, by their names in systemd's manuals."""
    return _OTHER_NAMES.get(option, (option,))


def same_value(option: str, one: str, other: str) -> bool:
    """Whether both texts are the same value of ``option`` for systemd: ``INT`` and ``2``, ``1min`` and ``60``, ``on`` and ``yes``."""
    return _canonical(option, one) == _canonical(option, other)


def seconds(span: str) -> float:
    """Return the seconds of a time span in systemd's notation (``1min 30s``, ``45``). Raises ValueError if it is not one."""
    return float(_span(span)) / 1000


def _canonical(option: str, value: str) -> str:
    if option.endswith("Signal"):
        return _signal(value)
    if option.endswith("Sec") and _SPAN.match(value):
        return _span(value)
    if option in ("UMask",) and re.fullmatch("[0-7]+", value):
        return str(int(value, 8))
    lowered = value.lower()
    return "yes" if lowered in _YES else "no" if lowered in _NO else value


def _signal(value: str) -> str:
    name = value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"
    known = signal.Signals.__members__.get(name)
    return str(int(known)) if known else value


def _span(value: str) -> str:
    parts = _SPAN.findall(value)
    if "".join(_SPAN.split(value)[::3]).strip() or any(unit not in _MILLISECONDS for _number, unit in parts):
        return value
    return f"{sum(float(number) * _MILLISECONDS[unit] for number, unit in parts):.3f}"
