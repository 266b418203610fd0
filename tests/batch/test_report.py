"""The page that shows how a batch ended."""

from __future__ import annotations

import re
import sys
from datetime import UTC, timedelta, tzinfo
from html.parser import HTMLParser
from pathlib import Path

import attrs
import pytest
from attrs import define, field

from tests.support import asking
from tests.support.canaries import OPENID, PLANTED, PLANTED_TOKEN, find_leaks
from tests.support.outcomes import NOON, ended, prepaid, refunded, refusal
from wxpay_async import errors
from wxpay_async.batch.report import render_report, write_report
from wxpay_async.batch.report_texts import (
    ENGLISH,
    TEXTS,
    Language,
)
from wxpay_async.batch.stamp import Stamp
from wxpay_async.batch.tally import PERSON_LINES_KEPT, Tally
from wxpay_async.errors import (
    IdempotencyConflictError,
    InDoubtError,
    InvalidRequestError,
    NotSentError,
    PlatformConflictError,
    RefusedError,
)
from wxpay_async.extras import how_to_install
from wxpay_async.protocol.notify import CHINA

STAMP = Stamp(
    store="postgresql://db:5432/pay",
    app_key="app-1",
    operation="refund",
    input="refunds.jsonl",
    begun_at=NOON,
)
VOID = {"meta", "input", "line", "rect"}
ACTIVE = {"script", "img", "link", "iframe", "object", "embed", "form", "video", "audio", "base"}


@define
class Page(HTMLParser):
    """A page as a browser reads it, one language at a time.

    Attributes:
        texts: what is shown, by language.
        tags: every tag and its attributes.
        stack: the tags that are open.
        language: which language is being read.
    """

    texts: dict[str, str] = field(factory=dict)
    tags: list[tuple[str, dict[str, str | None]]] = field(factory=list)
    stack: list[str] = field(factory=list)
    language: str = ""

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag == "main":
            self.language = dict(attrs)["lang"] or ""
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close a tag."""
        assert tag == self.stack.pop()
        self.language = "" if tag == "main" else self.language

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag without an end."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Add a text."""
        if self.language:
            self.texts[self.language] = f"{self.texts.get(self.language, '')} {data}"

    def find(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every such tag."""
        return [values for name, values in self.tags if name == tag]

    def text(self, language: str = "en") -> str:
        """Return what is shown in a language, on one line."""
        return " ".join(self.texts[language].split())


def render(
    tally: Tally, *, stamp: Stamp = STAMP, language: Language = "zh", zone: tzinfo = CHINA
) -> Page:
    """Render a page and read it as a browser would."""
    page = Page()
    page.feed(render_text(tally, stamp=stamp, language=language, zone=zone))
    page.close()
    assert [] == page.stack
    return page


def render_text(
    tally: Tally, *, stamp: Stamp = STAMP, language: Language = "zh", zone: tzinfo = CHINA
) -> str:
    """Render a page."""
    at = NOON + timedelta(hours=1)
    return render_report(tally, stamp=stamp, at=at, language=language, zone=zone)


def tally_of(*ends: object, settled: float | None = 0.0) -> Tally:
    """Count refunds that ended so, a line each."""
    tally = Tally()
    for number, end in enumerate(ends, start=1):
        tally.add(ended(number, end, settled=settled))
    return tally


def test_page_says_in_both_languages_how_the_lines_ended() -> None:
    """Numbers, words, and whose lines they are; times are the platform's."""
    page = render(tally_of(*[refunded()] * 1200, RefusedError("no", code="C"), None))

    english, chinese = page.text("en"), page.text("zh-Hans")
    assert "1,200 of 1,202 lines ended well." in english
    assert "1,202 行中有 1,200 行顺利结束。" in chinese
    for text in (english, chinese):
        assert "refunds.jsonl" in text
        assert "app-1" in text
        assert "postgresql://db:5432/pay" in text
        assert "2026-11-27 12:00" in text
        assert "2026-11-27 13:00" in text
        assert "UTC+08:00" in text


def test_page_of_a_batch_that_ended_well_has_nothing_that_went_wrong() -> None:
    """No empty tables, and no advice."""
    page = render(tally_of(refunded(), refunded(status="P"), errors.PrepayExpiredError("old")))

    assert "All 3 lines ended well." in page.text()
    assert [] == page.find("section")
    assert ENGLISH.words["same"] not in page.text()


def test_payments_that_are_paid_already_ended_well_under_a_word_of_their_own() -> None:
    """In both languages, with what it means; they are no doubts."""
    page = render(tally_of(refunded(), errors.AlreadyPaidError("the order is paid")))

    assert "All 2 lines ended well." in page.text("en")
    assert ENGLISH.notes["already_paid"] in page.text("en")
    assert "订单已支付" in page.text("zh-Hans")
    assert [] == page.find("section")


def test_page_of_no_line_says_so() -> None:
    """An empty tally is no success."""
    text = render(Tally()).text()

    assert "No line was counted." in text
    assert ENGLISH.words["no_time"] in text
    assert ENGLISH.words["latency"] not in text


def test_refusals_stand_by_code_with_what_it_means_and_what_to_do() -> None:
    """With the first lines, and how many more there are."""
    broke = refusal(RefusedError, "CO_MSG_000001", "参数错误")
    page = render(tally_of(*[broke] * 8))

    english, chinese = page.text("en"), page.text("zh-Hans")
    assert "CO_MSG_000001 malformed parameters 8 lines 参数错误 What to do Read code and" in english
    assert "1 refund-1 R-1 2 refund-2 R-2" in english
    assert "And 3 lines more: see the outcomes file." in english
    assert "CO_MSG_000001 参数格式有误 8 行 参数错误 怎么做 看 code 和 message 。" in chinese
    assert "另有 3 行，见结果文件。" in chinese


def test_different_words_under_one_code_stand_at_their_lines() -> None:
    """The same words stand once."""
    ends = [refusal(RefusedError, "C", f"余额 {number}") for number in (1, 2)]

    text = render(tally_of(*ends)).text()

    assert "Message 1 refund-1 R-1 余额 1 2 refund-2 R-2 余额 2" in text


def test_what_needs_a_person_comes_first_and_is_bounded() -> None:
    """Doubts and conflicts; what is not listed is counted."""
    doubts = [InDoubtError("24 h passed without proof", retryable=False)] * (PERSON_LINES_KEPT + 7)
    conflict = PlatformConflictError("other content")
    wrong = IdempotencyConflictError("other content", fields=["refundAmount"])
    ends = [*doubts, conflict, wrong, RefusedError("no"), NotSentError("down")]

    page = render(tally_of(*ends))

    text = page.text()
    headings = ["Needs a person 209 lines", "Refused 1 line", "Not sent 1 line"]
    assert headings == [h for h in headings if h in text]
    assert sorted(map(text.index, headings)) == list(map(text.index, headings))
    assert f"refund-{PERSON_LINES_KEPT} " in text
    assert f"refund-{PERSON_LINES_KEPT + 1} " not in text
    assert "And 7 lines more" in text
    assert "PlatformConflictError 1 line other content" in text
    assert "Let a person look; never use a new requestId before." in text
    assert "IdempotencyConflictError 1 line" in text


def test_links_of_the_page_lead_to_its_own_sections() -> None:
    """In each language to that language's."""
    page = render(tally_of(InDoubtError("?"), RefusedError("no"), NotSentError("down"), None))

    ids = [str(values["id"]) for _, values in page.tags if "id" in values]
    assert len(ids) == len(set(ids))
    links = {str(values["href"]).removeprefix("#") for values in page.find("a")}
    assert {
        f"{language}-{name}" for language in TEXTS for name in ("person", "refused", "not_sent")
    } == links
    assert links <= set(ids)


def test_page_needs_no_script_and_nothing_from_elsewhere() -> None:
    """Everything is in the page, and its own policy forbids the rest."""
    text = render_text(tally_of(refunded(), InDoubtError("no answer"), RefusedError("no")))
    page = Page()
    page.feed(text)

    assert not ACTIVE & {tag for tag, _ in page.tags}
    named = {name for _, values in page.tags for name in values}
    assert not named & {"src", "srcset", "action", "data", "poster", "xlink:href"}
    assert not {name for name in named if name.startswith("on")}
    assert all(str(values["href"]).startswith("#") for values in page.find("a"))
    assert not re.search(r"@import|url\(|https?:", text)
    [policy] = [values for values in page.find("meta") if "http-equiv" in values]
    assert "default-src 'none'" in str(policy["content"])


@pytest.mark.parametrize("language", ["zh", "en"])
def test_page_opens_in_the_language_that_was_asked_for(language: Language) -> None:
    """The other one is a click away, which is a radio button."""
    page = render(tally_of(refunded()), language=language)

    first, second = page.find("input")
    assert f"choose-{language}" == first["id"]
    assert "checked" in first
    assert "checked" not in second
    assert {first["id"], second["id"]} == {values["for"] for values in page.find("label")}
    assert TEXTS[language].tag == page.find("html")[0]["lang"]


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}\u202e"


def test_words_of_others_stay_words() -> None:
    """The platform's messages and codes, the file's name, the title: no markup, no template."""
    stamp = attrs.evolve(STAMP, input=HOSTILE, app_key=HOSTILE, store=HOSTILE)
    error = refusal(RefusedError, HOSTILE, HOSTILE)

    page = render(tally_of(error), stamp=stamp)

    assert not ACTIVE & {tag for tag, _ in page.tags}
    shown = HOSTILE.replace("\u202e", "\ufffd")
    assert 4 <= page.text().count(shown[:25])
    assert shown in page.text()
    assert "49" not in page.text()


def test_no_byte_of_the_page_is_a_credential(tmp_path: Path) -> None:
    """However the lines end, and though the platform quotes what it was sent."""
    request = asking.pay(pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID, out_trade_no="O-1")
    quote = f"bad payToken {PLANTED_TOKEN} of {OPENID}"
    tally = Tally()
    for end in (
        prepaid(),
        refusal(RefusedError, "C", quote),
        InDoubtError(quote),
        NotSentError(quote, retryable=False),
    ):
        tally.add(ended(1, end, request=request, settled=0))

    path = tmp_path / "report.html"
    write_report(path, render_text(tally))

    assert "bad payToken *** of ***" in path.read_text("utf-8")
    assert [] == find_leaks({"page": path.read_bytes()}, PLANTED)
    assert 0o600 == path.stat().st_mode & 0o777


def test_a_page_that_cannot_be_written_is_in_doubt_about_nothing_else(tmp_path: Path) -> None:
    """The batch is done; only its page is missing."""
    with pytest.raises(InDoubtError, match="could not be written"):
        write_report(tmp_path / "no" / "report.html", "page")


def test_without_jinja_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is optional."""
    monkeypatch.setitem(sys.modules, "jinja2", None)

    with pytest.raises(InvalidRequestError, match=re.escape(how_to_install("report"))):
        render_text(Tally())


def test_bars_show_every_label_and_every_outcome() -> None:
    """As rectangles, with their numbers as titles; what has no time is told."""
    tally = Tally()
    for number, (end, settled) in enumerate(
        [(refunded(), 0.0), (RefusedError("no"), 1.0), (refunded(), 125.0), (refunded(), None)]
    ):
        tally.add(ended(number, end, settled=settled))

    page = render(tally)

    rects = page.find("rect")
    assert ["ok", "refused", "ok"] == [rect["class"] for rect in rects[: len(rects) // 2]]
    assert "2026-11-27 12:00 · Done 1 · Refused 1" in page.text()
    assert "A bar is 1 min; the highest is 2 lines." in page.text()
    assert "Without a time: 1 line." in page.text()


def test_times_are_shown_in_the_zone_that_was_asked_for() -> None:
    """The platform's, unless another is named."""
    assert "12:00" in render(tally_of(refunded()), zone=CHINA).text()
    page = render(tally_of(refunded()), zone=UTC).text()
    assert "2026-11-27 04:00" in page
    assert "12:00" not in page
