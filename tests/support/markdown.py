"""Read the code blocks of pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
CHINESE: Final = ROOT / "README.zh-CN.md"

_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME: Final = re.compile(r"# (\w+\.py)\n")


def find_blocks(file: Path) -> list[tuple[str, str]]:
    """Return language and text of each code block of a page."""
    return _BLOCK.findall(file.read_text(encoding="utf-8"))


def find_files(file: Path) -> dict[str, str]:
    """Return the Python files of a page by the name in their first line, and `refunds.csv`."""
    files: dict[str, str] = {}
    for language, text in find_blocks(file):
        if language == "csv":
            files["refunds.csv"] = text
        elif language == "python":
            name = _NAME.match(text)
            assert name is not None, f"{file.name}: a block of Python begins with its file's name"
            files[name[1]] = text
    return files


def drop_blocks(text: str) -> str:
    """Return the text of a page without its code blocks."""
    return _BLOCK.sub("", text)
