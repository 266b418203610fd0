"""The command line: `wxpay-async demo | sandbox | trade | pay | query | refund | merchants`.

Answers go to stdout, everything else to stderr. An error is one line. The exit code tells what is
known about the money, see `EXIT_CODES`.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import inspect
import io
import json
import os
import shlex
import sys
import warnings
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar, cast, get_type_hints

import attrs

from wxpay_async import (
    Fate,
    IdempotencyConflictError,
    InDoubtError,
    InstantTrade,
    InvalidKeyError,
    InvalidRequestError,
    MiniProgramPay,
    PayGateway,
    PayMethod,
    PayResult,
    Refund,
    TradeItem,
    WxPayError,
    derive_request_id,
)
from wxpay_async.demo import Report, Scheme, merchant_key, run_demo, serve
from wxpay_async.protocol.fields import EXACT, as_amount, wire_name
from wxpay_async.protocol.keys import read_key_file
from wxpay_async.protocol.wire import is_loopback
from wxpay_async.sandbox import Sandbox

try:
    import typer
    from rich import box
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.rule import Rule
    from rich.table import Table
    from typer import Option
except ImportError as missing:  # pragma: no cover - a test runs it in a process of its own
    if (missing.name or "").partition(".")[0] not in {"typer", "rich"}:
        raise
    sys.stderr.write('error: the command line needs: pip install "wxpay-async[cli]"\n')
    raise SystemExit(2) from None

T = TypeVar("T")

EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 refused by the platform, or the demo went wrong; 2 bad input or "
    "configuration, nothing was sent; 3 not sent, try again; 4 in doubt, the request may have "
    "been executed, or its answer could not be shown: query before anything else; "
    "130 interrupted."
)

_BAD_INPUT: Final = 2
_INTERRUPTED: Final = 130
_FATES: Final = {
    Fate.REFUSED: ("refused", 1),
    Fate.NOT_SENT: ("not sent", 3),
    Fate.IN_DOUBT: ("in doubt", 4),
}
_MOST_PROBLEMS: Final = 20
_TOKEN_BYTES: Final = 4096
_PASSPHRASE: Final = "WXPAY_PRIVATE_KEY_PASSPHRASE"  # noqa: S105 - the variable's name

# Newer versions of typer carry a click of their own: this names the class in both cases.
_UsageError: Final = cast("type[typer.BadParameter]", typer.BadParameter.__base__)

app = typer.Typer(
    name="wxpay-async",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, Option("--json", help="Print JSON, and nothing else, on stdout.")]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with what `EXIT_CODES` says.

    Args:
        argv: the arguments; the process's own when absent.
    """
    stdout: object = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="replace")  # a terminal without Chinese must not end a payment
    try:
        code = app(None if argv is None else list(argv), standalone_mode=False)
    except _UsageError as error:
        place = error.ctx.command_path if error.ctx else "wxpay-async"
        _fail(f"{_flat(error.format_message()).rstrip('.')}; see {place} --help", _BAD_INPUT)
    except WxPayError as error:
        _fail(*_diagnosis(error))
    except typer.Abort:
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        _fail("interrupted", _INTERRUPTED)
    sys.exit(code or 0)


def _fail(text: str, code: int) -> NoReturn:
    _tell("error:", text, colour="red")
    sys.exit(code)


def _tell(label: str, text: str, *, colour: str) -> None:
    typer.echo(f"{typer.style(label, fg=colour, bold=True)} {text}", err=True)


@contextlib.contextmanager
def _warnings_on_one_line() -> Generator[None]:
    """Tell warnings without the line of code that Python adds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                _tell("warning:", _flat(str(warning.message)), colour="yellow")


def _flat(text: str) -> str:
    return " ".join(text.split())


def _diagnosis(error: WxPayError) -> tuple[str, int]:
    if isinstance(error, InvalidRequestError | InvalidKeyError | IdempotencyConflictError):
        return _flat(str(error)), _BAD_INPUT
    fate, code = _FATES[error.fate]
    return f"{fate}: {_flat(str(error))}", code


# What every client command takes


@attrs.frozen(kw_only=True)
class Setup:
    """The options that every client command takes; they win over the environment."""

    app_key: Annotated[
        str | None, Option(help="The developer id. Else WXPAY_APP_KEY.", metavar="KEY")
    ] = None
    app_secret_file: Annotated[
        Path | None, Option(help="File with the MD5 secret. Else WXPAY_APP_SECRET.", metavar="PATH")
    ] = None
    private_key_file: Annotated[
        Path | None,
        Option(
            help="File with the RSA private key, 2048 bits or more. Else WXPAY_PRIVATE_KEY_FILE; "
            f"its passphrase is read from {_PASSPHRASE}.",
            metavar="PATH",
        ),
    ] = None
    base_url: Annotated[
        str | None,
        Option(
            help="The platform's origin: https, or http on loopback. Else WXPAY_BASE_URL, else "
            "production.",
            metavar="URL",
        ),
    ] = None
    proxy: Annotated[
        str | None,
        Option(help="HTTP proxy with a fixed address. Else WXPAY_PROXY.", metavar="URL"),
    ] = None
    timeout: Annotated[
        float, Option(help="Seconds for the whole call, retries included; at least 3.", metavar="S")
    ] = 30.0
    as_json: AsJson = False

    def gateway(self) -> PayGateway:
        """Make the gateway that the options and the environment describe.

        Raises:
            InvalidRequestError: a setting is missing, cannot be used or needs an extra.
            InvalidKeyError: a file cannot be used.
        """
        with _warnings_on_one_line():
            try:
                return PayGateway.from_env(self._environ())
            except ImportError as error:  # a setting that needs an extra; the text names it
                raise InvalidRequestError(str(error)) from error

    def _environ(self) -> dict[str, str]:
        environ = dict(os.environ)
        if self.app_secret_file or self.private_key_file:
            # The option chooses the scheme, whatever the environment was set up for.
            for name in ("WXPAY_APP_SECRET", "WXPAY_PRIVATE_KEY_FILE"):
                environ.pop(name, None)
        if self.app_secret_file:
            secret = read_key_file(self.app_secret_file, private=True)
            environ["WXPAY_APP_SECRET"] = secret.decode("ascii", "replace").strip()
        given = {
            "WXPAY_APP_KEY": self.app_key,
            "WXPAY_PRIVATE_KEY_FILE": self.private_key_file,
            "WXPAY_BASE_URL": self.base_url,
            "WXPAY_PROXY": self.proxy,
        }
        return environ | {name: str(value) for name, value in given.items() if value is not None}

    def run(self, operation: Callable[[PayGateway], Awaitable[T]], *, reads: bool = False) -> T:
        """Await one operation of the gateway.

        Args:
            operation: what to await.
            reads: it changes nothing on the platform, so it can be interrupted without a doubt.
        """
        gateway = self.gateway()

        async def operate() -> T:
            async with gateway:
                return await operation(gateway)

        try:
            return asyncio.run(operate())
        except KeyboardInterrupt:
            if reads:
                raise
            raise InDoubtError("interrupted; what was sent may have been executed") from None


def _client(command: Callable[..., None]) -> Callable[..., None]:
    """Register a command that takes a `Setup`, and give it the options of one."""
    hints = get_type_hints(Setup, include_extras=True)
    shared = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(Setup).parameters.items()
    ]
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(**options: Any) -> None:  # noqa: ANN401 - what the signature below says
        setup = Setup(**{parameter.name: options.pop(parameter.name) for parameter in shared})
        command(setup, **options)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
    run.__dict__["__signature__"] = inspect.Signature([*own, *shared])
    app.command(epilog=EXIT_CODES)(run)
    return command


# How answers are shown


def _console() -> Console:
    # Texts of the platform are shown as they are: no markup, no emoji, no guessing at colours.
    return Console(markup=False, emoji=False, highlight=False)


def _fields(value: object) -> object:
    """Turn a result into JSON under the platform's names, unknown fields included."""
    if isinstance(value, Decimal | datetime):
        return str(value) if isinstance(value, Decimal) else value.isoformat()
    if isinstance(value, list | tuple):
        return [_fields(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return {name: _fields(item) for name, item in members.items()}
    kind = cast("type[attrs.AttrsInstance]", type(value))
    if not attrs.has(kind):
        return value
    known = {
        wire_name(attribute): _fields(getattr(value, attribute.name))
        for attribute in attrs.fields(kind)
        if attribute.name != "raw" and getattr(value, attribute.name) is not None
    }
    raw = cast("Mapping[str, object]", _fields(getattr(value, "raw", {})))
    return {**raw, **known}


def _print_json(value: object, *, indent: int | None = None) -> None:
    # ASCII: a reader of JSON decodes it, and no text of the platform can steer a terminal.
    _write(f"{json.dumps(value, indent=indent)}\n")


def _print(shown: RenderableType, *, style: str = "") -> None:
    console = _console()
    with _writing():
        # Captured first: on a broken pipe rich would end the process with its own exit code.
        with console.capture() as captured:
            console.print(shown, style=style)
        typer.echo(captured.get(), nl=False)


def _write(text: str) -> None:
    with _writing():
        typer.echo(text, nl=False)


@contextlib.contextmanager
def _writing() -> Generator[None]:
    """Tell an answer that cannot be shown from one that was refused."""
    try:
        yield
    except OSError as error:
        # Python flushes once more when it ends, and would then change the exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise InDoubtError(f"the answer could not be written ({error.strerror})") from error


def _print_fields(fields: Mapping[str, object]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in fields.items():
        if value not in (None, "", []) and value is not False:
            grid.add_row(name, _text(value))
    _print(grid)


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return "  ".join(_text(item) for item in cast("Mapping[str, object]", value).values())
    if isinstance(value, list):
        return "\n".join(_text(item) for item in cast("list[object]", value))
    text = ("no", "yes")[value] if isinstance(value, bool) else str(value)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _show(result: object, *, as_json: bool, only: Sequence[str] = (), **more: object) -> None:
    """Print a result.

    Args:
        result: of the gateway.
        as_json: as one line of JSON.
        only: the fields that a person sees; all when empty. JSON has them all.
        **more: further fields.
    """
    fields = {**cast("Mapping[str, object]", _fields(result)), **more}
    if as_json:
        _print_json(fields)
    else:
        _print_fields({name: fields.get(name) for name in only or fields})


def _show_request_payment(params: Mapping[str, str], title: str) -> None:
    _print("")
    _print(Rule(title, style="dim", align="left"))
    _print_json(params, indent=2)  # wrapped by the terminal only: what is copied is one piece


# The commands


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    *,
    show_version: Annotated[bool, Option("--version", help="Print the version.")] = False,
) -> None:
    """Take WeChat mini-program payments; see them work without a platform first: try `demo`."""
    if show_version:
        typer.echo(f"wxpay-async {version('wxpay-async')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


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
    """Pay many times against a sandbox of its own, and check its ledger. No money moves."""
    console = _console()
    columns = (TextColumn("paying"), BarColumn(bar_width=40), MofNCompleteColumn())
    hidden = as_json or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("paying", total=payments)
        report = asyncio.run(
            run_demo(
                _shares(scheme, payments),
                concurrency=concurrency,
                advance=lambda: progress.advance(task),
            )
        )
    if as_json:
        _print_json(report.fields())
    else:
        _show_report(report)
    if report.problems:
        _fail(f"the demo went wrong in {len(report.problems)} places", 1)


def _shares(scheme: _Schemes, payments: int) -> dict[Scheme, int]:
    if scheme is not _Schemes.BOTH:
        return {Scheme(scheme.value): payments}
    shares = {Scheme.RSA: payments - payments // 2, Scheme.MD5: payments // 2}
    return {name: share for name, share in shares.items() if share}


def _show_report(report: Report) -> None:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("scheme")
    for name in ("payments", "paid", "refunded", "attempts", "seconds", "payments/s"):
        table.add_column(name, justify="right")
    for run in report.runs:
        counts = (run.payments, run.paid, run.refunded, run.attempts)
        table.add_row(
            run.scheme.upper(), *map(str, counts), f"{run.seconds:.2f}", f"{run.rate:.0f}"
        )
    _print(table)
    if not report.problems:
        _print("Every order was charged once, every paySign verified.", style="green")
    for problem in report.problems[:_MOST_PROBLEMS]:
        _write(f"{_text(problem)}\n")
    if (left := len(report.problems) - _MOST_PROBLEMS) > 0:
        _write(f"and {left} more\n")
    if report.request_payment:
        _show_request_payment(report.request_payment, "one wx.requestPayment, ready to use")


@app.command(epilog=EXIT_CODES)
def sandbox(
    *,
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, Option(help="Port; 0 for any free one.", min=0, max=65535, metavar="N")
    ] = 8080,
    scheme: Annotated[Scheme, Option(help="How the merchant signs.")] = Scheme.MD5,
    quota: Annotated[
        int, Option(help="Calls in any 60 s; 0 for no limit.", min=0, metavar="N")
    ] = 400,
    key_file: Annotated[
        Path, Option(help="The merchant's private key for rsa; made when absent.")
    ] = Path("merchant.pem"),
    allow_remote: Annotated[
        bool, Option("--allow-remote", help="Let other machines in: whoever reaches it can pay.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole platform on this machine, until Ctrl-C. No money moves."""
    if not is_loopback(f"http://[{host}]" if ":" in host else f"http://{host}"):
        if not allow_remote:
            raise InvalidRequestError(
                "not this machine", field="--host", allowed="loopback, or add --allow-remote"
            )
        _tell("warning:", "other machines can reach this sandbox", colour="yellow")
    rsa = scheme is Scheme.RSA
    with _warnings_on_one_line():
        public_key = merchant_key(key_file, os.environ.get(_PASSPHRASE)) if rsa else None
    platform = Sandbox(host=host, port=port, merchant_public_key=public_key, quota=quota or None)

    def announce() -> None:
        settings = platform.settings()
        if rsa:
            del settings["WXPAY_APP_SECRET"]
            settings["WXPAY_PRIVATE_KEY_FILE"] = str(key_file.resolve())
        _print_settings(settings, as_json=as_json)
        typer.echo(f"Cashier: {platform.url}/sandbox. Ctrl-C ends the sandbox.", err=True)

    asyncio.run(serve(platform, announce))


def _print_settings(settings: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        _print_json(settings)
        return
    for name, value in settings.items():
        _write(f"export {name}={shlex.quote(value)}\n")


OutTradeNo = Annotated[str, Option(help="The merchant's order number.", metavar="NO")]
Yuan = Annotated[
    str, Option(help="Yuan, 0.01 to 100000000000.00, at most two decimal places.", metavar="YUAN")
]
OpenId = Annotated[str, Option("--openid", help="The payer's openid in the mini program.")]
AppId = Annotated[str, Option(help="The mini program's appid.")]
RequestId = Annotated[
    str | None,
    Option(
        help="1 to 32 characters of A-Z a-z 0-9 _ -. By default derived from the order, so that "
        "repeating a command never makes a second one.",
        metavar="ID",
    ),
]


@_client
def trade(  # noqa: PLR0913 - the options of the command
    setup: Setup,
    *,
    out_trade_no: OutTradeNo,
    subject: Annotated[str, Option(help="What is sold, as the payer sees it.")],
    amount: Yuan,
    payee: Annotated[str, Option(help="The seller's member id.")],
    payer_ip: Annotated[str, Option(help="The payer's IP address.")],
    quantity: Annotated[
        int, Option(help="Pieces that share the amount evenly.", min=1, metavar="N")
    ] = 1,
    openid: Annotated[
        str | None, Option(help="The payer's openid in the mini program; for 66 and 67.")
    ] = None,
    app_id: Annotated[str | None, Option(help="The mini program's appid.")] = None,
    pay_product_code: Annotated[
        str, Option(help="66 debit cards, 67 all; 64 and 65 the same, scanned.")
    ] = "67",
    timeout_express: Annotated[
        str | None, Option(help="Time to pay: 0, or 10m to 7d with unit m, h or d.")
    ] = None,
    request_id: RequestId = None,
) -> None:
    """Create an order of one item, and print its payToken."""
    total = as_amount(amount, "amount")
    item = TradeItem(
        out_trade_no=out_trade_no,
        subject=subject,
        price=EXACT.divide(total, Decimal(quantity)),
        quantity=quantity,
        total_amount=total,
        payee_identity=payee,
    )
    method = PayMethod(
        pay_product_code=pay_product_code, amount=total, app_id=app_id, open_id=openid
    )

    def create(gateway: PayGateway) -> Awaitable[object]:
        request = InstantTrade(
            request_id=request_id or derive_request_id(gateway.app_key, "trade", out_trade_no),
            trade_info=[item],
            payer_ip=payer_ip,
            pay_method=method,
            timeout_express=timeout_express,
        )
        return gateway.trade(request, timeout=setup.timeout)

    _show(
        setup.run(create),
        as_json=setup.as_json,
        only=("requestId", "payToken", "returnUrl", "instAmount", "tradeResList", "replayed"),
    )


@_client
def pay(
    setup: Setup,
    *,
    out_trade_no: OutTradeNo,
    openid: OpenId,
    app_id: AppId,
    pay_token: Annotated[
        str | None, Option(help="From trade. Other users of the machine can see it.")
    ] = None,
    pay_token_file: Annotated[
        typer.FileBinaryRead | None, Option(help="File with the payToken; - for stdin.")
    ] = None,
    request_id: RequestId = None,
) -> None:
    """Turn a payToken into the object that wx.requestPayment takes."""
    if (pay_token is None) == (pay_token_file is None):
        raise InvalidRequestError(
            "both or neither given", field="payToken", allowed="--pay-token or --pay-token-file"
        )
    token = pay_token or ""
    if pay_token_file is not None:
        token = pay_token_file.read(_TOKEN_BYTES).decode("utf-8", "replace").strip()

    def prepay(gateway: PayGateway) -> Awaitable[PayResult]:
        request = MiniProgramPay(
            request_id=request_id or derive_request_id(gateway.app_key, "pay", out_trade_no),
            pay_token=token,
            terminal_payer_id=openid,
            app_id=app_id,
            out_trade_no=out_trade_no,
        )
        return gateway.pay(request, timeout=setup.timeout)

    result = setup.run(prepay)
    params, expires = result.jsapi_params(), result.expires_at
    _show(
        result,
        as_json=setup.as_json,
        only=("requestId", "appId", "instAmount", "tradeResList", "expiresAt", "replayed"),
        expiresAt=expires.isoformat(timespec="seconds") if expires else None,
        requestPayment=params,
    )
    if not setup.as_json:
        _show_request_payment(params, "wx.requestPayment")


@_client
def query(
    setup: Setup,
    *,
    out_trade_no: Annotated[
        str | None, Option(help="The merchant's order number, or", metavar="NO")
    ] = None,
    trade_no: Annotated[str | None, Option(help="the platform's.", metavar="NO")] = None,
) -> None:
    """Ask what the platform knows of one order."""
    status = setup.run(
        lambda gateway: gateway.query(
            out_trade_no=out_trade_no, trade_no=trade_no, timeout=setup.timeout
        ),
        reads=True,
    )
    _show(status, as_json=setup.as_json, state=status.state.value)


@_client
def refund(
    setup: Setup,
    *,
    out_trade_no: Annotated[str, Option(help="The refund's own number.", metavar="NO")],
    orig_out_trade_no: Annotated[str, Option(help="The order that was paid.", metavar="NO")],
    amount: Yuan,
    request_id: RequestId = None,
) -> None:
    """Give money back, all of it or a part."""

    def give_back(gateway: PayGateway) -> Awaitable[object]:
        request = Refund(
            request_id=request_id or derive_request_id(gateway.app_key, "refund", out_trade_no),
            out_trade_no=out_trade_no,
            orig_out_trade_no=orig_out_trade_no,
            refund_amount=as_amount(amount, "refundAmount"),
        )
        return gateway.refund(request, timeout=setup.timeout)

    _show(setup.run(give_back), as_json=setup.as_json)


@_client
def merchants(
    setup: Setup,
    *,
    page_size: Annotated[int, Option(help="Sub-merchants a request.", min=1, metavar="N")] = 10,
    limit: Annotated[int | None, Option(help="Stop after so many.", min=1, metavar="N")] = None,
) -> None:
    """List the sub-merchants; with --json one object a line, as they come."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("merchantId", no_wrap=True)
    table.add_column("merchantName", overflow="fold")

    async def collect(gateway: PayGateway) -> None:
        taken = 0
        async for merchant in gateway.merchants(page_size=page_size, timeout=setup.timeout):
            if setup.as_json:
                _print_json(_fields(merchant))
            else:
                table.add_row(_text(merchant.merchant_id), _text(merchant.merchant_name or ""))
            taken += 1
            if taken == limit:
                return

    setup.run(collect, reads=True)
    if not setup.as_json:
        _print(table)


if __name__ == "__main__":
    main()
