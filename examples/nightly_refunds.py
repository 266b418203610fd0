"""Refund a file of orders at night, in one process; a line of cron is its scheduler.

    15 2 * * *  cd /srv/shop && python nightly_refunds.py tonight.jsonl

The environment configures the gateway (see `PayGateway.from_env`); `WXPAY_STORE_URL` names a store
that outlives the process. The same command again continues where it stopped. It ends with 0 when
every line is refunded, else with 1.
"""

import asyncio
import sys

from wxpay_async import PayGateway
from wxpay_async.batch import Batch, read_lines


async def refund_all(path: str) -> int:
    """Bring each line to its end, and return how many are not refunded."""
    failed = 0
    async with PayGateway.from_env() as gateway:
        async for outcome in Batch(gateway).run(read_lines(path, "refund")):
            if outcome.succeeded:
                continue
            failed += 1
            # One that is in doubt may have been executed: never refund it under another number.
            line = f"line {outcome.request.number}: {outcome.kind}: {outcome.error}"
            print(line, file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(refund_all(sys.argv[1])) else 0)
