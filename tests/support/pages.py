"""Read pages, of `docs/` and at the root: their blocks of code, languages and commands."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
README: Final = ROOT / "README.md"
CHINESE: Final = ROOT / "README.zh-CN.md"

_BLOCK: Final = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
_FILE: Final = re.compile(r"(?:#|//) ([\w.-]+\.\w+)\n")


@frozen
class Block:
    """A block of code of a page.

    Attributes:
        page: the file.
        line: where it begins, from 1.
        language: as it is written behind the backticks.
        text: what is between them.
    """

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """The file that the block stands for, as its first line says; empty for a fragment.

        A CSV has no comments: it is the file of refunds.
        """
        if self.language == "csv":
            return "refunds.csv"
        match = _FILE.match(self.text)
        return match[1] if match else ""

    @property
    def place(self) -> str:
        """File and line, as editors take them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def find_pages() -> list[Path]:
    """Return every page, in both languages."""
    return sorted(DOCS.rglob("*.md"))


def english_of(page: Path) -> Path:
    """Return the English page of a Chinese one."""
    return page.with_name(page.stem.removesuffix(".zh") + ".md")


def find_blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, match.start()) + 1,
            language=match["language"],
            text=textwrap.dedent(match["text"]) if match["indent"] else match["text"],
        )
        for match in _BLOCK.finditer(text)
    ]


def find_files(page: Path) -> dict[str, str]:
    """Return the files that the blocks of a page stand for, by name."""
    return {block.name: block.text for block in find_blocks(page) if block.name}


def drop_blocks(text: str) -> str:
    """Return the text of a page without its blocks."""
    return _BLOCK.sub("", text)


def find_commands(text: str, program: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of a program in lines for a shell, the program left out."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.replace("`", "'"), comments=True)
        while program in words:
            words = words[words.index(program) + 1 :]
            yield list(_take_command(words))


def _take_command(words: list[str]) -> Iterator[str]:
    for word in words:
        if word in {"&&", "||", "|", ";", "&", ">", ">>", "2>&1"}:
            return
        yield word
        if word.endswith(";"):
            return
