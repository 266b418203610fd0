"""Check the documents and the folders: citations, the index of the rules, the map."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.named_tests import missing_test

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RULES = DOCS / "money-safety.md"
PROTOCOL = DOCS / "protocol.md"
INDEX = DOCS / "money-safety-tests.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"

SIGN = "\N{SECTION SIGN}"
PLANNED = "(planned: not in this release"
EVERY_TEXT = (
    *("wxpay_async/**/*.py", "tests/**/*.py", "benchmarks/*.py", "examples/*.py"),
    *("docs/*.md", "tests/**/*.md", "benchmarks/*.md", "*.md"),
)

# Between the words of a citation a line may end, and the next one begin with `#` in a comment.
_GAP = r"(?:\s|#)+"
_DOCUMENT = r"`?(?P<path>(?:[\w.-]+/)*[\w.-]+\.md)\b`?"
CITED_SECTION = re.compile(rf"(?:{_DOCUMENT},?{_GAP})?{SIGN}{_GAP[:-1]}*(?P<number>\d+(?:\.\d+)?)")
CITED_HEADING = re.compile(rf"{_DOCUMENT},{_GAP}\"(?P<heading>[^\"\n]+)\"")
CITED_DECISION = re.compile(rf"\bdecisions?{_GAP}(?P<number>\d+)\b")
CITED_DOCUMENT = re.compile(_DOCUMENT)

MAPPED = re.compile(r"`(?P<path>[\w./]+\.py)` → `(?P<name>[\w.]+)`")

INDEXED = re.compile(rf"^\| {SIGN}(?P<rule>[\d.]+) \| (?P<what>.+) \| (?P<tests>.+) \|$")


@functools.cache
def text_of(path: Path) -> str:
    """Read a file once."""
    return path.read_text(encoding="utf-8")


def place(path: Path, offset: int) -> str:
    """Return file and line, as editors take them."""
    line = text_of(path).count("\n", 0, offset) + 1
    return f"{path.relative_to(ROOT)}:{line}"


@functools.cache
def sections(document: Path) -> frozenset[str]:
    """Return what can be cited by number: `3` for a section, `1.4` for its rule 4."""
    found = set[str]()
    section = ""
    for line in text_of(document).splitlines():
        if line.startswith("## "):
            heading = re.match(r"## (\d+)\. ", line)
            section = heading[1] if heading else ""
            found |= {section} - {""}
        elif section and (item := re.match(r"(\d+)\. ", line)):
            found.add(f"{section}.{item[1]}")
    return frozenset(found)


@functools.cache
def headings(document: Path) -> frozenset[str]:
    """Return the headings, without their numbers."""
    return frozenset(re.findall(r"^#+ (?:\d+\. )?(.+)$", text_of(document), re.MULTILINE))


@functools.cache
def decisions() -> frozenset[str]:
    """Return the numbers of the decisions about the protocol."""
    _, _, listed = text_of(PROTOCOL).partition("## Decisions\n")
    return frozenset(re.findall(r"^(\d+)\. ", listed, re.MULTILINE))


def document(cited: str, near: Path) -> Path | None:
    """Find a cited document: in `docs/`, at the root, or beside the file that cites it."""
    for folder in (DOCS, ROOT, near.parent):
        if (folder / cited).is_file():
            return folder / cited
    return None


def problems(text: str, near: Path) -> Iterator[tuple[int, str]]:
    """Yield the place and the reason of each citation that leads nowhere."""
    for match in CITED_DOCUMENT.finditer(text):
        if document(match["path"], near) is None:
            yield match.start(), f"there is no {match['path']}"
    for match in CITED_SECTION.finditer(text):
        # A section without a document is one of money safety: no other has numbers.
        target = document(match["path"] or RULES.name, near)
        if target is not None and match["number"] not in sections(target):
            yield match.start(), f"{target.name} has no {SIGN}{match['number']}"
    for match in CITED_HEADING.finditer(text):
        target = document(match["path"], near)
        if target is not None and match["heading"] not in headings(target):
            yield match.start(), f'{target.name} has no section "{match["heading"]}"'
    for match in CITED_DECISION.finditer(text):
        if match["number"] not in decisions():
            yield match.start(), f"{PROTOCOL.name} has no decision {match['number']}"


def find_dangling() -> list[str]:
    """Return every citation of the project that leads nowhere."""
    paths = {path for pattern in EVERY_TEXT for path in ROOT.glob(pattern)}
    paths.discard(Path(__file__))  # which makes some up
    return [
        f"{place(path, offset)}: {reason}"
        for path in sorted(paths)
        for offset, reason in problems(text_of(path), path)
    ]


# Citations


def test_citations_of_the_project_lead_somewhere() -> None:
    """Code, tests and documents cite only what can be read in `docs/`."""
    found = find_dangling()

    assert [] == found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"as `money-safety.md` {SIGN}99 says", f"has no {SIGN}99"),
        (f"as `docs/money-safety.md` {SIGN}1.9 says", f"has no {SIGN}1.9"),
        (f"`money-safety.md`\n# {SIGN}1 and {SIGN}12", f"has no {SIGN}12"),
        (f"each arrow is a commit ({SIGN}42).", f"has no {SIGN}42"),
        (f"`protocol.md` {SIGN}2", f"protocol.md has no {SIGN}2"),
        ('See `protocol.md`, "Made-up codes".', 'has no section "Made-up codes"'),
        ("# ours (decision\n    # 77), that it failed", "has no decision 77"),
        ("see `made-up.md`", "there is no made-up.md"),
    ],
)
def test_citation_that_is_made_up_is_found(text: str, reason: str) -> None:
    """The check above goes red for each form of a citation."""
    assert [reason] == [found[-len(reason) :] for _, found in problems(text, RULES)]


@pytest.mark.parametrize(
    "text",
    [
        f"`money-safety.md` {SIGN}3 and {SIGN}1.4, `docs/money-safety.md` {SIGN}7.5",
        'See `protocol.md`, "Error codes" and "(decision 7)".',
        "`README.md`, `tests/chaos/README.md`",
    ],
)
def test_citation_that_is_right_is_left_alone(text: str) -> None:
    """Every form that CONTRIBUTING.md names is understood."""
    assert [] == list(problems(text, RULES))


def test_sections_of_money_safety_are_eight() -> None:
    """The numbers are cited, so they must not move; only §1 and §7 have numbered rules."""
    expected = {str(number) for number in range(1, 9)}
    expected |= {f"1.{number}" for number in range(1, 5)}
    expected |= {f"7.{number}" for number in range(1, 10)}

    assert expected == sections(RULES)


def test_decisions_about_the_protocol_are_eighteen() -> None:
    """Their numbers are cited, too."""
    assert {str(number) for number in range(1, 19)} == decisions()


@pytest.mark.parametrize("path", [*sorted(DOCS.glob("*.md")), CONTRIBUTING], ids=lambda p: p.name)
def test_rules_that_are_planned_are_marked_alike(path: Path) -> None:
    """One search finds every rule that the code does not follow yet."""
    words = " ".join(text_of(path).split())
    marked = words.count(PLANNED)

    assert len(re.findall(r"\bplanned\b", words)) == marked


@pytest.mark.parametrize(
    "path", [*sorted(DOCS.glob("*.md")), CONTRIBUTING, ROOT / "tests" / "chaos" / "README.md"]
)
def test_files_that_a_document_names_exist(path: Path) -> None:
    """A path in backticks is one from the root."""
    named = set(re.findall(r"`((?:\w[\w.-]*/)+[\w.-]+\.\w+)`", text_of(path)))
    if path == CONTRIBUTING:
        named -= {mapped for mapped, _ in places()}  # of which a check below takes care

    assert [] == sorted(name for name in named if not (ROOT / name).exists())


# The index of the rules


def rows() -> list[tuple[str, str, str]]:
    """Return place, rule and test for each test that the index names."""
    lines = text_of(INDEX).splitlines()
    matches = [(number, INDEXED.match(line)) for number, line in enumerate(lines, 1)]
    return [
        (f"docs/{INDEX.name}:{number}", match["rule"], named)
        for number, match in matches
        if match is not None
        for named in re.findall(r"`([^`]+)`", match["tests"])
    ]


def test_index_names_only_rules_that_exist() -> None:
    """Each row begins with a section or a numbered rule of money safety."""
    odd = [
        f"{where}: {RULES.name} has no {SIGN}{rule}"
        for where, rule, _ in rows()
        if rule not in sections(RULES)
    ]

    assert [] == odd, "\n".join(odd)


def test_index_has_a_test_for_each_rule() -> None:
    """No section, and no numbered rule, is held by nothing."""
    bare = sorted(sections(RULES) - {rule for _, rule, _ in rows()})

    assert [] == bare, f"docs/{INDEX.name}: add a row for each of {', '.join(bare)}"


def test_index_names_only_tests_that_exist() -> None:
    """A test that is renamed or moved takes its rows along; the message says what to write."""
    advice = [(where, missing_test(named.removeprefix("tests/"))) for where, _, named in rows()]
    missing = [f"{where}: {change}" for where, change in advice if change is not None]

    assert [] == missing, "\n".join(missing)


def test_index_has_no_line_that_is_no_row() -> None:
    """A row that the check cannot read would not be checked."""
    table = [line for line in text_of(INDEX).splitlines() if line.startswith("|")]
    odd = [line for line in table if not INDEXED.match(line) or "`" not in line]

    assert [] == [line for line in odd if not re.match(r"\| rule |\|---", line)]


# The folders of the tests


@pytest.mark.parametrize(
    "folder",
    [
        "protocol",
        "policy",
        "engine",
        "adapters",
        "adapters/limiters",
        "adapters/signers",
        "adapters/stores",
        "adapters/transports",
        "cli",
        "integrations",
        "sandbox",
    ],
)
def test_module_has_a_test_file_of_its_name(folder: str) -> None:
    """A reader finds the tests of a module without a search."""
    modules = {path.name for path in (ROOT / "wxpay_async" / folder).glob("[!_]*.py")}
    tested = {path.name.removeprefix("test_") for path in (ROOT / "tests" / folder).glob("test_*")}

    assert set() == modules - tested


# The map


def places() -> list[tuple[str, str]]:
    """Return file and name of each place on the map."""
    return [(match["path"], match["name"]) for match in MAPPED.finditer(text_of(CONTRIBUTING))]


def names_in(path: Path) -> Iterator[str]:
    """Yield the functions, classes, methods and variables that a module defines."""
    for node in ast.parse(text_of(path)).body:
        yield from _list_defined(node)
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{name}" for part in node.body for name in _list_defined(part))


def _list_defined(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case _:
            return


@pytest.mark.parametrize(("path", "name"), places(), ids=lambda part: part)
def test_place_on_the_map_exists(path: str, name: str) -> None:
    """CONTRIBUTING.md sends a reader only to files and functions that exist."""
    there = (ROOT / path).is_file() and name in set(names_in(ROOT / path))

    assert there, f"CONTRIBUTING.md: there is no {name} in {path}"


def test_answers_of_the_map_take_two_files_at_most() -> None:
    """Each question has an answer, in one or two files."""
    _, _, table = text_of(CONTRIBUTING).partition("## A map\n")
    table, _, _ = table.partition("\n## ")
    answers = [line for line in table.splitlines() if line.startswith("| ") and "?" in line]
    files = [len({match["path"] for match in MAPPED.finditer(line)}) for line in answers]

    assert answers
    assert {1, 2} >= set(files)
