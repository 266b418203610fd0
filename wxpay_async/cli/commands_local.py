"""Define the commands that start a platform on this machine: `demo` and `sandbox`.

No money moves. Both import what they start when they run: it takes longer than a help text.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Annotated, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from typer import Option

from wxpay_async import InvalidRequestError
from wxpay_async.cli.demo_report import print_report
from wxpay_async.cli.main import EXIT_CODES, AsJson, app, exit_with_error
from wxpay_async.cli.options import PASSPHRASE, Scheme
from wxpay_async.cli.output import (
    WARNING,
    make_console,
    print_json,
    print_short_warnings,
    translate,
    write_stderr,
)
from wxpay_async.language import Sentence
from wxpay_async.protocol.wire import is_loopback

_REACHABLE: Final = Sentence("other machines can reach this sandbox", "其他机器也能访问这个沙箱")
_PAYING: Final = Sentence("paying", "支付中")
_WENT_WRONG: Final = Sentence("the demo went wrong in {count} places", "demo 有 {count} 处出错")


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
Port = Annotated[
    int,
    Option(
        help="Port; 0 for any free one. Else PORT.",
        min=0,
        max=65535,
        metavar="N",
        envvar="PORT",
        show_envvar=False,
    ),
]
AppSecret = Annotated[
    str | None, Option(help="The merchant's MD5 secret; else a new one at each start.")
]
KeyFolder = Annotated[
    Path | None,
    Option(
        "--keys",
        help="Folder with the keys, made when absent: platform-private.pem signs prepays and "
        "callbacks, so that it is the same at each start; for rsa also merchant.pem and "
        "sandbox-platform.pem.",
        metavar="DIR",
    ),
]
StatePath = Annotated[
    Path | None, Option(help="File that keeps orders; else they are forgotten.", metavar="FILE")
]
EnvFile = Annotated[
    Path | None,
    Option(help="Write the settings there as NAME=value, and print nothing.", metavar="FILE"),
]
FaultPath = Annotated[
    Path | None, Option(help="TOML file of faults to order; see docs/sandbox.md.", metavar="FILE")
]
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
    columns = (TextColumn(translate(_PAYING)), BarColumn(bar_width=40), MofNCompleteColumn())
    hidden = as_json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=payments)
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
        exit_with_error(translate(_WENT_WRONG, count=len(report.problems)), 1)


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
    app_secret: AppSecret = None,
    keys_folder: KeyFolder = None,
    state: StatePath = None,
    env_file: EnvFile = None,
    faults: FaultPath = None,
    magic: Annotated[
        bool, Option(help="Whether magic openids and amounts act; see docs/sandbox.md.")
    ] = True,
    refuse_other_payer: Annotated[
        bool, Option("--refuse-other-payer", help="Refuse a pay of another openid than its trade.")
    ] = False,
    quiet: Annotated[
        bool, Option("--quiet", help="No line for each request, callback and refusal.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole platform on this machine, until Ctrl-C. No money moves."""
    from wxpay_async.cli.sandbox_lines import print_line  # noqa: PLC0415 - see above
    from wxpay_async.cli.sandbox_server import (  # noqa: PLC0415 - see above
        RsaKeys,
        load_platform_key,
        read_faults,
        run_sandbox,
    )
    from wxpay_async.sandbox import Sandbox  # noqa: PLC0415 - help does without

    any_mode = os.environ.get("WXPAY_KEY_FILE_MODE") == "any"
    if keys_folder:
        keys_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_file = keys_folder / "merchant.pem"
    keys = None
    if scheme is Scheme.RSA:
        keys = RsaKeys(
            key_file,
            callback_key_file or key_file.with_name("sandbox-platform.pem"),
            any_mode=any_mode,
        )
    elif callback_key_file:
        raise InvalidRequestError("no key is used", field="--callback-key-file", allowed="with rsa")
    if app_secret == "":
        raise InvalidRequestError("empty", field="--app-secret", allowed="a text, or leave it out")
    _check_host(host, allow_remote=allow_remote)
    ordered = read_faults(faults)
    with print_short_warnings():
        public_key = keys.load_merchant_key(os.environ.get(PASSPHRASE)) if keys else None
        pay_key = (
            load_platform_key(keys_folder / "platform-private.pem", any_mode=any_mode)
            if keys_folder
            else None
        )
    platform = Sandbox(
        host=host,
        port=port,
        merchant_public_key=public_key,
        quota=quota or None,
        notify_url=notify_url,
        notify_remote=allow_remote,
        app_secret=app_secret,
        pay_key=pay_key,
        faults=ordered.faults,
        fault_seed=ordered.seed,
        magic=magic,
        other_payer_refused=refuse_other_payer,
        state_file=state,
        on_event=(lambda _: None) if quiet else print_line,
    )
    run_sandbox(platform, keys, as_json=as_json, env_file=env_file)


def _check_host(host: str, *, allow_remote: bool) -> None:
    if is_loopback(f"http://[{host}]" if ":" in host else f"http://{host}"):
        return
    if not allow_remote:
        raise InvalidRequestError(
            "not this machine", field="--host", allowed="loopback, or add --allow-remote"
        )
    write_stderr(translate(WARNING), translate(_REACHABLE), colour="yellow")
