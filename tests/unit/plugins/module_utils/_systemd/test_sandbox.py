# SPDX-License-Identifier: GPL-3.0-or-later
"""Sandboxes of units: what each directive makes of a path, and the line that allows writing there.

The same cases run against real units of systemd 252 and 257 in tests/module/test_session_dir_on_hosts.py.
"""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.sandbox import Verdict, verdict

P = "/var/lib/wa/sessions"
ALLOWED: tuple[None, tuple[str, ...]] = (None, ())

# properties, path, (what forbids it, the lines that allow it)
CASES: list[tuple[dict[str, str], str, tuple[str | None, tuple[str, ...]]]] = [
    ({}, P, ALLOWED),
    ({"ProtectSystem": "no", "ProtectHome": "no", "PrivateTmp": "no", "RootDirectory": ""}, P, ALLOWED),
    ({"ProtectSystem": "yes"}, P, ALLOWED),
    ({"ProtectSystem": "full"}, P, ALLOWED),
    ({"ProtectSystem": "yes"}, "/usr/local/wa", ("ProtectSystem=yes", ("ReadWritePaths=/usr/local/wa",))),
    ({"ProtectSystem": "full"}, "/etc/wa", ("ProtectSystem=full", ("ReadWritePaths=/etc/wa",))),
    ({"ProtectSystem": "strict"}, P, ("ProtectSystem=strict", (f"ReadWritePaths={P}",))),
    ({"ProtectSystem": "strict"}, "/home/wa/sessions", ALLOWED),
    ({"ProtectSystem": "strict", "ReadWritePaths": P}, P, ALLOWED),
    ({"ProtectSystem": "strict", "ReadWritePaths": "/var/lib/wa/"}, P, ALLOWED),
    ({"ProtectSystem": "strict", "ReadWritePaths": "-/srv /var/lib"}, P, ALLOWED),
    ({"ProtectSystem": "strict", "ReadWritePaths": f"+{P}"}, P, ALLOWED),
    (
        {"ProtectSystem": "strict", "ReadWritePaths": "/var/lib/wa/sess"},
        P,
        ("ProtectSystem=strict", (f"ReadWritePaths={P}",)),
    ),
    (
        {"ProtectSystem": "strict", "ReadWritePaths": f"{P}/inside"},
        P,
        ("ProtectSystem=strict", (f"ReadWritePaths={P}",)),
    ),
    ({"ProtectSystem": "strict", "ReadWritePaths": '"/srv/a b"'}, "/srv/a b/s", ALLOWED),
    ({"ProtectSystem": "strict", "StateDirectory": "wa"}, P, ALLOWED),
    ({"ProtectSystem": "strict", "StateDirectory": "other wa/sessions"}, P, ALLOWED),
    ({"ProtectSystem": "strict", "CacheDirectory": "wa"}, "/var/cache/wa/s", ALLOWED),
    ({"ProtectSystem": "strict", "LogsDirectory": "wa"}, "/var/log/wa/s", ALLOWED),
    ({"ProtectHome": "yes"}, P, ALLOWED),
    ({"ProtectHome": "yes"}, "/home/wa/s", ("ProtectHome=yes", ("ProtectHome=tmpfs", "BindPaths=/home/wa/s"))),
    (
        {"ProtectHome": "yes", "ReadWritePaths": "/home/wa/s"},
        "/home/wa/s",
        ("ProtectHome=yes", ("ProtectHome=tmpfs", "BindPaths=/home/wa/s")),
    ),
    ({"ProtectHome": "read-only"}, "/root/wa", ("ProtectHome=read-only", ("ReadWritePaths=/root/wa",))),
    ({"ProtectHome": "read-only", "ReadWritePaths": "/root/wa"}, "/root/wa", ALLOWED),
    ({"ProtectHome": "tmpfs"}, "/home/wa/s", ("ProtectHome=tmpfs", ("BindPaths=/home/wa/s",))),
    ({"ProtectHome": "tmpfs", "BindPaths": "/home/wa:/home/wa:rbind"}, "/home/wa/s", ALLOWED),
    ({"ReadOnlyPaths": "/var/lib"}, P, ("ReadOnlyPaths=/var/lib", (f"ReadWritePaths={P}",))),
    ({"ReadOnlyPaths": "/var/lib", "ReadWritePaths": "/var/lib/wa"}, P, ALLOWED),
    (
        {"ReadOnlyPaths": "/var/lib/wa", "ReadWritePaths": "/var/lib"},
        P,
        ("ReadOnlyPaths=/var/lib/wa", (f"ReadWritePaths={P}",)),
    ),
    # At the same path systemd lets read-only win, so only taking it back helps.
    (
        {"ReadOnlyPaths": f"/srv {P}", "ReadWritePaths": P},
        P,
        (f"ReadOnlyPaths={P}", ("ReadOnlyPaths=", "ReadOnlyPaths=/srv")),
    ),
    ({"InaccessiblePaths": "/var/lib/wa"}, P, ("InaccessiblePaths=/var/lib/wa", ("InaccessiblePaths=",))),
    (
        {"InaccessiblePaths": "-/var/lib/wa /srv", "ReadWritePaths": P},
        P,
        ("InaccessiblePaths=-/var/lib/wa", ("InaccessiblePaths=", "InaccessiblePaths=/srv")),
    ),
    ({"TemporaryFileSystem": "/var:ro"}, P, ("TemporaryFileSystem=/var:ro", (f"BindPaths={P}",))),
    ({"TemporaryFileSystem": "/var", "ReadWritePaths": P}, P, ("TemporaryFileSystem=/var", (f"BindPaths={P}",))),
    ({"TemporaryFileSystem": "/var", "BindPaths": P}, P, ALLOWED),
    ({"TemporaryFileSystem": "/srv\n/var"}, P, ("TemporaryFileSystem=/var", (f"BindPaths={P}",))),
    ({"PrivateTmp": "yes"}, P, ALLOWED),
    ({"PrivateTmp": "yes"}, "/tmp/wa", ("PrivateTmp=yes", ("BindPaths=/tmp/wa",))),
    ({"PrivateTmp": "disconnected"}, "/var/tmp/wa", ("PrivateTmp=disconnected", ("BindPaths=/var/tmp/wa",))),
    ({"RootDirectory": "/"}, P, ALLOWED),
    ({"RootDirectory": "/opt/jail"}, P, ("RootDirectory=/opt/jail", (f"BindPaths={P}",))),
    ({"RootDirectory": "/opt/jail", "BindPaths": "/var/lib/wa"}, P, ALLOWED),
    ({"RootImage": "/opt/wa.raw"}, P, ("RootImage=/opt/wa.raw", (f"BindPaths={P}",))),
    ({"BindPaths": "/mnt/other:/var/lib/wa:rbind"}, P, ("BindPaths=/mnt/other:/var/lib/wa", (f"BindPaths={P}",))),
    ({"BindPaths": f"{P}:/inside:rbind"}, P, ALLOWED),
    ({"BindReadOnlyPaths": "/var/lib/wa"}, P, ("BindReadOnlyPaths=/var/lib/wa", (f"ReadWritePaths={P}",))),
    ({"BindReadOnlyPaths": P, "ReadWritePaths": P}, P, (f"BindReadOnlyPaths={P}", ("BindReadOnlyPaths=",))),
    ({"ProtectSystem": "strict", "BindPaths": P}, P, ALLOWED),
    ({"ProtectSystem": "strict", "BindPaths": "/srv /srv/a b:/srv/a b:rbind -/opt"}, "/srv/a b/s", ALLOWED),
    (
        {"TemporaryFileSystem": "/var /srv/a b:size=1m,ro"},
        "/srv/a b/s",
        ("TemporaryFileSystem=/srv/a b:size=1m,ro", ('BindPaths="/srv/a b/s"',)),
    ),
    ({"ProtectSystem": "strict"}, "/srv/100% a", ("ProtectSystem=strict", ('ReadWritePaths="/srv/100%% a"',))),
]


@pytest.mark.parametrize(("properties", "path", "expected"), CASES)
def test_what_forbids_writing_and_what_allows_it(
    properties: dict[str, str], path: str, expected: tuple[str | None, tuple[str, ...]]
) -> None:
    directive, lines = expected
    assert verdict(properties, path) == Verdict(directive is None, directive, lines)


def added(properties: t.Mapping[str, str], lines: t.Iterable[str]) -> dict[str, str]:
    """Do what systemd does with the lines of one more drop-in: lists grow, an empty value clears, other values are replaced."""
    after = dict(properties)
    for line in lines:
        name, _mark, value = line.partition("=")
        grows = name.endswith("Paths") and value
        shown = value.strip('"') if name.startswith("Bind") else value  # systemctl quotes those in no list of mounts
        after[name] = f"{after.get(name, '')} {shown.replace('%%', '%')}".strip() if grows else value
    return after


@pytest.mark.parametrize(("properties", "path", "expected"), CASES)
def test_the_lines_that_are_told_really_allow_it(
    properties: dict[str, str], path: str, expected: tuple[str | None, tuple[str, ...]]
) -> None:
    assert verdict(added(properties, verdict(properties, path).lines), path).writable


VALUES: dict[str, list[str]] = {
    "ProtectSystem": ["no", "yes", "full", "strict"],
    "ProtectHome": ["no", "yes", "read-only", "tmpfs"],
    "PrivateTmp": ["no", "yes"],
    "RootDirectory": ["", "/", "/opt/jail"],
    "ReadOnlyPaths": ["", "/", "/var", "/var/lib/wa", P, "/home /tmp"],
    "ReadWritePaths": ["", "/var/lib", P, "/home/wa"],
    "InaccessiblePaths": ["", "/srv", "/var/lib", P],
    "TemporaryFileSystem": ["", "/var", "/home:ro", P],
    "BindPaths": ["", P, "/mnt:/var/lib", "/home"],
    "BindReadOnlyPaths": ["", "/var/lib", P, "/srv:/home"],
    "StateDirectory": ["", "wa"],
}


@given(
    st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in VALUES.items()}),
    st.sampled_from([P, "/home/wa/s", "/tmp/wa", "/usr/wa", "/srv/wa"]),
)
def test_following_the_lines_always_ends_well(properties: dict[str, str], path: str) -> None:
    """Whatever is combined: doing what is told, again and again, leads to a unit that can write. A forbidden path names what forbids it."""
    for _attempt in range(12):
        found = verdict(properties, path)
        if found.writable:
            assert found == Verdict(True)
            return
        assert found.directive
        assert found.lines
        properties = added(properties, found.lines)
    raise AssertionError(properties)


@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in VALUES.items()}))
def test_what_a_drop_in_will_add_counts_as_if_it_were_there(properties: dict[str, str]) -> None:
    listed = {**properties, "ReadWritePaths": f"{properties.get('ReadWritePaths', '')} {P}"}
    assert verdict(properties, P, extra_read_write_paths=[P]) == verdict(listed, P)
