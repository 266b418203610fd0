"""Define the commands that start a platform on this machine: `demo` and `sandbox`.

No money moves. Both import what they start when they run: it takes longer than a help text.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Annotated

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from typer import Option

from wxpay_async import InvalidRequestError
from wxpay_async.cli.demo_report import print_report
from wxpay_async.cli.main import EXIT_CODES, AsJson, app, exit_with_error
from wxpay_async.cli.options import PASSPHRASE, Scheme
from wxpay_async.cli.output import make_console, print_json, print_short_warnings, write_stderr
from wxpay_async.protocol.wire import is_loopback


class DemoScheme(enum.StrEnum):
    """Which schemes the demo signs with."""

    RSA = "rsa"
    MD5 = "md5"
    BOTH = "both"


Payments = Annotated[
    int,
    Option(
        help="How many payments, at most 100,000; two schemes share them.",
        min=1,
        max=100_000,
        metavar="N",
    ),
]
Concurrency = Annotated[
    int, Option(help="Payments at once, at most 1000.", min=1, max=1000, metavar="N")
]
Host = Annotated[str, Option(help="Address to listen on.")]
Port = Annotated[int, Option(help="Port; 0 for any free one.", min=0, max=65535, metavar="N")]
CallQuota = Annotated[int, Option(help="Calls in any 60 s; 0 for no limit.", min=0, metavar="N")]
KeyFile = Annotated[Path, Option(help="The merchant's private key for rsa; made when absent.")]
NotifyUrl = Annotated[
    str | None, Option(help="Where the merchant takes callbacks; else none are sent.")
]
CallbackKeyFile = Annotated[
    Path | None,
    Option(
        help="Where to write the public key that verifies callbacks, for rsa; else "
        "sandbox-platform.pem beside the merchant's key."
    ),
]
AllowRemote = Annotated[
    bool,
    Option(
        "--allow-remote",
        help="Let other machines in, each of which can then pay; and let callbacks out.",
    ),
]


@app.command(epilog=EXIT_CODES)
def demo(
    *,
    payments: Payments = 200,
    scheme: Annotated[DemoScheme, Option(help="How they are signed.")] = DemoScheme.BOTH,
    concurrency: Concurrency = 64,
    as_json: AsJson = False,
) -> None:
    """Pay against a sandbox of its own, and check ledger and callbacks. No money moves."""
    from wxpay_async.cli.demo import run_demo  # noqa: PLC0415 - see above

    console = make_console()
    columns = (TextColumn("paying"), BarColumn(bar_width=40), MofNCompleteColumn())
    hidden = as_json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("paying", total=payments)
        report = run_demo(
            _share_payments(scheme, payments),
            concurrency=concurrency,
            advance=lambda: progress.advance(task),
        )
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report)
    if report.problems:
        exit_with_error(f"the demo went wrong in {len(report.problems)} places", 1)


def _share_payments(scheme: DemoScheme, payments: int) -> dict[Scheme, int]:
    if scheme is not DemoScheme.BOTH:
        return {Scheme(scheme.value): payments}
    shares = {Scheme.RSA: payments - payments // 2, Scheme.MD5: payments // 2}
    return {name: share for name, share in shares.items() if share}


@app.command(epilog=EXIT_CODES)
def sandbox(  # noqa: PLR0913 - the options of the command
    *,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    scheme: Annotated[
        Scheme, Option(help="How the merchant signs, and how callbacks are signed.")
    ] = Scheme.MD5,
    quota: CallQuota = 400,
    key_file: KeyFile = Path("merchant.pem"),
    notify_url: NotifyUrl = None,
    callback_key_file: CallbackKeyFile = None,
    allow_remote: AllowRemote = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole platform on this machine, until Ctrl-C. No money moves."""
    from wxpay_async.cli.sandbox_server import RsaKeys, run_sandbox  # noqa: PLC0415 - see above
    from wxpay_async.sandbox import Sandbox  # noqa: PLC0415 - help does without

    keys = None
    if scheme is Scheme.RSA:
        keys = RsaKeys(
            key_file,
            callback_key_file or key_file.with_name("sandbox-platform.pem"),
            any_mode=os.environ.get("WXPAY_KEY_FILE_MODE") == "any",
        )
    elif callback_key_file:
        raise InvalidRequestError("no key is used", field="--callback-key-file", allowed="with rsa")
    _check_host(host, allow_remote=allow_remote)
    with print_short_warnings():
        public_key = keys.load_merchant_key(os.environ.get(PASSPHRASE)) if keys else None
    platform = Sandbox(
        host=host,
        port=port,
        merchant_public_key=public_key,
        quota=quota or None,
        notify_url=notify_url,
        notify_remote=allow_remote,
    )
    run_sandbox(platform, keys, as_json=as_json)


def _check_host(host: str, *, allow_remote: bool) -> None:
    if is_loopback(f"http://[{host}]" if ":" in host else f"http://{host}"):
        return
    if not allow_remote:
        raise InvalidRequestError(
            "not this machine", field="--host", allowed="loopback, or add --allow-remote"
        )
    write_stderr("warning:", "other machines can reach this sandbox", colour="yellow")
