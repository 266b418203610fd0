"""Stamps: whether a run may go on with what an earlier one began."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.batch.outcome_files import DAY, STAMP, STAMP_LINE, mode_of, names_in, read, write
from tests.support.outcomes import NOON, ended
from wxpay_async.batch.stamp import Stamp, begin_outcomes, identify_store
from wxpay_async.errors import InvalidRequestError


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
