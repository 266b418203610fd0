"""Define the options of `batch` and `worker`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option


class Operation(enum.StrEnum):
    """What the lines of a file ask for."""

    PAY = "pay"
    TRADE = "trade"
    REFUND = "refund"
    QUERY = "query"


File = Annotated[
    Path,
    Argument(
        help="JSON Lines, or CSV with a header; the platform's names or snake case.",
        metavar="FILE",
        show_default=False,
    ),
]
OperationOption = Annotated[
    Operation | None,
    Option(
        "--operation",
        help="What each line asks for: pay, trade, refund or query. Without it, lines with "
        "refundAmount are refunds, with payToken pay, with tradeInfo trade.",
        metavar="NAME",
    ),
]
Broker = Annotated[
    str | None,
    Option(
        help="Have workers make the calls: amqp://..., or module:variable with a broker of taskiq. "
        "Else WXPAY_BROKER_URL.",
        metavar="BROKER",
    ),
]
StoreUrl = Annotated[
    str | None,
    Option(
        help="Where requestIds and outcomes are kept. Else WXPAY_STORE_URL, else wxpay.db beside "
        "the file.",
        metavar="URL",
    ),
]
QuotaUrl = Annotated[
    str | None,
    Option(
        help="A Redis that counts the calls of all processes. Else WXPAY_QUOTA_URL.", metavar="URL"
    ),
]
Share = Annotated[
    int | None,
    Option(
        help="How many of the 400 calls a minute machines may use at most, 380 by default; people "
        "have the rest to themselves. Else WXPAY_BATCH_SHARE.",
        min=1,
        max=400,
        metavar="N",
    ),
]
Out = Annotated[
    Path | None, Option(help="Where the outcomes go; else FILE.outcomes.jsonl.", metavar="PATH")
]
AsCsv = Annotated[bool, Option("--csv", help="Write the outcomes as CSV, too.")]
Check = Annotated[
    bool, Option("--check", help="Read the whole file and list its faults; send nothing.")
]
Report = Annotated[
    bool,
    Option("--report", help="Show the outcomes that the store has, also during a run; no call."),
]
Html = Annotated[
    Path | None, Option(help="With --report: write a page for a browser.", metavar="PATH")
]
CredentialsPath = Annotated[
    Path | None,
    Option(
        "--credentials",
        help="For pay: where to write what wx.requestPayment takes, as it comes; it lives for 20 "
        "minutes.",
        metavar="PATH",
    ),
]
Concurrency = Annotated[
    int, Option(help="Calls at once, at most 1000.", min=1, max=1000, metavar="N")
]
Processes = Annotated[int, Option(help="Worker processes.", min=1, max=64, metavar="N")]
