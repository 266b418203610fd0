"""No command shows a secret, an openid or a credential that was put into it, whatever its end."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

import pytest

from tests.cli.batches import write_lines
from tests.cli.harness import KEY, ORDER, SALE, SECRET, Run, find_commands
from tests.support.canaries import (
    OPENID,
    PLANTED_TOKEN,
    WRONG_SECRET,
    Canaries,
    find_leaks,
    list_key_secrets,
    render_records,
)

pytest.importorskip("sqlalchemy")

PEM: Final = KEY.export_key()
PASSWORD: Final = "canary-password-8e2"
PAYER: Final = ("--openid", OPENID, "--app-id", "wx9236b1e84ffbf10a")
CANARIES: Final[Canaries] = {
    "the secret": SECRET,
    "a wrong secret": WRONG_SECRET,
    "the openid": OPENID,
    "the payToken": PLANTED_TOKEN,
    "a password": PASSWORD,
    **list_key_secrets("the key", PEM),
}
FORM: Final = {
    "appKey": "sandbox-app-key",
    "bizContent": {"payToken": PLANTED_TOKEN, "terminalPayerId": OPENID},
    "nonce": "n0123456789",
    "timestamp": "1700000000000",
    "signType": "MD5",
}
NOWHERE: Final = f"postgresql://me:{PASSWORD}@127.0.0.1:9/wxpay"
REFUND: Final = ("refund", "--out-trade-no", "R1", "--orig-out-trade-no", "1", "--amount", "0.30")
CALLS: Final[dict[str, list[tuple[str, ...]]]] = {
    "trade": [("trade", *SALE, *PAYER, "--out-trade-no", "2", "--amount", "1.00")],
    "pay": [("pay", *PAYER, *ORDER, "--pay-token", PLANTED_TOKEN)],
    "query": [("query", *ORDER), ("query", "--out-trade-no", "nobody's", "--json")],
    "refund": [REFUND, (*REFUND, "--json")],
    "merchants": [("merchants",), ("merchants", "--json")],
    "doctor": [("doctor",), ("doctor", "--json"), ("doctor", "--store", NOWHERE)],
    "demo": [("demo", "--payments", "2"), ("demo", "--payments", "2", "--json")],
    "batch": [
        ("batch", "pays.jsonl", "--json"),
        ("batch", "pays.jsonl", "--check"),
        ("batch", "pays.jsonl", "--report", "--html", "report.html"),
        ("batch", "pays.jsonl", "--store", NOWHERE),
    ],
    "worker": [("worker", "--broker", f"amqp://me:{PASSWORD}@127.0.0.1:9/", "--store", NOWHERE)],
    "doubts list": [("doubts", "list"), ("doubts", "list", "--json")],
    "doubts show": [("doubts", "show", "line-1"), ("doubts", "show", "line-1", "--json")],
    "doubts resolve": [
        ("doubts", "resolve", "x", "--verdict", "failed", "--by", "me", "--why", "because"),
    ],
    "doubts recover": [("doubts", "recover"), ("doubts", "recover", "--json")],
    "keys new": [("keys", "new", "new.pem")],
    "keys show": [("keys", "show", "key.pem"), ("keys", "show", "key.pem", "--json")],
    "keys public": [("keys", "public", "key.pem")],
    "sign request": [("sign", "request", "form.json", "--json")],
    "sign verify": [("sign", "verify", "form.json"), ("sign", "verify", "form.json", "--json")],
    "sign explain": [("sign", "explain", "form.json"), ("sign", "explain", "form.json", "--json")],
    "store schema": [("store", "schema", NOWHERE)],
    "sandbox": [("sandbox", "--faults", "none.toml", "--app-secret", SECRET)],
}
PATIENT: Final = CALLS["batch"][0]
"""Where the platform refuses the secret, it waits for up to an hour that somebody mends that."""


def test_every_command_has_its_row() -> None:
    """One that is new is looked at, too."""
    assert set(find_commands()) == set(CALLS)


@pytest.fixture
def _canaries_on_disk(folder: Path) -> None:
    """Put the secrets into the files that the commands read."""
    (folder / "key.pem").write_bytes(PEM)
    (folder / "key.pem").chmod(0o600)
    (folder / "form.json").write_text(json.dumps(FORM))
    (folder / "none.toml").write_text(f'[[fault]]\nkind = "{SECRET[:5]}"\n')
    line = {"requestId": "line-1", "outTradeNo": "1", "payToken": PLANTED_TOKEN}
    write_lines(folder / "pays.jsonl", [line | {"terminalPayerId": OPENID}])


@pytest.mark.slow
@pytest.mark.usefixtures("_canaries_on_disk", "paid")
@pytest.mark.parametrize("secret", [SECRET, WRONG_SECRET], ids=["its secret", "a wrong secret"])
@pytest.mark.parametrize("command", CALLS)
def test_command_shows_nothing_that_is_secret(
    run: Run,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    command: str,
    secret: str,
) -> None:
    """On neither stream, in no log, and in no file that it writes."""
    caplog.set_level(logging.DEBUG, "wxpay_async")
    monkeypatch.setenv("WXPAY_STORE_URL", "sqlite:///wxpay.db")
    monkeypatch.setenv("WXPAY_APP_SECRET", secret)
    before = set(folder.iterdir())
    places: dict[str, str | bytes] = {}
    for arguments in CALLS[command]:
        if arguments == PATIENT and secret == WRONG_SECRET:
            continue
        ended = run(*arguments)
        shown = " ".join(arguments[:3])
        places |= {f"{shown}: stdout": ended.out, f"{shown}: stderr": ended.err}
    places["logs"] = render_records(caplog.records)
    for path in set(folder.iterdir()) - before - {folder / "new.pem"}:
        places[path.name] = path.read_bytes()

    assert [] == find_leaks(places, CANARIES)
