"""The sandbox's Dockerfile: its instructions, what it copies, the options that it gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from typer.testing import CliRunner

from wxpay_async.cli.commands_local import app

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "examples" / "sandbox.Dockerfile"
INSTRUCTIONS: Final = {
    *("FROM", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "ENV", "EXPOSE", "HEALTHCHECK"),
    *("ENTRYPOINT", "CMD"),
}


def read_instructions() -> list[tuple[str, str]]:
    """Return each instruction with its arguments; lines that go on are joined."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line.strip()]


def find_all(name: str) -> list[str]:
    """Return the arguments of each instruction of a name."""
    return [arguments for found, arguments in read_instructions() if found == name]


def test_file_has_known_instructions_only() -> None:
    """And begins with its base; it does not run as root."""
    names = [name for name, _ in read_instructions()]
    assert set(names) <= INSTRUCTIONS
    assert names[0] == "FROM"
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert [name for name in names if name in ("ENTRYPOINT", "CMD")] == ["ENTRYPOINT", "CMD"]


def test_file_copies_what_is_there() -> None:
    """From the root of the repository."""
    for arguments in find_all("COPY"):
        *sources, _ = arguments.split()
        assert all((ROOT / source).exists() for source in sources), arguments


def test_file_gives_options_that_the_command_has() -> None:
    """As lists of words, so that signals reach the sandbox and not a shell."""
    words: list[str] = json.loads(find_all("ENTRYPOINT")[0]) + json.loads(find_all("CMD")[0])
    assert words[:2] == ["wxpay-async", "sandbox"]
    shown = CliRunner().invoke(app, ["sandbox", "--help"], env={"COLUMNS": "200"}).output
    for word in words:
        assert not word.startswith("--") or word in shown
    assert find_all("ENV") == ["PORT=8080"]
