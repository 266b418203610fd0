"""Files of outcomes: what stands in them, who may read them, and when a run may go on."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
from hypothesis import given, strategies as st

from tests.batch.outcome_files import STAMP, STAMP_LINE, iterate, mode_of, names_in, read, write
from tests.support import asking
from tests.support.canaries import OPENID, PLANTED, PLANTED_TOKEN, find_leaks
from tests.support.outcomes import NOON, ended, prepaid, refunded, refusal
from wxpay_async.batch.outcome_file import (
    COLUMNS,
    Credentials,
    make_row,
    outcomes_path,
    to_cell,
    write_outcomes,
)
from wxpay_async.batch.tally import LineOutcome, Tally
from wxpay_async.errors import (
    InDoubtError,
    InvalidRequestError,
    NotSentTimeoutError,
    PrepayExpiredError,
    RefusedError,
)
from wxpay_async.protocol.requests import TradeQuery
from wxpay_async.protocol.results import TradeRef, TradeResult, TradeStatus


async def test_the_first_line_is_the_stamp_and_the_others_are_lines_in_order(
    tmp_path: Path,
) -> None:
    """Every field has its value, or null."""
    error = refusal(RefusedError, "GM_API_BUS_000009", "余额不足")
    error.attempts, error.replayed = 2, True
    refused = ended(2, error, settled=61.5)
    refused = attrs.evolve(refused, request=attrs.evolve(refused.request, generation=1))

    path = await write(tmp_path, ended(1, refunded(status="P")), refused, ended(3, None))

    nothing = dict.fromkeys(COLUMNS) | {"attempts": 0, "generation": 0, "replayed": False}
    assert [
        STAMP_LINE,
        nothing
        | {
            "line": 1,
            "requestId": "refund-1",
            "outTradeNo": "R-1",
            "tradeNo": "T-1",
            "outcome": "pending",
            "status": "P",
            "attempts": 1,
        },
        nothing
        | {
            "line": 2,
            "requestId": "refund-2",
            "outTradeNo": "R-2",
            "outcome": "refused",
            "code": "GM_API_BUS_000009",
            "message": "余额不足",
            "attempts": 2,
            "generation": 1,
            "replayed": True,
            "settledAt": "2026-11-27T04:01:01+00:00",
        },
        nothing | {"line": 3, "requestId": "refund-3", "outTradeNo": "R-3", "outcome": "open"},
    ] == read(path)


async def test_writing_returns_the_tally_and_leaves_one_file_for_its_owner(tmp_path: Path) -> None:
    """Nothing temporary stays, and no one else may read."""
    tally = await write_outcomes(
        tmp_path / "out.jsonl",
        iterate([ended(1, refunded()), ended(2, None)]),
        stamp=STAMP,
        begun_at=NOON,
    )

    assert isinstance(tally, Tally)
    assert {"ok": 1, "open": 1} == tally.counts
    assert {"out.jsonl"} == names_in(tmp_path)
    assert 0o600 == mode_of(tmp_path / "out.jsonl")


def test_rows_of_other_operations_name_what_the_platform_knows() -> None:
    """A trade by its first order; a query by what it found, with the platform's status."""
    trade = make_row(
        ended(
            1,
            TradeResult(
                pay_token=PLANTED_TOKEN,
                trade_res_list=(TradeRef(out_trade_no="O-1", trade_no="T-9", status="P"),),
            ),
            request=asking.trade(),
        ),
        begun_at=NOON,
    )
    query = make_row(
        ended(
            2,
            TradeStatus(out_trade_no="O-5", status="待付款", trade_no="T-5"),
            request=TradeQuery(trade_no="T-5"),
        ),
        begun_at=NOON,
    )

    assert ("trade-1", "O-1", "T-9") == (trade["requestId"], trade["outTradeNo"], trade["tradeNo"])
    assert (None, "O-5", "T-5", "待付款") == (
        query["requestId"],
        query["outTradeNo"],
        query["tradeNo"],
        query["status"],
    )


async def test_a_source_that_fails_leaves_the_former_file(tmp_path: Path) -> None:
    """Its own error is raised, also one that is an OSError as timeouts are."""
    path = await write(tmp_path, ended(1, refunded()), as_csv=True)
    before = path.read_bytes()

    async def fail() -> AsyncIterator[LineOutcome]:
        yield ended(9, None)
        raise NotSentTimeoutError("the store does not answer")

    with pytest.raises(NotSentTimeoutError):
        await write_outcomes(
            tmp_path / "out.jsonl", fail(), stamp=STAMP, begun_at=NOON, csv_path=path
        )

    assert before == path.read_bytes()
    assert 2 == len(read(tmp_path / "out.jsonl"))
    assert {"out.jsonl", "out.csv"} == names_in(tmp_path)


async def test_a_place_that_cannot_be_written_is_told_as_what_it_is(tmp_path: Path) -> None:
    """Afterwards everything has been done, and only the file is missing."""
    with pytest.raises(InDoubtError, match=r"out\.jsonl could not be written .*the store has"):
        await write_outcomes(tmp_path / "no" / "out.jsonl", iterate([]), stamp=STAMP, begun_at=NOON)
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(InDoubtError, match=r"out\.csv could not be written"):
        await write(tmp_path, ended(1, None), as_csv=True)


async def test_csv_has_the_same_rows_under_a_header(tmp_path: Path) -> None:
    """For Excel: a byte order mark, so that Chinese is read as it is; no stamp."""
    error = refusal(RefusedError, "C", '余额不足, "a"')
    path = await write(tmp_path, ended(1, refunded(replayed=True)), ended(2, error), as_csv=True)

    text = path.read_text("utf-8")
    assert "\ufeff" == text[0]
    first, second = csv.DictReader(io.StringIO(text[1:], newline=""))
    assert list(COLUMNS) == list(first)
    assert ("1", "true", "", "S") == (
        first["line"],
        first["replayed"],
        first["code"],
        first["status"],
    )
    assert '余额不足, "a"' == second["message"]
    assert 0o600 == mode_of(path)


async def test_csv_escapes_formulas_of_the_platform_and_of_the_merchant(tmp_path: Path) -> None:
    """Numbers of orders and messages are the words of others."""
    request = asking.refund("-1", out_trade_no="@SUM(A1)")
    error = refusal(RefusedError, "=1", "=HYPERLINK(0)")

    path = await write(tmp_path, ended(1, error, request=request), as_csv=True)

    [row] = csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline=""))
    assert ("'-1", "'@SUM(A1)", "'=1", "'=HYPERLINK(0)") == (
        row["requestId"],
        row["outTradeNo"],
        row["code"],
        row["message"],
    )


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_cell_is_a_formula_and_no_text_is_lost(text: str) -> None:
    """Whatever the text: it is read back as it was, behind an apostrophe where it needs one."""
    written = io.StringIO(newline="")
    csv.writer(written).writerow(["x", to_cell(text)])

    [[_, cell]] = csv.reader(io.StringIO(written.getvalue(), newline=""))

    assert cell in (text, f"'{text}")
    assert cell[:1] not in {*"=+-@\t\r\n＝＋－＠"} - {""}


@given(st.sampled_from("=+-@\t\r＝"), st.text(alphabet="=+-@ 1A'\"\t"))
def test_a_cell_that_begins_like_a_formula_gets_an_apostrophe(first: str, rest: str) -> None:
    """Others stay as they are."""
    assert f"'{first}{rest}" == to_cell(first + rest)
    assert f"1{rest}" == to_cell(f"1{rest}")


@pytest.mark.parametrize(
    ("value", "cell"), [(None, ""), (True, "true"), (False, "false"), (7, "7")]
)
def test_cells_of_other_values(value: object, cell: str) -> None:
    """As JSON has them, and nothing for null."""
    assert cell == to_cell(value)


async def test_no_byte_of_the_files_is_a_credential(tmp_path: Path) -> None:
    """Whatever operation and however it ends, and though the platform quotes what it was sent."""
    pay = asking.pay(pay_token=PLANTED_TOKEN, terminal_payer_id=OPENID, out_trade_no="O-1")
    trade = asking.trade(pay_method=asking.method(open_id=OPENID))
    quotes = {pay: f"bad payToken {PLANTED_TOKEN} of {OPENID}", trade: f"bad openid {OPENID}"}
    outcomes = [
        ended(number, end, request=request, settled=1)
        for request, quote in quotes.items()
        for number, end in enumerate(
            [
                prepaid(),
                TradeResult(pay_token=PLANTED_TOKEN, raw={"payToken": PLANTED_TOKEN}),
                refusal(RefusedError, "C", quote),
                refusal(InDoubtError, None, quote),
                InDoubtError(quote),
                PrepayExpiredError("too old"),
                None,
            ]
        )
    ]

    await write(tmp_path, *outcomes, as_csv=True)

    files = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    assert {"out.jsonl", "out.csv"} == set(files)
    assert len(outcomes) + 1 == len(read(tmp_path / "out.jsonl"))
    assert [] == find_leaks(files, PLANTED)


def test_credentials_hold_payments_as_they_come(tmp_path: Path) -> None:
    """Each line is there before the next; other outcomes have none."""
    path = tmp_path / "credentials.jsonl"
    pay = asking.pay(out_trade_no="O-1")
    with Credentials(path) as credentials:
        for number, end in enumerate([prepaid(), PrepayExpiredError("old"), refunded(), None]):
            credentials.add(ended(number, end, request=pay if number < 2 else None))
        assert [
            {
                "line": 0,
                "requestId": "pay-1",
                "outTradeNo": "O-1",
                "jsapi": prepaid().jsapi_params(),
                "expiresAt": "2026-11-27T04:20:00+00:00",
            }
        ] == read(path)
        credentials.add(ended(7, prepaid(signed_at=None), request=pay))
    assert [0, 7] == [row["line"] for row in read(path)]
    assert read(path)[1]["expiresAt"] is None
    assert 0o600 == mode_of(path)


def test_credentials_of_a_run_that_was_killed_are_kept(tmp_path: Path) -> None:
    """A line that is cut short is ended, so that the next one is whole; others lose access."""
    path = tmp_path / "credentials.jsonl"
    path.write_text('{"line": 1}\n{"line": 2, "reque')
    path.chmod(0o644)

    with Credentials(path) as credentials:
        credentials.add(ended(3, prepaid(), request=asking.pay()))

    first, second, third = path.read_text("utf-8").splitlines()
    assert ('{"line": 1}', '{"line": 2, "reque') == (first, second)
    assert 3 == json.loads(third)["line"]
    assert 0o600 == mode_of(path)


def test_credentials_go_into_no_link_pipe_or_folder(tmp_path: Path) -> None:
    """A link could lead to a file that others read; a pipe is no file of its owner."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for path in (tmp_path, tmp_path / "link", Path(os.devnull)):
        with pytest.raises(InvalidRequestError, match="a new file"), Credentials(path):
            pass
    assert not (tmp_path / "target").exists()


def test_outcomes_stand_beside_their_file() -> None:
    """The name tells whose they are."""
    assert Path("/a/refunds.csv.outcomes.jsonl") == outcomes_path(Path("/a/refunds.csv"))
    assert Path("/a/refunds.csv.outcomes.csv") == outcomes_path(Path("/a/refunds.csv"), "csv")


def test_rows_have_exactly_the_columns() -> None:
    """JSON and CSV say the same."""
    assert COLUMNS == tuple(make_row(ended(1, None), begun_at=NOON))
