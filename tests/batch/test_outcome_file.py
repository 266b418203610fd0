"""Files of outcomes: what stands in them, who may read them, and when a run may go on."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st

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
from wxpay_async.batch.stamp import Stamp, begin_outcomes, identify_store
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

DAY = 24 * 3600.0
STAMP = Stamp(
    store="postgresql://db:5432/pay",
    app_key="app-1",
    operation="refund",
    input="退款.jsonl",
    begun_at=NOON,
)
STAMP_LINE = {
    "version": 1,
    "store": "postgresql://db:5432/pay",
    "appKey": "app-1",
    "operation": "refund",
    "input": "退款.jsonl",
    "begunAt": "2026-11-27T04:00:00+00:00",
}


async def iterate(outcomes: Iterable[LineOutcome]) -> AsyncIterator[LineOutcome]:
    """Yield outcomes as a store would."""
    for outcome in outcomes:
        yield outcome


async def write(folder: Path, *outcomes: LineOutcome, as_csv: bool = False) -> Path:
    """Write outcomes; return the file."""
    path, table = folder / "out.jsonl", folder / "out.csv"
    await write_outcomes(
        path,
        iterate(outcomes),
        stamp=STAMP,
        begun_at=NOON + timedelta(days=1),
        csv_path=table if as_csv else None,
    )
    return table if as_csv else path


def read(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def mode_of(path: Path) -> int:
    """Return who may do what with a file."""
    return path.stat().st_mode & 0o777


def names_in(folder: Path) -> set[str]:
    """Return the names of the files in a folder, hidden ones too."""
    return {path.name for path in folder.iterdir()}


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


async def test_stamp_is_read_from_what_was_written(tmp_path: Path) -> None:
    """Also one whose input has a name that is no UTF-8."""
    assert STAMP == Stamp.read(await write(tmp_path, ended(1, None)))
    strange = attrs.evolve(STAMP, input="a\udcff.jsonl")
    assert strange == begin_outcomes(tmp_path / "new.jsonl", strange, retention=30 * DAY)
    assert strange == Stamp.read(tmp_path / "new.jsonl")


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"3",
        b"[" * 9000,
        json.dumps({**STAMP_LINE, "version": 2}).encode(),
        json.dumps({**STAMP_LINE, "store": 7}).encode(),
        json.dumps({**STAMP_LINE, "operation": "steal"}).encode(),
        json.dumps({**STAMP_LINE, "begunAt": "2026-11-27T04:00:00"}).encode(),
        json.dumps({**STAMP_LINE, "begunAt": "yesterday"}).encode(),
        json.dumps({"line": 1, "requestId": "refund-1"}).encode(),
    ],
)
def test_a_file_without_a_stamp_is_refused_by_name(tmp_path: Path, first: bytes) -> None:
    """It may be somebody's own file, which must not be replaced."""
    path = tmp_path / "orders.jsonl"
    path.write_bytes(first)

    with pytest.raises(
        InvalidRequestError, match=r"orders\.jsonl: its first line is not the stamp"
    ):
        begin_outcomes(path, STAMP, retention=30 * DAY)
    assert first == path.read_bytes()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A folder, or a link that leads nowhere."""
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(InvalidRequestError, match="cannot be read"):
            begin_outcomes(path, STAMP, retention=30 * DAY)


def test_begin_stamps_the_file_before_anything_is_sent(tmp_path: Path) -> None:
    """A later run keeps the first one's stamp, for its age is what counts."""
    path = tmp_path / "out.jsonl"
    later = attrs.evolve(STAMP, begun_at=NOON + timedelta(days=28), input="renamed.jsonl")

    assert STAMP == begin_outcomes(path, STAMP, retention=30 * DAY)
    assert [STAMP_LINE] == read(path)
    assert 0o600 == mode_of(path)
    (tmp_path / ".out.jsonl.abcdefgh.part").touch()  # of a run that was killed
    assert STAMP == begin_outcomes(path, later, retention=30 * DAY)
    assert {"out.jsonl"} == names_in(tmp_path)


def test_begin_where_nothing_can_be_written_sends_nothing(tmp_path: Path) -> None:
    """Bad input, as the caller's place is."""
    with pytest.raises(InvalidRequestError, match="cannot be written"):
        begin_outcomes(tmp_path / "no" / "out.jsonl", STAMP, retention=30 * DAY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"store": "sqlite:////tmp/wxpay.db"}, r"store postgresql://db:5432/pay.*wxpay\.db.*away"),
        ({"app_key": "app-2"}, r"appKey app-1, and this run has app-2"),
        ({"operation": "pay"}, r"operation refund, and this run has pay"),
        (
            {"begun_at": NOON + timedelta(days=29, seconds=1)},
            r"began 29 days ago, at 2026-11-27T04:.* after 30 days.*a new file with the lines",
        ),
    ],
)
def test_check_refuses_what_could_send_lines_twice_and_says_what_to_do(
    change: dict[str, Any], words: str
) -> None:
    """Another store does not know what was executed; nor does the same one after its retention."""
    with pytest.raises(InvalidRequestError, match=words):
        STAMP.check(Path("out.jsonl"), attrs.evolve(STAMP, **change), retention=30 * DAY)


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=29), timedelta(days=-1)])
def test_check_lets_a_run_go_on_until_a_day_before_the_store_forgets(age: timedelta) -> None:
    """A clock that was set back harms nobody; a store that never forgets has no limit."""
    later = attrs.evolve(STAMP, begun_at=NOON + age)

    STAMP.check(Path("out.jsonl"), later, retention=30 * DAY)
    STAMP.check(Path("out.jsonl"), later, retention=float("inf"))


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("sqlite:////data/a@b.db", "sqlite:////data/a@b.db"),
        ("postgresql://u:pa/ss?w@DB/pay?sslmode=require", "postgresql://db:/pay"),
        ("postgresql+psycopg://u:hunter2@db:5432/pay", "postgresql://db:5432/pay"),
        ("redis://:hunter2@r:6380/2", "redis://r:6380/2"),
        ("redis://r?db=3", "redis://r:6379/3"),
        ("redis://r", "redis://r:6379/0"),
        ("unix://:hunter2@/run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis+sentinel://:p@a,b:1/main/2", "redis+sentinel://a:26379,b:1/main/2"),
        ("redis+cluster://a:1,b:2", "redis+cluster://a:1,b:2/0"),
    ],
)
def test_identity_of_a_store_is_its_address_without_login_and_options(
    url: str, identity: str
) -> None:
    """Two runs that name it by other options, or another driver, mean the same store."""
    assert identity == identify_store(url)


def test_identity_of_a_sqlite_file_is_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same relative name elsewhere is another file."""
    monkeypatch.chdir(tmp_path)
    assert f"sqlite:///{tmp_path}/wxpay.db" == identify_store("sqlite:///wxpay.db")


@pytest.mark.parametrize("url", ["hunter2", "redis://:hunter2@", "postgresql://u:hunter2@h:x/d"])
def test_what_is_no_address_is_refused_without_being_repeated(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(InvalidRequestError) as caught:
        identify_store(url)
    assert "hunter2" not in str(caught.value)


def test_rows_have_exactly_the_columns() -> None:
    """JSON and CSV say the same."""
    assert COLUMNS == tuple(make_row(ended(1, None), begun_at=NOON))
