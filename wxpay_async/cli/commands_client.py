"""The commands that need a platform: `trade`, `pay`, `query`, `refund` and `merchants`."""

from __future__ import annotations

from collections.abc import Awaitable
from decimal import Decimal
from typing import Annotated, Final

import typer
from typer import Option

from wxpay_async import (
    InstantTrade,
    InvalidRequestError,
    MiniProgramPay,
    PayGateway,
    PayMethod,
    PayResult,
    Refund,
    TradeItem,
    derive_request_id,
)
from wxpay_async.cli.options import Setup, client_command
from wxpay_async.cli.output import (
    as_fields,
    as_text,
    new_table,
    print_json,
    print_shown,
    show,
    show_request_payment,
)
from wxpay_async.protocol.money import EXACT, as_amount

_TOKEN_BYTES: Final = 4096

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


def _request_id(
    gateway: PayGateway, operation: str, *, number: str, given: str | None, generation: int
) -> str:
    """Return the requestId that was given, else the one that the purchase always has."""
    if not given:
        return derive_request_id(gateway.app_key, operation, number, generation)
    if generation:
        raise InvalidRequestError(
            "given beside --request-id", field="--generation", allowed="one of the two"
        )
    return given


@client_command
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
        str | None, Option(help="The payer's openid in the mini program; not for 64, 65.")
    ] = None,
    app_id: AppId = None,
    pay_product_code: Annotated[
        str, Option(help="66 debit cards, 67 all; 64 and 65 the same, scanned.")
    ] = "67",
    timeout_express: Annotated[
        str | None, Option(help="Time to pay: 0, or 10m to 7d with unit m, h or d.")
    ] = None,
    request_id: RequestId = None,
    generation: Generation = 0,
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
            request_id=_request_id(
                gateway, "trade", number=out_trade_no, given=request_id, generation=generation
            ),
            trade_info=[item],
            payer_ip=payer_ip,
            pay_method=method,
            timeout_express=timeout_express,
        )
        return gateway.trade(request, timeout=setup.timeout)

    show(
        setup.run(create),
        as_json=setup.as_json,
        only=("requestId", "payToken", "returnUrl", "instAmount", "tradeResList", "replayed"),
    )


@client_command
def pay(
    setup: Setup,
    *,
    out_trade_no: OutTradeNo,
    openid: OpenId,
    app_id: AppId = None,
    pay_token: Annotated[
        str | None, Option(help="From trade. Other users of the machine can see it.")
    ] = None,
    pay_token_file: Annotated[
        typer.FileBinaryRead | None, Option(help="File with the payToken; - for stdin.")
    ] = None,
    request_id: RequestId = None,
    generation: Generation = 0,
) -> None:
    """Turn a payToken into the object that wx.requestPayment takes.

    Repeated for the same order it ends in doubt: the platform does not give its
    first answer again. Once that prepay has expired, 20 minutes later, pay under
    the next --generation.
    """
    if (pay_token is None) == (pay_token_file is None):
        raise InvalidRequestError(
            "both or neither given", field="payToken", allowed="--pay-token or --pay-token-file"
        )
    token = pay_token or ""
    if pay_token_file is not None:
        token = pay_token_file.read(_TOKEN_BYTES).decode("utf-8", "replace").strip()

    def prepay(gateway: PayGateway) -> Awaitable[PayResult]:
        request = MiniProgramPay(
            request_id=_request_id(
                gateway, "pay", number=out_trade_no, given=request_id, generation=generation
            ),
            pay_token=token,
            terminal_payer_id=openid,
            app_id=app_id,
            out_trade_no=out_trade_no,
        )
        return gateway.pay(request, timeout=setup.timeout)

    result = setup.run(prepay)
    params, expires = result.jsapi_params(), result.expires_at
    show(
        result,
        as_json=setup.as_json,
        only=("requestId", "appId", "instAmount", "tradeResList", "expiresAt", "replayed"),
        expiresAt=expires.isoformat(timespec="seconds") if expires else None,
        requestPayment=params,
    )
    if not setup.as_json:
        show_request_payment(params, "wx.requestPayment")


@client_command
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
    show(status, as_json=setup.as_json, state=status.state.value)


@client_command
def refund(
    setup: Setup,
    *,
    out_trade_no: Annotated[str, Option(help="The refund's own number.", metavar="NO")],
    orig_out_trade_no: Annotated[str, Option(help="The order that was paid.", metavar="NO")],
    amount: Yuan,
    request_id: RequestId = None,
    generation: Generation = 0,
) -> None:
    """Give money back, all of it or a part."""

    def give_back(gateway: PayGateway) -> Awaitable[object]:
        request = Refund(
            request_id=_request_id(
                gateway, "refund", number=out_trade_no, given=request_id, generation=generation
            ),
            out_trade_no=out_trade_no,
            orig_out_trade_no=orig_out_trade_no,
            refund_amount=as_amount(amount, "refundAmount"),
        )
        return gateway.refund(request, timeout=setup.timeout)

    show(setup.run(give_back), as_json=setup.as_json)


@client_command
def merchants(
    setup: Setup,
    *,
    page_size: Annotated[int, Option(help="Sub-merchants a request.", min=1, metavar="N")] = 10,
    limit: Annotated[int | None, Option(help="Stop after so many.", min=1, metavar="N")] = None,
) -> None:
    """List the sub-merchants; with --json one object a line, as they come."""
    table = new_table()
    table.add_column("merchantId", no_wrap=True)
    table.add_column("merchantName", overflow="fold")

    async def collect(gateway: PayGateway) -> None:
        taken = 0
        async for merchant in gateway.merchants(page_size=page_size, timeout=setup.timeout):
            if setup.as_json:
                print_json(as_fields(merchant))
            else:
                table.add_row(as_text(merchant.merchant_id), as_text(merchant.merchant_name or ""))
            taken += 1
            if taken == limit:
                return

    setup.run(collect, reads=True)
    if not setup.as_json:
        print_shown(table)
