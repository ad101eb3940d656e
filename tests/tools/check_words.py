# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports words and phrases that readers stumble over; docs/developing.md explains them and their replacements.

Prose is the text of Markdown, YAML and templates, comments, docstrings and messages. Names and code are not checked.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

from tree import ROOT, files, first_lines

# The files with prose (patterns of git), except those that still contain such words, and the list itself.
COVERED = (
    "*.md",
    "Makefile",
    "galaxy.yml",
    "changelogs/fragments/*",
    ".config/*",
    "ansible.cfg",
    "benchmarks/*",
    "demo/*",
    "extensions/*",
    "meta/*",
    "molecule/*",
    "playbooks/*",
    "plugins/*",
    "roles/*",
    "tests/backends/*",
    "tests/lab/*",
    "tests/requirements/*",
    "tests/sanity/*",
    "tests/tools/*",
)
NOT_YET = "tests/tools/check_words.py"

# The replacement for each expression.
INSTEAD = {
    r"told|tell|tells|telling": "report, return, list, state",
    r"(?:(?:is|are|was|were|be|all|everything) )(?:not )?well|not well": "healthy, unhealthy",
    r"mend|mends|mended|mending": "fix, correct",
    r"in peace": "gracefully",
    r"in silence": "silently",
    r"(?:bring|brings|brought) alive": "migrate",
    r"by now": "now",
    r"no more(?! than| \w+ than)": "no longer",
    r"any more(?=[.,;:)]|$)": "no longer",
    r"whoever|whatsoever": "name the process or user",
    r"in force|into force": "in effect, into effect",
    r"anew": "again, recreate",
    r"all the same": "nevertheless",
    r"beat|beats|beaten": "override",
    r"for ever": "always, forever",
    r"beside": "next to, in addition to",
    r"says? so": "report it",
    r"(?:is|are|was|were|be) asked": "query, check",
    r"on (?:its|their) way": "in transit",
    r"(?:let|lets|letting|be let) (?:it |the key |a key )?in": "authorize",
    r"ways? back|(?:go|goes|going|went) back|(?:brought|brings) back": "roll back, return",
    r"(?:go|goes|going|went) on(?! the)": "continue",
    r"that (?:is|are) none|of which there (?:is|are) none": "invalid",
    r"(?:is|are) to be (?:done|brought|moved|migrated)": "has to be done",
    r"Left out,": "Defaults to",
    r"(?:lie|lies|lay|lying) (?:in|at|below|above|on|there|here|elsewhere)": "is in, is stored in",
    r"(?:first |a |the )seed|seed's": "the shell recipe",
}
BANNED = {
    re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])".replace(" ", r"\s"), re.IGNORECASE): words
    for pattern, words in INSTEAD.items()
}

# Code in prose: spans of Markdown and of Ansible's markup, expressions of Jinja.
CODE = re.compile(r"``[^`]*``|`[^`]*`|\b[CVOEIPMU]\([^)]*\)|\bRV\([^)]*\)")
JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
SENTENCE = re.compile(r"'[^']*\s[^']*\s[^']*'")
APART = "----"
FENCE = re.compile(r"^ *(```|~~~)")


def complaints(path: Path, text: str) -> Iterator[str]:
    """Yield a line of output for each banned phrase in a file."""
    numbers, joined = joined_lines(prose(path, text))
    for pattern, words in BANNED.items():
        for found in pattern.finditer(joined):
            number = numbers[joined.count("\n", 0, found.start())]
            yield f"{path}:{number}: '{' '.join(found[0].split())}': write {words}"


def joined_lines(lines: Iterable[tuple[int, str]]) -> tuple[list[int], str]:
    """Return the numbers of the lines and their text, in which only consecutive lines are next to each other."""
    numbers: list[int] = []
    kept: list[str] = []
    for number, line in lines:
        if numbers and number != numbers[-1] + 1:
            numbers.append(numbers[-1])
            kept.append(APART)
        numbers.append(number)
        kept.append(CODE.sub("CODE", line).strip().lstrip("#").strip())
    return numbers, "\n".join(kept)


def prose(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of prose in a file, with their numbers."""
    if path.suffix == ".md":
        return of_markdown(text)
    if path.suffix == ".py" or (
        not path.suffix and text.startswith(("#!/usr/bin/env python", "#!/usr/bin/python", '"""'))
    ):
        return of_python(text)
    if path.suffix in (".j2", ".yml", ".yaml"):
        return of_templates(text)
    return ((number, line) for number, line in enumerate(text.splitlines(), 1) if "#" in line)


def of_markdown(text: str) -> Iterator[tuple[int, str]]:
    is_code = is_list = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            is_code = not is_code
        # The list of words contains the words themselves.
        is_list = line == "| instead of | write |" or (is_list and line.startswith("|"))
        if not is_code and not is_list:
            yield number, line


def of_python(text: str) -> Iterator[tuple[int, str]]:
    """Yield comments, and strings of several words: docstrings, documentation and messages."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        tree = ast.parse(text)
    except (SyntaxError, tokenize.TokenError):
        return
    for token in tokens:
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 1:
            yield from enumerate(node.value.splitlines(), node.lineno)


def of_templates(text: str) -> Iterator[tuple[int, str]]:
    """Yield all text, but only the sentences in expressions of Jinja."""
    kept = JINJA.sub(lambda found: "\n".join(" ".join(SENTENCE.findall(line)) for line in found[0].split("\n")), text)
    yield from enumerate(kept.splitlines(), 1)


def covered() -> Iterator[Path]:
    for path in files(*COVERED):
        if not str(path).startswith(NOT_YET) and not is_binary(path):
            yield path


def is_binary(path: Path) -> bool:
    return "\0" in "".join(first_lines(path, 1))


def main() -> int:
    found = [line for path in covered() for line in complaints(path, (ROOT / path).read_text(encoding="utf-8"))]
    print("\n".join(found), end="\n" if found else "")
    return len(found)


if __name__ == "__main__":
    sys.exit(bool(main()))
