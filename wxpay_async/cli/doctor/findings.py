"""Results of checks: ok, a warning or a failure, with what to do, and the exit code.

No text of a finding holds a secret, a key or an address with a password.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from wxpay_async.cli.output import to_safe_text
from wxpay_async.language import Sentence, find_language

CONFIGURATION: Final = 2
UNREACHABLE: Final = 3
REFUSED: Final = 1
"""The exit codes of failures, as `EXIT_CODES` has them."""

Text = Sentence | str
"""What a line says, in both languages; a text alone is already in the right one."""

Facts = Mapping[str, object]
NO_FACTS: Final[Facts] = MappingProxyType({})

_FIRST_CAUSES: Final = (CONFIGURATION, UNREACHABLE, REFUSED)
"""Which one counts where several things failed: what has to be mended first."""


class Status(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Area(enum.StrEnum):
    """What is checked, in this order."""

    SETTINGS = "settings"
    KEYS = "keys"
    EXTRAS = "extras"
    NETWORK = "network"
    QUOTA = "quota"
    STORE = "store"
    CALL = "call"
    CLOCK = "clock"


@attrs.frozen(kw_only=True)
class Finding:
    """One line of the report.

    Attributes:
        area: what it belongs to.
        name: what was looked at.
        status: how it ended.
        text: what was found.
        advice: what to do; empty where there is nothing to do.
        exit_code: of a failure.
        facts: what programs may want beside the text.
    """

    area: Area
    name: str
    status: Status
    text: str
    advice: str = ""
    exit_code: int = 0
    facts: Facts = NO_FACTS

    def to_json(self) -> dict[str, object]:
        """Return it for JSON."""
        return {
            "area": self.area.value,
            "name": to_safe_text(self.name),
            "status": self.status.value,
            "text": to_safe_text(self.text),
            "advice": to_safe_text(self.advice),
            **self.facts,
        }


@attrs.frozen
class Scribe:
    """Writes the findings of one area, in the language of the environment."""

    area: Area

    def ok(self, name: str, text: Text, advice: Text = "", *, facts: Facts = NO_FACTS) -> Finding:
        """Write that something is as it should be."""
        return self._write(Status.OK, name, text, advice=advice, facts=facts)

    def warn(self, name: str, text: Text, advice: Text = "", *, facts: Facts = NO_FACTS) -> Finding:
        """Write that something works, or was not checked, and should be looked at."""
        return self._write(Status.WARNING, name, text, advice=advice, facts=facts)

    def fail(
        self,
        name: str,
        text: Text,
        advice: Text,
        *,
        exit_code: int = CONFIGURATION,
        facts: Facts = NO_FACTS,
    ) -> Finding:
        """Write that something does not work."""
        line = self._write(Status.FAILED, name, text, advice=advice, facts=facts)
        return attrs.evolve(line, exit_code=exit_code)

    def _write(
        self, status: Status, name: str, text: Text, *, advice: Text, facts: Facts
    ) -> Finding:
        return Finding(
            area=self.area,
            name=name,
            status=status,
            text=choose(text),
            advice=choose(advice),
            facts=facts,
        )


def choose(text: Text) -> str:
    """Return a text in the language of the environment."""
    return text if isinstance(text, str) else text.in_language(find_language(os.environ))


def has_failed(findings: Iterable[Finding]) -> bool:
    """Tell whether one of them is a failure."""
    return any(each.status is Status.FAILED for each in findings)


def choose_exit_code(findings: Sequence[Finding]) -> int:
    """Return the exit code of a report: that of the failure which has to be mended first."""
    codes = {each.exit_code for each in findings if each.status is Status.FAILED}
    return next((code for code in _FIRST_CAUSES if code in codes), 0)
