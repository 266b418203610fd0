"""The commands that bring a platform of their own: `demo` and `sandbox`. No money moves."""

from __future__ import annotations

import asyncio
import enum
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from typer import Option

from wxpay_async import InvalidRequestError
from wxpay_async.cli.demo import Report, Run, Scheme, run_demo
from wxpay_async.cli.main import EXIT_CODES, AsJson, app, fail
from wxpay_async.cli.options import PASSPHRASE
from wxpay_async.cli.output import (
    as_text,
    console,
    new_table,
    print_json,
    print_shown,
    show_request_payment,
    tell,
    warnings_on_one_line,
    write,
)
from wxpay_async.cli.sandbox_server import merchant_key, publish_key, serve
from wxpay_async.protocol.wire import is_loopback
from wxpay_async.sandbox import Sandbox

_MOST_PROBLEMS: Final = 20
_COUNTS: Final = ("paid", "refunded", "callbacks", "verified", "confirmed", "attempts")
_ALL_IS_WELL: Final = (
    "Every order was charged once and told of once, every paySign verified.\n"
    "An RSA callback needs no query; an MD5 one counts once a query confirmed it."
)


class _Schemes(enum.StrEnum):
    """Which schemes the demo signs with."""

    RSA = "rsa"
    MD5 = "md5"
    BOTH = "both"


@app.command(epilog=EXIT_CODES)
def demo(
    *,
    payments: Annotated[
        int,
        Option(
            help="How many payments, at most 100,000; two schemes share them.",
            min=1,
            max=100_000,
            metavar="N",
        ),
    ] = 200,
    scheme: Annotated[_Schemes, Option(help="How they are signed.")] = _Schemes.BOTH,
    concurrency: Annotated[
        int, Option(help="Payments at once, at most 1000.", min=1, max=1000, metavar="N")
    ] = 64,
    as_json: AsJson = False,
) -> None:
    """Pay against a sandbox of its own, and check ledger and callbacks. No money moves."""
    screen = console()
    columns = (TextColumn("paying"), BarColumn(bar_width=40), MofNCompleteColumn())
    hidden = as_json or not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=hidden) as progress:
        task = progress.add_task("paying", total=payments)
        report = asyncio.run(
            run_demo(
                _shares(scheme, payments),
                concurrency=concurrency,
                advance=lambda: progress.advance(task),
            )
        )
    if as_json:
        print_json(report.fields())
    else:
        _show_report(report)
    if report.problems:
        fail(f"the demo went wrong in {len(report.problems)} places", 1)


def _shares(scheme: _Schemes, payments: int) -> dict[Scheme, int]:
    if scheme is not _Schemes.BOTH:
        return {Scheme(scheme.value): payments}
    shares = {Scheme.RSA: payments - payments // 2, Scheme.MD5: payments // 2}
    return {name: share for name, share in shares.items() if share}


def _show_report(report: Report) -> None:
    table = new_table(padding=0)  # nine columns within 80 characters
    table.add_column("scheme")
    for name in (*_COUNTS, "seconds", "paid/s"):
        table.add_column(name, justify="right")
    for run in report.runs:
        table.add_row(*_row(run))
    print_shown(table)
    if not report.problems:
        print_shown(_ALL_IS_WELL, style="green")
    for problem in report.problems[:_MOST_PROBLEMS]:
        write(f"{as_text(problem)}\n")
    if (left := len(report.problems) - _MOST_PROBLEMS) > 0:
        write(f"and {left} more\n")
    if report.request_payment:
        show_request_payment(report.request_payment, "one wx.requestPayment, ready to use")


def _row(run: Run) -> tuple[str, ...]:
    counts = (str(getattr(run, name)) for name in _COUNTS)
    return run.scheme.upper(), *counts, f"{run.seconds:.2f}", f"{run.rate:.0f}"


@app.command(epilog=EXIT_CODES)
def sandbox(  # noqa: PLR0913 - the options of the command
    *,
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, Option(help="Port; 0 for any free one.", min=0, max=65535, metavar="N")
    ] = 8080,
    scheme: Annotated[
        Scheme, Option(help="How the merchant signs, and how callbacks are signed.")
    ] = Scheme.MD5,
    quota: Annotated[
        int, Option(help="Calls in any 60 s; 0 for no limit.", min=0, metavar="N")
    ] = 400,
    key_file: Annotated[
        Path, Option(help="The merchant's private key for rsa; made when absent.")
    ] = Path("merchant.pem"),
    notify_url: Annotated[
        str | None, Option(help="Where the merchant takes callbacks; else none are sent.")
    ] = None,
    callback_key_file: Annotated[
        Path | None,
        Option(
            help="Where to write the public key that verifies callbacks, for rsa; else "
            "sandbox-platform.pem beside the merchant's key."
        ),
    ] = None,
    allow_remote: Annotated[
        bool,
        Option(
            "--allow-remote",
            help="Let other machines in, whoever reaches it can pay; and let callbacks out.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole platform on this machine, until Ctrl-C. No money moves."""
    rsa = scheme is Scheme.RSA
    if callback_key_file and not rsa:
        raise InvalidRequestError("no key is used", field="--callback-key-file", allowed="with rsa")
    _check_host(host, allow_remote=allow_remote)
    with warnings_on_one_line():
        public_key = merchant_key(key_file, os.environ.get(PASSPHRASE)) if rsa else None
    platform = Sandbox(
        host=host,
        port=port,
        merchant_public_key=public_key,
        quota=quota or None,
        notify_url=notify_url,
        notify_remote=allow_remote,
    )

    def announce() -> None:
        settings = {**platform.settings(), "WXPAY_PAY_PUBLIC_KEY": _bare(platform.pay_public_key)}
        if rsa:
            platform_file = callback_key_file or key_file.with_name("sandbox-platform.pem")
            publish_key(platform_file, platform.callback_public_key)
            del settings["WXPAY_APP_SECRET"]
            settings["WXPAY_PRIVATE_KEY_FILE"] = str(key_file.resolve())
            settings["WXPAY_PLATFORM_KEY_FILE"] = str(platform_file.resolve())
        _print_settings(settings, as_json=as_json)
        typer.echo(f"Cashier: {platform.url}/sandbox. Ctrl-C ends the sandbox.", err=True)

    asyncio.run(serve(platform, announce))


def _bare(pem: str) -> str:
    """Return a key as the Base64 of its PEM, which fits on one line."""
    return "".join(pem.splitlines()[1:-1])


def _check_host(host: str, *, allow_remote: bool) -> None:
    if is_loopback(f"http://[{host}]" if ":" in host else f"http://{host}"):
        return
    if not allow_remote:
        raise InvalidRequestError(
            "not this machine", field="--host", allowed="loopback, or add --allow-remote"
        )
    tell("warning:", "other machines can reach this sandbox", colour="yellow")


def _print_settings(settings: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json(settings)
        return
    for name, value in settings.items():
        write(f"export {name}={shlex.quote(value)}\n")
