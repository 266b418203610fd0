"""Connect a batch and its workers by a broker: RabbitMQ by its address, or the merchant's own.

taskiq starts the worker processes. Each makes its broker with `make_worker_broker`, from the
environment that it inherits.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import AsyncGenerator
from typing import Any, Final, cast

from wxpay_async import InvalidRequestError, NotSentError, PayGateway
from wxpay_async.batch.coordinating import Send
from wxpay_async.extras import how_to_install

try:
    from taskiq import AsyncBroker
    from taskiq.cli.utils import import_object
    from taskiq.cli.worker.args import WorkerArgs
    from taskiq.cli.worker.run import run_worker

    from wxpay_async.integrations.taskiq import batch_task, rabbitmq
except ImportError as error:
    raise InvalidRequestError(f"install it with: {how_to_install('taskiq')}") from error

BROKER: Final = "WXPAY_BROKER_URL"

_TASK: Final = "wxpay_async.batch"
_LAST_CALLS: Final = 10.0
_GOODBYE: Final = 15.0
"""Seconds for the calls under way when a worker is stopped, and then for closing everything. A
container that is stopped has 30. Another worker takes over the lines that are left."""


def run_workers(processes: int) -> int:
    """Run worker processes until a signal ends them; return the exit code."""
    arguments = WorkerArgs(
        broker=f"{__name__}:{make_worker_broker.__name__}",
        modules=[],
        workers=processes,
        wait_tasks_timeout=_LAST_CALLS,
        shutdown_timeout=_GOODBYE,
    )
    return run_worker(arguments) or 0


def make_worker_broker() -> AsyncBroker:
    """Make the broker of a worker process; the environment says which.

    Raises:
        InvalidRequestError: it names none.
    """
    broker = load_broker(os.environ[BROKER], os.environ["WXPAY_APP_KEY"])
    if not isinstance(broker, AsyncBroker):
        raise _make_error("no broker of taskiq")
    _find_send(broker)
    return broker


@contextlib.asynccontextmanager
async def open_sender(name: str, app_key: str) -> AsyncGenerator[Send]:
    """Connect to a broker; yield the function that sends it a message.

    Raises:
        InvalidRequestError: it is no broker.
        NotSentError: it cannot be reached.
    """
    broker = load_broker(name, app_key)
    if not isinstance(broker, AsyncBroker):
        yield broker
        return
    send = _find_send(broker)
    try:
        await broker.startup()
    except Exception as error:  # noqa: BLE001 - of any library; its text may hold the address
        raise NotSentError(f"the broker cannot be reached ({type(error).__name__})") from None
    try:
        yield send
    finally:
        with contextlib.suppress(Exception):  # what was sent is sent
            await broker.shutdown()


def load_broker(name: str, app_key: str) -> AsyncBroker | Send:
    """Return the broker that an address or a `module:variable` names, or an async function.

    Raises:
        InvalidRequestError: it names none.
    """
    if "://" in name:
        if not name.lower().startswith(("amqp://", "amqps://")):
            raise _make_error("no address of RabbitMQ")
        return rabbitmq(name, queue=f"wxpay-batch-{app_key}")
    try:
        found: Any = import_object(name)
        if inspect.isfunction(found) and not inspect.iscoroutinefunction(found):
            found = found()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise _make_error(f"cannot be imported ({error})") from None
    if isinstance(found, AsyncBroker) or inspect.iscoroutinefunction(found):
        return cast("AsyncBroker | Send", found)
    raise _make_error("no broker of taskiq, and no async function")


def _find_send(broker: AsyncBroker) -> Send:
    """Return the function that sends to the task; register the task if its module did not."""
    task = broker.find_task(_TASK)
    return batch_task(broker, PayGateway.from_env) if task is None else task.kiq


def _make_error(reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        reason,
        field=f"--broker, {BROKER}",
        allowed="amqp://user:password@host/vhost, amqps://, or module:variable",
    )
