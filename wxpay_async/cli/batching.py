"""Define the commands for files of requests: `batch`, and `worker` for several machines.

There is no command to resume, to look at or to cancel a run: the same command continues it,
`--report` looks, and Ctrl-C ends it.
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen
from rich.console import Console

from wxpay_async import InvalidRequestError, NotSentError
from wxpay_async.cli.batch_options import (
    AsCsv,
    Broker,
    Check,
    Concurrency,
    CredentialsPath,
    File,
    Html,
    OperationOption,
    Out,
    Processes,
    QuotaUrl,
    Report,
    Share,
    StoreUrl,
)
from wxpay_async.cli.main import exit_with_error
from wxpay_async.cli.options import GatewayOptions, client_command
from wxpay_async.cli.output import WARNING, print_json, translate, write_stderr, write_stdout
from wxpay_async.cli.signals import exit_code_of
from wxpay_async.language import Sentence

if TYPE_CHECKING:
    from wxpay_async.batch.lines import Lines
    from wxpay_async.batch.outcome_file import Stamp
    from wxpay_async.batch.tally import Tally
    from wxpay_async.cli.batch_inputs import Places
    from wxpay_async.cli.progress import Progress

_BAD_INPUT: Final = 2
_NO_CREDENTIALS: Final = Sentence(
    "what wx.requestPayment takes stays in the store: --credentials PATH writes it",
    "wx.requestPayment 所需的参数只保存在存储中；用 --credentials PATH 可写入文件",
)
_NEXT: Final = Sentence("next:", "下一步:")
_CANCELLED: Final = Sentence(
    "cancelled; what was under way may have been executed. The same command finds out, and goes on",
    "已取消；正在进行的请求可能已经执行。再次运行同一条命令即可查明并继续",
)
_STOPPED: Final = Sentence(
    "stopped; the same command goes on, and sends nothing twice",
    "已停止；再次运行同一条命令即可继续，不会重复发送",
)
_OPEN: Final = Sentence(
    "the same command tries again what has no end, and sends nothing twice",
    "再次运行同一条命令会重试未了结的行，不会重复发送",
)


@client_command
def batch(  # noqa: PLR0913 - the options of the command
    options: GatewayOptions,
    file: File,
    *,
    operation: OperationOption = None,
    broker: Broker = None,
    store: StoreUrl = None,
    quota: QuotaUrl = None,
    share: Share = None,
    out: Out = None,
    csv: AsCsv = False,
    check: Check = False,
    report: Report = False,
    html: Html = None,
    credentials: CredentialsPath = None,
    concurrency: Concurrency = 64,
) -> None:
    """Bring every line of a file to its end, each exactly once.

    Interrupted or killed, the same command goes on where it stopped. It may
    take days: the quota allows 380 lines a minute.
    """
    from wxpay_async.batch.lines import read_lines  # noqa: PLC0415 - the help texts do without it
    from wxpay_async.cli.batch_inputs import Places, find_operation  # noqa: PLC0415

    _refuse_combinations(check=check, report=report, html=html, changes=bool(csv or credentials))
    environment = options.build_environment()
    if not environment.get("WXPAY_APP_KEY", "").strip():
        raise InvalidRequestError("not set", field="WXPAY_APP_KEY", allowed="the appKey")
    name = find_operation(file) if operation is None else operation.value
    lines = read_lines(file, name)
    job = _Job(
        options=options,
        lines=lines,
        app_key=environment["WXPAY_APP_KEY"].strip(),
        places=Places.choose(file, out, as_csv=csv),
        store=store,
        quota=quota,
        share=share,
        broker=broker or os.environ.get("WXPAY_BROKER_URL", "").strip() or None,
        concurrency=concurrency,
    )
    if credentials is not None and name != "pay":
        raise InvalidRequestError(
            f"a {name} has no credentials", field="--credentials", allowed="for pay"
        )
    if report:
        job.report(html)
    else:
        total = job.check(is_answer=check)
        if not check:
            job.run(total, credentials)


def _refuse_combinations(*, check: bool, report: bool, html: Path | None, changes: bool) -> None:
    if check and report:
        raise InvalidRequestError("both given", field="--check, --report", allowed="one of them")
    if html is not None and not report:
        raise InvalidRequestError("it shows what is read", field="--html", allowed="with --report")
    if changes and (check or report):
        raise InvalidRequestError(
            "nothing is written now",
            field="--csv, --credentials",
            allowed="without --check and --report",
        )


@frozen(kw_only=True)
class _Job:
    """What the options of `batch` ask for."""

    options: GatewayOptions
    lines: Lines
    app_key: str
    places: Places
    store: str | None
    quota: str | None
    share: int | None
    broker: str | None
    concurrency: int

    def check(self, *, is_answer: bool) -> int:
        """Check the whole file; return how many lines it has. A fault ends the command."""
        from wxpay_async.cli.batch_summary import print_faults  # noqa: PLC0415 - as above

        with _show_work(f"checking {self.lines.path}"):
            checked = self.lines.check(self.app_key)
        if is_answer or checked.faults:
            print_faults(self.lines.path, checked, as_json=self.options.as_json)
        if checked.faults:
            count = len(checked.faults) + checked.more
            faults = "1 fault" if count == 1 else f"{count:,} faults"
            exit_with_error(f"{self.lines.path}: {faults}; nothing was sent", _BAD_INPUT)
        return checked.lines

    def report(self, html: Path | None) -> None:
        """Show from the store how the lines stand."""
        import asyncio  # noqa: PLC0415 - as above

        from wxpay_async.cli.batch_inputs import STORE, find_sqlite_file  # noqa: PLC0415
        from wxpay_async.cli.batch_run import read_report  # noqa: PLC0415 - help does without

        if self.lines.operation == "query":
            raise InvalidRequestError(
                "queries leave nothing in the store", field="--report", allowed="pay, trade, refund"
            )
        url = self._choose_store()
        file = find_sqlite_file(url)
        if file is not None and not file.exists():
            raise InvalidRequestError(
                f"{file} is not there: no batch has begun", field="--store", allowed="that of a run"
            )
        gateway = self.options.make_gateway({STORE: url})
        with _show_work("reading the store"):
            tally = asyncio.run(
                read_report(gateway, self.lines, self.places, self._make_stamp(url), html)
            )
        self._print("report", tally, code=tally.exit_code, html=html)
        raise SystemExit(tally.exit_code)

    def run(self, total: int, credentials: Path | None) -> None:
        """Run the batch."""
        import asyncio  # noqa: PLC0415 - as above

        from wxpay_async.cli.progress import Progress  # noqa: PLC0415 - help does without

        url = self._choose_store()
        if self.broker is not None:
            from wxpay_async.cli.batch_inputs import check_shared  # noqa: PLC0415

            check_shared(url, self.quota)
        self._prepare_store_file(url)
        if self.lines.operation == "pay" and credentials is None:
            write_stderr(
                translate(WARNING),
                translate(_NO_CREDENTIALS),
                colour="yellow",
            )
        progress = Progress(
            operation=self.lines.operation, total=total, has_workers=self.broker is not None
        )
        # What was imported stays: to pass over it took a third of a recall (measured).
        gc.freeze()
        try:
            code = asyncio.run(self._run(url, progress, credentials))
        finally:
            gc.unfreeze()  # for a program that runs the command in its own process
        raise SystemExit(code)

    async def _run(self, url: str, progress: Progress, credentials: Path | None) -> int:
        from wxpay_async.batch.outcome_file import Credentials  # noqa: PLC0415 - as above
        from wxpay_async.batch.watched_calls import note_attempts  # noqa: PLC0415
        from wxpay_async.cli.batch_inputs import name_settings  # noqa: PLC0415 - as above
        from wxpay_async.cli.batch_run import BatchRun, check_store  # noqa: PLC0415

        variables = name_settings(store=url, quota=self.quota, share=self.share)
        async with AsyncExitStack() as stack:
            gateway = self.options.make_gateway(variables, hooks=[progress, note_attempts])
            stack.push_async_callback(gateway.aclose)
            await check_store(gateway)
            stamp = self._make_stamp(url)
            self._announce(progress.total, stamp)
            run = BatchRun(
                gateway=gateway,
                lines=self.lines,
                stamp=stamp,
                places=self.places,
                progress=progress,
                credentials=stack.enter_context(Credentials(credentials)) if credentials else None,
                concurrency=self.concurrency,
                as_json=self.options.as_json,
            )
            if self.broker is not None:
                from wxpay_async.cli.brokers import open_sender  # noqa: PLC0415 - an extra

                run.send = await stack.enter_async_context(open_sender(self.broker, self.app_key))
            await stack.enter_async_context(gateway)
            tally = await run.run()
        code = exit_code_of(run.signalled) if run.signalled else tally.exit_code if tally else 0
        if tally is not None:
            self._print("ended", tally, code=code, credentials=credentials)
        self._say_how_to_go_on(tally, stopped=run.signalled is not None)
        return code

    def _choose_store(self) -> str:
        from wxpay_async.cli.batch_inputs import choose_store  # noqa: PLC0415 - as above

        return choose_store(self.store, self.lines.path)

    def _prepare_store_file(self, url: str) -> None:
        """Create the SQLite file, for its owner only; refuse if an earlier run's file is lost."""
        from wxpay_async.batch.outcome_file import Stamp  # noqa: PLC0415 - as above
        from wxpay_async.cli.batch_inputs import (  # noqa: PLC0415 - help does without
            create_privately,
            find_sqlite_file,
        )

        file, outcomes = find_sqlite_file(url), self.places.outcomes
        if file is None:
            return
        if outcomes.exists() and not file.exists():
            first = Stamp.read(outcomes)
            first.check(outcomes, self._make_stamp(url), retention=math.inf)
            raise InvalidRequestError(
                f"{file} is gone, and {outcomes} is of a run that used it: lines that "
                "were executed would be sent again",
                field="--store, WXPAY_STORE_URL",
                allowed="the store of the first run",
            )
        create_privately(file)

    def _make_stamp(self, url: str) -> Stamp:
        from wxpay_async.batch.outcome_file import Stamp, identify_store  # noqa: PLC0415

        return Stamp(
            store=identify_store(url),
            app_key=self.app_key,
            operation=self.lines.operation,
            input=self.lines.path.name,
            begun_at=datetime.now(UTC),
        )

    def _announce(self, total: int, stamp: Stamp) -> None:
        workers = " by workers" if self.broker else ""
        if self.options.as_json:
            print_json(
                {
                    "event": "begun",
                    "operation": stamp.operation,
                    "lines": total,
                    "store": stamp.store,
                    "workers": bool(workers),
                }
            )
        else:
            write_stdout(
                f"store {stamp.store}: {stamp.operation} of {total:,} lines{workers}, "
                f"{self.lines.path}\n"
            )

    def _print(self, event: str, tally: Tally, *, code: int, **more: Path | None) -> None:
        from wxpay_async.cli.batch_summary import print_tally, to_json  # noqa: PLC0415 - as above

        files: dict[str, Path | None] = dict(more)
        if event == "ended":
            files = {"outcomes": self.places.outcomes, "table": self.places.table, **more}
        if self.options.as_json:
            print_json(to_json(event, tally, files, code=code))
        else:
            print_tally(tally, files, code=code)

    def _say_how_to_go_on(self, tally: Tally | None, *, stopped: bool) -> None:
        if tally is None:
            text = _CANCELLED
        elif stopped:
            text = _STOPPED
        elif tally.exit_code in {3, 4}:
            text = _OPEN
        else:
            return
        write_stderr(translate(_NEXT), translate(text), colour="yellow")


@contextmanager
def _show_work(text: str) -> Generator[None]:
    """Show on a terminal that the command works."""
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        yield
        return
    with console.status(text):
        yield


@client_command
def worker(
    options: GatewayOptions,
    *,
    broker: Broker = None,
    store: StoreUrl = None,
    quota: QuotaUrl = None,
    share: Share = None,
    processes: Processes = 2,
) -> None:
    """Make the calls of batches that run with --broker; on any number of machines.

    taskiq runs the processes, and restarts a process that ends. After Ctrl-C or
    SIGTERM the calls under way have ten seconds to end, and other workers take
    over the rest.
    """
    from wxpay_async.cli.batch_inputs import (  # noqa: PLC0415 - as above
        QUOTA,
        STORE,
        check_shared,
        name_settings,
    )
    from wxpay_async.cli.brokers import BROKER, load_broker, run_workers  # noqa: PLC0415 - an extra

    environment = options.build_environment()
    environment |= name_settings(store=store, quota=quota, share=share)
    environment |= {BROKER: broker} if broker else {}
    if not environment.get(BROKER, "").strip():
        raise InvalidRequestError(
            "not set", field=f"--broker, {BROKER}", allowed="amqp://..., or module:variable"
        )
    check_shared(environment.get(STORE, ""), environment.get(QUOTA))
    app_key = options.make_gateway(environment).app_key  # one report of a fault
    environment["WXPAY_APP_KEY"] = app_key
    load_broker(environment[BROKER].strip(), app_key)
    os.environ.update(environment)  # what the processes inherit
    code = run_workers(processes)
    if code:
        raise NotSentError("the workers ended; their log says why")
