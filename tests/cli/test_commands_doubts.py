"""The commands about what is open: what they list, and what a person's verdict does."""

from __future__ import annotations

import asyncio
import json
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import PROGRAM, Run
from tests.contract.stores import Place, open_place
from tests.support.records import make_record
from tests.support.vectors import ROOT
from wxpay_async.adapters.stores.sealed import seal_store
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.cli.doubts_screen import MEANINGS
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import REVIEW, State
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.sandbox import Sandbox

VERDICT = ("--by", "小王", "--why", "case 4711")


def make_open(request_id: str, app_key: str, state: State, **changes: Any) -> IdempotencyRecord:  # noqa: ANN401 - fields of a record
    """Make the record of a refund that is in this state for three hours."""
    began = time.time() - 3 * 3600
    fields: dict[str, Any] = {
        "operation": "refund",
        "out_trade_no": f"no-{request_id}",
        "state": state,
        "attempts": 2,
        "checks": 5,
        "signed_at": int(began * 1000),
        "doubt_since": began,
        "next_check_at": None if state in REVIEW else time.time() + 600,
        "updated_at": began,
        "created_at": began,
    }
    return make_record(request_id, app_key=app_key, **fields | changes)


@pytest.fixture
def store_url(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point the commands at a store where a refund is in doubt, and one waits for a person."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    monkeypatch.setenv("WXPAY_STORE_URL", url)
    records = [
        make_open("doubt", sandbox.app_key, State.UNKNOWN),
        make_open("person", sandbox.app_key, State.NEEDS_REVIEW),
        make_open("ended", sandbox.app_key, State.SUCCEEDED),
        make_open("fresh", sandbox.app_key, State.PENDING, doubt_since=time.time() - 60),
        make_open("order", sandbox.app_key, State.UNKNOWN, operation="trade"),
    ]
    fill(url, records)
    return url


def fill(url: str, records: list[IdempotencyRecord], *, secret: str = "any") -> None:
    """Write records into a store, sealed by this secret."""

    async def write() -> None:
        store = seal_store(SqlStore(url), Md5Signer(secret), None)
        await asyncio.gather(*map(store.reserve, records))
        await store.aclose()

    asyncio.run(write())


def list_ids(text: str) -> list[str]:
    """Return the requestIds of a list in JSON."""
    return [json.loads(line)["requestId"] for line in text.splitlines()]


# Looking


def test_list_shows_what_is_open_and_says_so_by_its_exit_code(run: Run, store_url: str) -> None:
    """As a table for people: the order, for how long, how often it was sent and asked for."""
    del store_url
    listed = run("doubts", "list")

    assert 4 == listed.code
    assert "open: 4\n" == listed.err
    rows = [line.split() for line in listed.out.splitlines()]
    assert ["doubt", "refund", "3", "h", "2"] in rows
    assert ["no-doubt", "unknown", "in", "10", "min", "5"] in rows
    assert ["no-person", "needs_review", "a", "person", "5"] in rows
    assert "ended" not in listed.out


def test_list_and_show_speak_chinese(
    run: Run, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States and operations stay: `--state` and `--operation` take them."""
    del store_url
    monkeypatch.setenv("WXPAY_LANG", "zh")
    listed, shown = run("doubts", "list"), run("doubts", "show", "person")

    assert (4, "未了结: 4\n") == (listed.code, listed.err)
    rows = [line.split() for line in listed.out.splitlines()]
    assert ["doubt", "refund", "3", "小时", "2"] in rows
    assert ["no-doubt", "unknown", "10", "分钟后", "5"] in rows
    assert ["no-person", "needs_review", "需人工介入", "5"] in rows
    assert MEANINGS["needs_review"].zh in shown.out
    assert "向平台客服查明结果" in shown.out


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ((), ["doubt", "fresh", "order", "person"]),
        (("--state", "unknown"), ["doubt", "order"]),
        (("--state", "unknown", "--state", "needs_review"), ["doubt", "order", "person"]),
        (("--operation", "trade"), ["order"]),
        (("--older-than", "2h"), ["doubt", "order", "person"]),
        (("--older-than", "30s", "--operation", "refund"), ["doubt", "fresh", "person"]),
    ],
)
def test_list_is_narrowed(
    run: Run, store_url: str, chosen: tuple[str, ...], expected: list[str]
) -> None:
    """By state, by operation and by age; in JSON each operation is a line."""
    del store_url
    listed = run("doubts", "list", "--json", *chosen)

    assert (4, "") == (listed.code, listed.err)
    assert expected == list_ids(listed.out)


def test_list_of_nothing_is_well(run: Run, store_url: str) -> None:
    """That is what a cron job hopes for: exit code 0, and nothing on stdout."""
    del store_url
    listed = run("doubts", "list", "--older-than", "1d")

    assert (0, "", "open: nothing is open\n") == listed


def test_show_says_what_it_means_and_what_to_do(run: Run, store_url: str) -> None:
    """With the command that records a verdict, ready to be copied."""
    del store_url
    shown = run("doubts", "show", "person", "--json").fields()

    assert MEANINGS["needs_review"].en == shown["meaning"]
    assert "doubts resolve person --verdict" in shown["todo"]
    assert (True, None, 5) == (shown["needsReview"], shown["nextQuery"], shown["queries"])
    assert "3 h ago" in run("doubts", "show", "doubt").out


def test_list_shows_amount_and_last_answer(run: Run, sandbox: Sandbox, store_url: str) -> None:
    """Where the store knows them: of this refund, which was repeated at first."""
    reply = b'{"success":false,"errorCode":"GM_API_BUS_0000015","errorMsg":"repeated"}'
    known = {"content": b'{"refundAmount":"12.30"}', "reply": reply, "status": 200}
    record = make_open("known", sandbox.app_key, State.UNKNOWN, **known)
    fill(store_url, [record], secret=sandbox.app_secret)
    shown = run("doubts", "show", "known", "--json").fields()
    rows = [line.split() for line in run("doubts", "list").out.splitlines()]

    answer = {"code": "GM_API_BUS_0000015", "message": "repeated"}
    assert ("12.30", answer) == (shown["amount"], shown["lastAnswer"])
    assert ["known", "refund", "12.30", "3", "h", "2"] in rows
    assert ["no-known", "unknown", "GM_API_BUS_0000015", "in", "10", "min", "5"] in rows


def test_line_for_cron_prints_only_while_something_is_open(run: Run, store_url: str) -> None:
    """As the document prints it, without the schedule and the file of settings."""
    del run, store_url
    text = (ROOT / "docs" / "open-operations.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("0 8 * * * "))
    job = line.partition("; ")[2].replace("wxpay-async", shlex.join(PROGRAM))
    quiet = job.replace("1h", "9d")
    assert job != quiet

    prints = [
        subprocess.run(["sh", "-c", each], capture_output=True, check=False)
        for each in (job, quiet)
    ]

    assert b"no-person" in prints[0].stdout
    assert (b"", b"") == (prints[1].stdout, prints[1].stderr)


# Finding out


def test_verdict_of_a_person_settles_what_waits_for_one(run: Run, store_url: str) -> None:
    """The platform is asked first; what was found, by whom and why is kept in the row."""
    settled = run("doubts", "resolve", "person", "--verdict", "not-executed", *VERDICT)

    assert 1 == settled.code, settled
    assert settled.err.startswith("outcome: refused: a person found that it was not executed")
    assert ["doubt", "fresh", "order"] == list_ids(run("doubts", "list", "--json").out)
    record = asyncio.run(load(store_url, "person"))
    assert State.NOT_EXECUTED is record.state
    kept = json.loads(record.verdict or "")
    assert (False, "小王", "case 4711") == (kept["executed"], kept["by"], kept["note"])


def test_verdict_that_it_failed_is_kept_as_such(run: Run, store_url: str) -> None:
    """Its next generation may go, as after one that was not executed."""
    run("doubts", "resolve", "person", "--verdict", "failed", *VERDICT)

    kept = json.loads(asyncio.run(load(store_url, "person")).verdict or "")
    assert (False, "failed: case 4711") == (kept["executed"], kept["note"])


def test_verdict_that_it_succeeded_survives(run: Run, store_url: str) -> None:
    """The next process is told the same."""
    del store_url
    first = run("doubts", "resolve", "person", "--verdict", "succeeded", *VERDICT, "--json")

    assert "ok" == first.fields()["kind"]
    assert "ok" == run("doubts", "resolve", "person", "--json").fields()["kind"]


async def load(url: str, request_id: str) -> IdempotencyRecord:
    """Return a record of the sandbox's merchant."""
    store = SqlStore(url)
    found = await store.load((Sandbox().app_key, request_id))
    await store.aclose()
    assert found is not None
    return found


def test_doubt_of_a_machine_takes_no_verdict(run: Run, store_url: str) -> None:
    """It can still be executed after the person looked."""
    del store_url
    assert "allowed: for an operation that waits for a person" in refuse(
        run, "resolve", "doubt", "--verdict", "succeeded", *VERDICT
    )


def test_recovery_tells_how_much_is_left(run: Run, store_url: str) -> None:
    """Nothing was due; the exit code says that something is open."""
    del store_url
    recovered = run("doubts", "recover", "--json")

    assert (4, {"settled": 0, "open": 4}) == (recovered.code, json.loads(recovered.out))


# Bad input


def refuse(run: Run, *arguments: str) -> str:
    """Run a command that must be refused; return its one line."""
    ended = run("doubts", *arguments)
    assert 2 == ended.code, ended
    return ended.error()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("list", "--older-than", "soon"), "--older-than"),
        (("list", "--older-than", "m"), "--older-than"),
        (("list", "--older-than", "²s"), "--older-than"),
        (("list", "--state", "settled"), "--state"),
        (("show", "ended"), "REQUEST_ID"),
        (("resolve", "person", "--by", "x"), "--verdict"),
        (("resolve", "person", "--verdict", "failed", "--by", "x"), "--why"),
        (("resolve", "person", "--verdict", "failed", "--why", "x"), "by"),
        (("resolve", "person", "--verdict", "yes", *VERDICT), "--verdict"),
    ],
)
def test_bad_input_is_named(
    run: Run, store_url: str, arguments: tuple[str, ...], named: str
) -> None:
    """On one line, and nothing is asked or written."""
    del store_url
    assert named in refuse(run, *arguments)


@pytest.mark.parametrize("command", [("list",), ("show", "x"), ("resolve", "x"), ("recover",)])
def test_without_a_store_there_is_nothing_to_look_into(
    run: Run, sandbox: Sandbox, command: tuple[str, ...]
) -> None:
    """Not even an empty list, which would say that all is well."""
    del sandbox
    assert "WXPAY_STORE_URL" in refuse(run, *command)


# Every store


@pytest.mark.parametrize("kind", ["postgres", "mariadb", "redis"])
def test_list_of_each_store(
    run: Run, sandbox: Sandbox, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same commands, whatever the store is."""
    del sandbox

    async def write(place: Place) -> str:
        store = place.make_store()
        for state in (State.UNKNOWN, State.SUCCEEDED, State.NEEDS_REVIEW):
            await store.reserve(make_open(state.value, place.app_key, state))
        return place.url

    async def work() -> list[str]:
        async with open_place(kind, tmp_path) as place:
            monkeypatch.setenv("WXPAY_STORE_URL", await write(place))
            monkeypatch.setenv("WXPAY_APP_KEY", place.app_key)
            listed = await asyncio.to_thread(run, "doubts", "list", "--json")
            return list_ids(listed.out)

    assert ["needs_review", "unknown"] == asyncio.run(work())
