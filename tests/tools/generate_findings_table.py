# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the tables of findings in docs/findings.md and of problems of accounts in docs/layouts.md, so that they match the code.

generate_findings_table.py            writes them
generate_findings_table.py --check    fails if they are outdated
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tree import ROOT

sys.path.insert(0, str(ROOT / "playbooks/collections"))

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.finding import SEVERITIES
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.findings import FINDINGS
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.problems import (
    DATABASES,
    OF_A_DATABASE,
    OF_ANY_PART,
    PROBLEMS,
    SECOND,
)

PAGES = ROOT / "docs"


def main(arguments: list[str], pages: Path = PAGES) -> int:
    outdated = 0
    for name, marker, lines in (("findings.md", "findings", findings()), ("layouts.md", "problems", problems())):
        page = pages / name
        held = page.read_text(encoding="utf-8")
        wanted = with_table(held, marker, "\n".join(lines))
        if held == wanted:
            continue
        if arguments == ["--check"]:
            print(f"{name}:1: does not match the table of {marker} in the code: run `make readmes`")
            outdated += 1
            continue
        page.write_text(wanted, encoding="utf-8")
        print(f"{name}: written")
    return outdated


def with_table(text: str, marker: str, table: str) -> str:
    begin, end = f"<!-- {marker}: begin -->\n", f"<!-- {marker}: end -->\n"
    before, found, rest = text.partition(begin)
    ended, after = rest.partition(end)[1:]
    if not found or not ended:
        raise SystemExit(f"the page has no markers for the table: add {begin.strip()} and {end.strip()}")
    return f"{before}{found}\n{table}\n\n{end}{after}"


def findings() -> Iterator[str]:
    for severity in SEVERITIES:
        yield f"## {severity.capitalize()}\n"
        for finding in FINDINGS:
            if finding.severity == severity:
                yield f"### {finding.id}\n\n**{finding.title}.** {finding.meaning}\n\nRemedy: {finding.remedy}.\n"
    yield f"{len(FINDINGS)} findings."


def problems() -> Iterator[str]:
    """Yield one row for each meaning, with all words that have it."""
    yield "| problem | meaning |"
    yield "| --- | --- |"
    listed: set[str] = set()
    families = [([f"{part}_{kind}" for part in parts], how) for kind, (parts, how) in OF_ANY_PART.items()]
    families += [([f"{word}_{kind}" for word in DATABASES], how) for kind, how in OF_A_DATABASE.items()]
    for words, meaning in families:
        listed.update(words)
        yield row(words, f"the part of the account that it names {meaning}")
    for word, meaning in PROBLEMS.items():
        if word not in listed and not word.startswith(SECOND):
            yield row([word], meaning)
    second = [word for word in PROBLEMS if word.startswith(SECOND)]
    yield row(
        second,
        "the same of a database that the program does not open: it does not affect the state and is copied as it is",
    )


def row(words: Iterable[str], meaning: str) -> str:
    return f"| {', '.join(f'`{word}`' for word in words)} | {meaning} |"


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
