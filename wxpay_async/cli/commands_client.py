"""Define the commands that call a platform: `trade`, `pay`, `query`, `refund` and `merchants`."""

from __future__ import annotations

from collections.abc import Awaitable
from decimal import Decimal
from typing import Annotated, Final

import typer
from typer import Option

import wxpay_async as wx
from wxpay_async.cli.options import ClientOptions, client_command
from wxpay_async.cli.output import (
    make_table,
    print_json,
    print_request_payment,
    print_result,
    print_rich,
    to_json,
    to_safe_text,
)
from wxpay_async.protocol.money import EXACT, as_amount

_TOKEN_BYTES: Final = 4096
_TRADE_FIELDS: Final = (
    "requestId",
    "payToken",
    "returnUrl",
    "instAmount",
    "tradeResList",
    "replayed",
)

OutTradeNo = Annotated[str, Option(help="The merchant's order number.", metavar="NO")]
Yuan = Annotated[
    str, Option(help="Yuan, 0.01 to 100000000000.00, at most two decimal places.", metavar="YUAN")
]
OpenId = Annotated[str, Option("--openid", help="The payer's openid in the mini program.")]
AppId = Annotated[
    str | None, Option(help="The mini program's appid; the platform's own when absent.")
]
RequestId = Annotated[
    str | None,
    Option(
        help="1 to 32 characters of A-Z a-z 0-9 _ -. By default derived from the order, so that "
        "repeating a command never makes a second one.",
        metavar="ID",
    ),
]
Generation = Annotated[
    int,
    Option(
        help="Counts the requestIds of one order. Raise it by one only after the previous one was "
        "refused, is proven not executed, or its prepay has expired.",
        min=0,
        metavar="N",
    ),
]
Subject = Annotated[str, Option(help="What is sold, as the payer sees it.")]
Payee = Annotated[str, Option(help="The seller's member id.")]
PayerIp = Annotated[str, Option(help="The payer's IP address.")]
Quantity = Annotated[int, Option(help="Pieces that share the amount evenly.", min=1, metavar="N")]
TradeOpenId = Annotated[
    str | None,
    Option("--openid", help="The payer's openid in the mini program; not for 64, 65."),
]
PayProductCode = Annotated[str, Option(help="66 debit cards, 67 all; 64 and 65 the same, scanned.")]
TimeoutExpress = Annotated[
    str | None, Option(help="Time to pay: 0, or 10m to 7d with unit m, h or d.")
]
PayToken = Annotated[str | None, Option(help="From trade. Other users of the machine can see it.")]
PayTokenFile = Annotated[
    typer.FileBinaryRead | None, Option(help="File with the payToken; - for stdin.")
]


def _choose_request_id(
    gateway: wx.PayGateway, operation: str, *, number: str, given: str | None, generation: int
) -> str:
    """Return the given requestId, or derive the one that this purchase always has."""
    if not given:
        return wx.derive_request_id(gateway.app_key, operation, number, generation)
    if generation:
        raise wx.InvalidRequestError(
            "given beside --request-id", field="--generation", allowed="one of the two"
        )
    return given


@client_command
def trade(  # noqa: PLR0913 - the options of the command
    options: ClientOptions,
    *,
    out_trade_no: OutTradeNo,
    subject: Subject,
    amount: Yuan,
    payee: Payee,
    payer_ip: PayerIp,
    quantity: Quantity = 1,
    openid: TradeOpenId = None,
    app_id: AppId = None,
    pay_product_code: PayProductCode = "67",
    timeout_express: TimeoutExpress = None,
    request_id: RequestId = None,
    generation: Generation = 0,
) -> None:
    """Create an order of one item, and print its payToken."""
    item = _make_item(out_trade_no, subject, amount=amount, quantity=quantity, payee=payee)
    method = wx.PayMethod(
        pay_product_code=pay_product_code,
        amount=item.total_amount,
        app_id=app_id,
        open_id=openid,
    )

    def create_trade(gateway: wx.PayGateway) -> Awaitable[object]:
        request = wx.InstantTrade(
            request_id=_choose_request_id(
                gateway, "trade", number=out_trade_no, given=request_id, generation=generation
            ),
            trade_info=[item],
            payer_ip=payer_ip,
            pay_method=method,
            timeout_express=timeout_express,
        )
        return gateway.trade(request, timeout=options.timeout)

    print_result(options.run(create_trade), as_json=options.as_json, only=_TRADE_FIELDS)


def _make_item(
    number: str, subject: str, *, amount: str, quantity: int, payee: str
) -> wx.TradeItem:
    """Make an item whose price is an exact share of the amount."""
    total = as_amount(amount, "amount")
    return wx.TradeItem(
        out_trade_no=number,
        subject=subject,
        price=EXACT.divide(total, Decimal(quantity)),
        quantity=quantity,
        total_amount=total,
        payee_identity=payee,
    )


@client_command
def pay(
    options: ClientOptions,
    *,
    out_trade_no: OutTradeNo,
    openid: OpenId,
    app_id: AppId = None,
    pay_token: PayToken = None,
    pay_token_file: PayTokenFile = None,
    request_id: RequestId = None,
    generation: Generation = 0,
) -> None:
    """Turn a payToken into the object that wx.requestPayment takes.

    Repeated for the same order it ends in doubt: the platform does not give its
    first answer again. Once that prepay has expired, 20 minutes later, pay under
    the next --generation.
    """
    token = _read_pay_token(pay_token, pay_token_file)

    def create_prepay(gateway: wx.PayGateway) -> Awaitable[wx.PayResult]:
        request = wx.MiniProgramPay(
            request_id=_choose_request_id(
                gateway, "pay", number=out_trade_no, given=request_id, generation=generation
            ),
            pay_token=token,
            terminal_payer_id=openid,
            app_id=app_id,
            out_trade_no=out_trade_no,
        )
        return gateway.pay(request, timeout=options.timeout)

    _print_prepay(options.run(create_prepay), as_json=options.as_json)


def _print_prepay(result: wx.PayResult, *, as_json: bool) -> None:
    params, expires = result.jsapi_params(), result.expires_at
    print_result(
        result,
        as_json=as_json,
        only=("requestId", "appId", "instAmount", "tradeResList", "expiresAt", "replayed"),
        expiresAt=expires.isoformat(timespec="seconds") if expires else None,
        requestPayment=params,
    )
    if not as_json:
        print_request_payment(params, "wx.requestPayment")


def _read_pay_token(given: str | None, file: typer.FileBinaryRead | None) -> str:
    if given is not None and file is None:
        return given
    if given is None and file is not None:
        return file.read(_TOKEN_BYTES).decode("utf-8", "replace").strip()
    raise wx.InvalidRequestError(
        "both or neither given", field="payToken", allowed="--pay-token or --pay-token-file"
    )


@client_command
def query(
    options: ClientOptions,
    *,
    out_trade_no: Annotated[
        str | None, Option(help="The merchant's order number; or give --trade-no.", metavar="NO")
    ] = None,
    trade_no: Annotated[
        str | None, Option(help="The platform's number of the order.", metavar="NO")
    ] = None,
) -> None:
    """Ask the platform for the status of one order."""
    status = options.run(
        lambda gateway: gateway.query(
            out_trade_no=out_trade_no, trade_no=trade_no, timeout=options.timeout
        ),
        read_only=True,
    )
    print_result(status, as_json=options.as_json, state=status.state.value)


@client_command
def refund(
    options: ClientOptions,
    *,
    out_trade_no: Annotated[str, Option(help="The refund's own number.", metavar="NO")],
    orig_out_trade_no: Annotated[str, Option(help="The order that was paid.", metavar="NO")],
    amount: Yuan,
    request_id: RequestId = None,
    generation: Generation = 0,
) -> None:
    """Give money back, all of it or a part."""

    def send_refund(gateway: wx.PayGateway) -> Awaitable[object]:
        request = wx.Refund(
            request_id=_choose_request_id(
                gateway, "refund", number=out_trade_no, given=request_id, generation=generation
            ),
            out_trade_no=out_trade_no,
            orig_out_trade_no=orig_out_trade_no,
            refund_amount=as_amount(amount, "refundAmount"),
        )
        return gateway.refund(request, timeout=options.timeout)

    print_result(options.run(send_refund), as_json=options.as_json)


@client_command
def merchants(
    options: ClientOptions,
    *,
    page_size: Annotated[int, Option(help="Sub-merchants a request.", min=1, metavar="N")] = 10,
    limit: Annotated[int | None, Option(help="Stop after so many.", min=1, metavar="N")] = None,
) -> None:
    """List the sub-merchants; with --json one object a line, as they come."""
    table = make_table()
    table.add_column("merchantId", no_wrap=True)
    table.add_column("merchantName", overflow="fold")

    async def read_merchants(gateway: wx.PayGateway) -> None:
        count = 0
        async for merchant in gateway.merchants(page_size=page_size, timeout=options.timeout):
            if options.as_json:
                print_json(to_json(merchant))
            else:
                name = to_safe_text(merchant.merchant_name or "")
                table.add_row(to_safe_text(merchant.merchant_id), name)
            count += 1
            if count == limit:
                return

    options.run(read_merchants, read_only=True)
    if not options.as_json:
        print_rich(table)
