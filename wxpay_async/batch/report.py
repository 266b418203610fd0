"""Show how a batch ended as one HTML page: in Chinese and English, without scripts or links out.

Needs the extra `report`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from wxpay_async.batch.private_files import report_write_error, write_in_one_piece
from wxpay_async.batch.report_chart import draw_chart
from wxpay_async.batch.report_texts import TEXTS, Language
from wxpay_async.batch.stamp import Stamp
from wxpay_async.batch.tally import LABELS, WELL, FailedLine, Reason, Tally, clean
from wxpay_async.errors import InvalidRequestError
from wxpay_async.extras import how_to_install
from wxpay_async.protocol.notify import CHINA

if TYPE_CHECKING:
    from jinja2 import Environment

_QUANTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))


def render_report(
    tally: Tally,
    *,
    stamp: Stamp,
    at: datetime,
    title: str | None = None,
    language: Language = "zh",
    zone: tzinfo = CHINA,
) -> str:
    """Return the page, complete in itself.

    Args:
        tally: how the lines ended.
        stamp: the stamp of the batch.
        at: when they were read.
        title: the page's title; the input's name when absent.
        language: which of the two is shown first; the reader switches on the page.
        zone: of all times; the platform's when absent.

    Raises:
        InvalidRequestError: the extra `report` is not installed.
    """
    first, second = ("zh", "en") if language == "zh" else ("en", "zh")

    def to_local(moment: datetime) -> str:
        return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}"

    sections = _list_sections(tally)
    page = _make_environment().get_template("report.html")
    return page.render(
        languages=(first, second),
        texts=TEXTS,
        title=clean(title or stamp.input),
        stamp=stamp,
        at=at,
        tally=tally,
        all_labels=LABELS,
        labels=[label for label in LABELS if tally.counts[label]],
        well=sum(tally.counts[label] for label in WELL),
        chart=draw_chart(tally.timeline, zone),
        latencies=[(name, tally.latencies.quantile(share)) for name, share in _QUANTILES],
        sections=sections,
        places={group.reason.label: s.name for s in reversed(sections) for group in s.groups},
        to_local=to_local,
        zone=f"{at.astimezone(zone):%Z}",
    )


def write_report(path: Path, page: str) -> None:
    """Write the page to a file that only its owner reads.

    Raises:
        InDoubtError: it cannot be written; what was done is done.
    """
    with report_write_error(path):
        write_in_one_piece(path, page)


@frozen(kw_only=True)
class Group:
    """The lines of one reason, as the page shows them.

    Attributes:
        reason: why.
        lines: those that are shown.
    """

    reason: Reason
    lines: Sequence[FailedLine]

    @property
    def text(self) -> str | None:
        """The text that all shown lines have in common; None if their texts differ."""
        texts = {line.text for line in self.lines}
        return texts.pop() if len(texts) == 1 else None

    @property
    def missing(self) -> int:
        """How many lines are not shown; the outcomes have them."""
        return self.reason.count - len(self.lines)


@frozen(kw_only=True)
class Section:
    """Groups under one heading, the largest first."""

    name: str
    groups: Sequence[Group]

    @property
    def count(self) -> int:
        """How many lines its groups have."""
        return sum(group.reason.count for group in self.groups)


def _list_sections(tally: Tally) -> list[Section]:
    """Return what went wrong; a section that has nothing to say is left out."""
    lines: dict[int, list[FailedLine]] = {}
    for line in tally.person_lines:
        lines.setdefault(id(line.reason), []).append(line)
    chosen = {
        "person": [reason for reason in tally.list_reasons() if reason.needs_person],
        "refused": tally.refusals,
        "not_sent": [r for r in tally.list_reasons("not_sent") if not r.needs_person],
    }
    return [
        Section(
            name=name,
            groups=[
                Group(reason=reason, lines=lines.get(id(reason), reason.examples))
                for reason in members
            ],
        )
        for name, members in chosen.items()
        if members
    ]


def _make_environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidRequestError(
            f"the HTML report needs Jinja2; install it with: {how_to_install('report')}"
        ) from error
    made = Environment(
        loader=PackageLoader("wxpay_async.batch"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["show"] = clean
    return made
