"""Define the commands about what is open: `doubts list`, `show`, `resolve` and `recover`."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
from typer import Argument, Option

import wxpay_async as wx
from wxpay_async.cli.doubts_screen import describe, print_doubt, print_doubts, print_resolved
from wxpay_async.cli.main import EXIT_BY_FATE, EXIT_CODES, app
from wxpay_async.cli.options import ClientOptions, client_command
from wxpay_async.cli.output import print_json, translate, write_stderr
from wxpay_async.language import Sentence

if TYPE_CHECKING:
    from wxpay_async.engine.open_operations import OpenOperation

T = TypeVar("T")

_OPEN: Final = EXIT_BY_FATE[wx.Fate.IN_DOUBT][1]
"""The exit code where something is open."""

_STORE: Final = "WXPAY_STORE_URL"
_RECOVERED: Final = Sentence("recovered:", "恢复:")
_RECOVERY: Final = Sentence(
    "{settled} ended, {left} still open", "已了结 {settled} 个，仍未了结 {left} 个"
)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

doubts = typer.Typer(
    epilog=EXIT_CODES,
    help="Show what is open or waits for a person; find out what became of it. The exit code of "
    "list and recover is 4 while something is open, and 0 when nothing is.",
)
app.add_typer(doubts, name="doubts")


class OpenState(enum.StrEnum):
    """The states of what is open."""

    SENDING = "sending"
    UNKNOWN = "unknown"
    PENDING = "pending"
    CONFLICT = "conflict"
    NEEDS_REVIEW = "needs_review"


class Operation(enum.StrEnum):
    """What can be open."""

    PAY = "pay"
    TRADE = "trade"
    REFUND = "refund"


class Verdict(enum.StrEnum):
    """What a person found."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NOT_EXECUTED = "not-executed"


RequestId = Annotated[
    str, Argument(help="The requestId of the operation.", metavar="REQUEST_ID", show_default=False)
]


@doubts.callback(invoke_without_command=True)
def _show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def list_doubts(
    options: ClientOptions,
    *,
    state: Annotated[
        list[OpenState] | None, Option(help="Only these; may be given several times.")
    ] = None,
    operation: Annotated[Operation | None, Option(help="Only this one.")] = None,
    older_than: Annotated[
        str | None, Option(help="Only what is open for longer: 90s, 10m, 2h, 1d.", metavar="TIME")
    ] = None,
) -> None:
    """List what is open in the store, and what waits for a person. No call is made.

    In JSON each operation is a line. Exit code 4 says that something is open.
    """
    seconds = None if older_than is None else _read_seconds(older_than)

    async def work(gateway: wx.PayGateway) -> int:
        found = gateway.open_operations(
            state=None if not state else [each.value for each in state],
            operation=None if operation is None else operation.value,
            older_than=seconds,
        )
        return await _print_each(found) if options.as_json else await print_doubts(found)

    if _read_store(options, work):
        raise typer.Exit(_OPEN)


list_doubts.__name__ = "list"
client_command(list_doubts, group=doubts)


def show(options: ClientOptions, *, request_id: RequestId) -> None:
    """Show an operation that is open, and what can be done about it. No call is made."""

    async def find(gateway: wx.PayGateway) -> OpenOperation | None:
        opened = gateway.open_operations()
        return await anext((one async for one in opened if one.request_id == request_id), None)

    found = _read_store(options, find)
    if found is None:
        raise wx.InvalidRequestError(
            "the operation is not open: it has ended, or the store does not know it",
            field="REQUEST_ID",
            allowed="one that `doubts list` shows",
        )
    if options.as_json:
        print_json(describe(found))
    else:
        print_doubt(found)


client_command(show, group=doubts)


def resolve(
    options: ClientOptions,
    *,
    request_id: RequestId,
    verdict: Annotated[
        Verdict | None,
        Option(
            help="What a person found out of an operation that waits for one: succeeded; failed or "
            "not-executed, after which its next generation may go."
        ),
    ] = None,
    by: Annotated[str, Option(help="Who says so; it is kept.", metavar="NAME")] = "",
    why: Annotated[
        str, Option(help="How it is known, e.g. the number of a case; it is kept.", metavar="TEXT")
    ] = "",
) -> None:
    """Ask the platform what became of an operation, or record what a person found out.

    The platform is asked first. A person's verdict is taken only where its
    answer settles nothing, and only of what waits for a person. Exit codes: 0 it
    succeeded, 1 it was refused, failed or never executed, 3 nothing was sent so
    far, 4 it is still open.
    """
    _require_store(options)
    found = _make_verdict(verdict, by, why)

    def ask(gateway: wx.PayGateway) -> Awaitable[wx.Outcome[str, object]]:
        return gateway.resolve(request_id, verdict=found)

    outcome = options.run(ask, read_only=True)
    print_resolved(outcome, as_json=options.as_json)
    if outcome.error is not None:
        raise typer.Exit(EXIT_BY_FATE[outcome.error.fate][1])


client_command(resolve, group=doubts)


def recover(options: ClientOptions) -> None:
    """Ask the platform once about all that is open and due; for a cron job.

    A running gateway does this every 30 s by itself. Exit code 4 says that
    something is still open.
    """
    _require_store(options)

    async def work(gateway: wx.PayGateway) -> tuple[int, int]:
        settled = await gateway.recover()
        return settled, len([one async for one in gateway.open_operations()])

    settled, left = options.run(work, read_only=True)
    if options.as_json:
        print_json({"settled": settled, "open": left})
    else:
        write_stderr(
            translate(_RECOVERED),
            translate(_RECOVERY, settled=settled, left=left),
            colour="yellow" if left else "green",
        )
    if left:
        raise typer.Exit(_OPEN)


client_command(recover, group=doubts)


def _read_store(options: ClientOptions, work: Callable[[wx.PayGateway], Awaitable[T]]) -> T:
    """Do work that only reads the store: no recovery runs beside it, and no call is made."""
    import asyncio  # noqa: PLC0415 - the help texts do without it

    _require_store(options)
    gateway = options.make_gateway()

    async def read() -> T:
        try:
            return await work(gateway)
        finally:
            await gateway.aclose()

    return asyncio.run(read())


async def _print_each(found: AsyncIterator[OpenOperation]) -> int:
    count = 0
    async for one in found:
        print_json(describe(one))
        count += 1
    return count


def _require_store(options: ClientOptions) -> None:
    """Refuse to look into the memory of a process that has just begun."""
    if not options.build_environment().get(_STORE, "").strip():
        raise wx.InvalidRequestError(
            "not set, so there is no store to look into",
            field=_STORE,
            allowed="the address that the service uses",
        )


def _make_verdict(verdict: Verdict | None, by: str, why: str) -> wx.ReviewVerdict | None:
    if verdict is None:
        if by or why:
            raise wx.InvalidRequestError(
                "not given", field="--verdict", allowed=f"with --by and --why: {', '.join(Verdict)}"
            )
        return None
    if not why.strip():
        raise wx.InvalidRequestError("not given", field="--why", allowed="how it is known")
    note = f"failed: {why}" if verdict is Verdict.FAILED else why
    return wx.ReviewVerdict(executed=verdict is Verdict.SUCCEEDED, by=by, note=note)


def _read_seconds(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if unit not in _SECONDS or not (number.isascii() and number.isdigit()):
        raise wx.InvalidRequestError(
            "not a time", field="--older-than", allowed="a number and s, m, h or d, as 10m"
        )
    return float(number) * _SECONDS[unit]
