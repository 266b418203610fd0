"""Requests of a batch from CSV: what spreadsheets write, and how a fault is named."""

from pathlib import Path

import pytest

from tests.batch.lines_files import HEADER, read, read_fault, write
from tests.protocol.samples import OPENID, TOKEN
from wxpay_async.batch.line import Line
from wxpay_async.batch.lines import read_lines
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.requests import MiniProgramPay, Refund, TradeQuery

REFUND = Refund(request_id="r-1", out_trade_no="R1", orig_out_trade_no="O1", refund_amount="12.50")
ROW = "r-1,R1,O1,12.50"
ALLOWED = "allowed: requestId, outTradeNo, origOutTradeNo, refundAmount, currency"


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n{ROW}",
        f"\ufeff{HEADER}\r\n{ROW}\r\n",
        f'\ufeff"requestId",{HEADER[10:]}\r\n"r-1","R1",O1,"12.50"\r\n',
        f"{HEADER},currency\n{ROW},\n",
        f"{HEADER}\r\n{ROW}\r",
        "refund_amount,orig_out_trade_no,out_trade_no,request_id\n12.5,O1,R1,r-1\n",
    ],
)
def test_csv_is_read_as_spreadsheets_write_it(tmp_path: Path, text: str) -> None:
    """Columns stand in any order, and an empty cell is an absent value."""
    assert [Line(number=2, request=REFUND)] == read(write(tmp_path, text))


def test_blank_lines_and_lines_of_empty_cells_are_skipped(tmp_path: Path) -> None:
    """A spreadsheet writes the latter below the last row; both are counted."""
    text = f"\n{HEADER}\n\n,,,\n{ROW}\n,,,\n"
    assert [Line(number=5, request=REFUND)] == read(write(tmp_path, text))


def test_quotes_and_commas_within_cells_are_read(tmp_path: Path) -> None:
    """As the rules of CSV say."""
    (line,) = read(write(tmp_path, f'{HEADER}\nr-1,"R,""1""",O1,12.50\n'))
    assert isinstance(line.request, Refund)
    assert 'R,"1"' == line.request.out_trade_no


def test_number_that_only_looks_shortened_is_read(tmp_path: Path) -> None:
    """Merchants number their orders as they like."""
    (line,) = read(write(tmp_path, f"{HEADER}\nr-1,RE+17,2E+17-1,1\n"))
    assert isinstance(line.request, Refund)
    assert ("RE+17", "2E+17-1") == (line.request.out_trade_no, line.request.orig_out_trade_no)


def test_request_id_may_have_no_column_or_an_empty_cell(tmp_path: Path) -> None:
    """Both derive it, to the same."""
    without = read(write(tmp_path, "outTradeNo,origOutTradeNo,refundAmount\nR1,O1,1\n"))
    empty = read(write(tmp_path, f"{HEADER}\n,R1,O1,1\n"))
    assert without == empty
    assert "R1" == without[0].key


def test_pay_and_query_are_read_from_csv_too(tmp_path: Path) -> None:
    """Whatever has no objects within objects."""
    paid = write(tmp_path, f"requestId,payToken,terminalPayerId\nr-1,{TOKEN},{OPENID}\n")
    expected = MiniProgramPay(request_id="r-1", pay_token=TOKEN, terminal_payer_id=OPENID)
    assert expected == read(paid, "pay")[0].request
    asked = write(tmp_path, "tradeNo,outTradeNo\n,T1\nP1,\n")
    expected_queries = [TradeQuery(out_trade_no="T1"), TradeQuery(trade_no="P1")]
    assert expected_queries == [line.request for line in read(asked, "query")]


def test_file_without_ending_is_csv_where_it_does_not_begin_with_a_brace(tmp_path: Path) -> None:
    """As a download without a name."""
    path = write(tmp_path, f"{HEADER}\n{ROW}\n", name="refunds")
    assert REFUND == read(path)[0].request


def test_trades_are_refused_and_told_where_they_go(tmp_path: Path) -> None:
    """At once by the ending, else when the file is read."""
    for name in ("trades.csv", "TRADES.CSV"):
        with pytest.raises(InvalidRequestError, match="JSON Lines for trade"):
            read_lines(tmp_path / name, "trade")
    path = write(tmp_path, "requestId,tradeInfo\n", name="trades.txt")
    assert "allowed: JSON Lines for trade" in read_fault(path, "trade")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (f"{HEADER},memo", f"'memo' is an unknown name; {ALLOWED}"),
        (f"{HEADER},", f"'' is an unknown name; {ALLOWED}"),
        (f"{HEADER},{'x' * 300}", f"'{'x' * 40}' is an unknown name; {ALLOWED}"),
        (f"{HEADER},refundAmount", "refundAmount: stands twice; allowed: once"),
        (f"{HEADER},refund_amount", "refundAmount: stands twice (refundAmount, refund_amount)"),
        (f"{HEADER},royaltyInfo", f"royaltyInfo: no cell can hold it; write JSON Lines; {ALLOWED}"),
        ("requestId,outTradeNo,refundAmount", "origOutTradeNo: the column is missing; allowed: "),
        ("origOutTradeNo,refundAmount", "outTradeNo: the column is missing; allowed: "),
        ("requestId,origOutTradeNo,refundAmount", "outTradeNo: the column is missing; allowed: "),
        (HEADER.replace(",", ";"), f"the columns are not separated by commas; {ALLOWED}"),
        (HEADER.replace(",", "\t"), f"the columns are not separated by commas; {ALLOWED}"),
        ("r-1,R1,O1,12.50", f"none of the names is known; {ALLOWED}"),
        (f'{HEADER},"currency', "no CSV (a quote is not closed before the line ends)"),
    ],
)
def test_fault_of_the_header_is_named_and_nothing_is_read(
    tmp_path: Path, header: str, said: str
) -> None:
    """Without the header, no line below it means anything."""
    path = write(tmp_path, f"\n{header}\n{ROW}\n{ROW}\n")
    assert f"{path}, line 2: {said}" in read_fault(path)
    checked = read_lines(path, "refund").check("app-1")
    assert (0, 1, 0) == (checked.lines, len(checked.faults), checked.more)


def test_pay_without_request_id_needs_the_order(tmp_path: Path) -> None:
    """Its outTradeNo is optional only beside a requestId."""
    text = read_fault(write(tmp_path, "payToken,terminalPayerId\na,b\n"), "pay")
    assert "line 1: outTradeNo: the column is missing" in text


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("r-1,R1,O1", "3 cells; allowed: 4, as in the header"),
        ("r-1,R1,O1,1,000.00", "5 cells; allowed: 4, as in the header"),
        ('r-1,R1,O1,"1,000.00"', "refundAmount: '1,000.00' is no amount"),
        ("r-1,R1,O1,1e2", "refundAmount: '1e2' is no amount"),
        ("r-1,R1,O1,1E+2", "refundAmount: '1E+2' is no amount"),
        ("r-1,R1,O1,￥12.50", "refundAmount: '￥12.50' is no amount"),
        ("r-1,R1,O1, 12.50", "refundAmount: ' 12.50' is no amount"),
        ("r-1,R1,O1,", "refundAmount: missing"),
        ("r-1,,O1,12.50", "outTradeNo: missing"),
        (",,O1,12.50", "requestId: missing, and so is the outTradeNo"),
        ("r-1,2.01911E+17,O1,12.50", "outTradeNo: a spreadsheet has shortened this number"),
        ('r-1,R1,"O1,12.50', "no CSV (a quote is not closed before the line ends)"),
        ('r-1,R1,"O"1,12.50', "no CSV ("),
        (f'r-1,"R1",O1,{"1" * 200_000}', "no CSV ("),
    ],
)
def test_fault_of_a_cell_is_named(tmp_path: Path, row: str, said: str) -> None:
    """The lines before and after it are read as they are."""
    path = write(tmp_path, f"{HEADER}\n{ROW}\n{row}\nr-2,R2,O2,1\n")
    assert f"{path}, line 3: {said}" in read_fault(path)
    checked = read_lines(path, "refund").check("app-1")
    assert (3, 1, 0) == (checked.lines, len(checked.faults), checked.more)
