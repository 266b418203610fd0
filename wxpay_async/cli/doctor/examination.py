"""Put the checks in order; what cannot be checked says so.

Nothing is sent to the platform before everything that is needed for it is right: not with a
sandbox's settings, and not without a slot of the quota.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from wxpay_async.cli.doctor.calling import check_call
from wxpay_async.cli.doctor.extras import check_extras
from wxpay_async.cli.doctor.findings import Area, Finding, Scribe, has_failed
from wxpay_async.cli.doctor.key_files import check_key_files
from wxpay_async.cli.doctor.network import check_network
from wxpay_async.cli.doctor.settings import Setup, find_problem, read_setup
from wxpay_async.cli.doctor.shared import check_quota, check_store
from wxpay_async.language import Sentence


async def examine(
    environ: Mapping[str, str], given: Mapping[str, str]
) -> AsyncIterator[list[Finding]]:
    """Check one area after the other.

    Args:
        environ: the variables, with the program's options in them.
        given: the variables of the process.

    Yields:
        What was found in each area, as soon as it is known.
    """
    setup = read_setup(environ, given)
    yield list(setup.findings)
    yield list(check_key_files(setup, environ)) or [_skip(Area.KEYS, "signature")]
    yield list(check_extras(setup))
    network = await _check_way(setup)
    yield network
    quota = await check_quota(setup.settings)
    yield [quota.finding]
    yield await check_store(setup.settings)
    try:
        if setup.parts is None or has_failed([*network, quota.finding]) or not setup.safe:
            lines = []
        else:
            lines = await check_call(setup, setup.parts, quota.limiter)
    finally:
        if quota.limiter is not None:
            await quota.limiter.aclose()
    for area, name in ((Area.CALL, "merchants"), (Area.CLOCK, "clock")):
        found = [each for each in lines if each.area is area]
        yield found or [_skip(area, name)]


async def _check_way(setup: Setup) -> list[Finding]:
    unusable = find_problem(setup.problems, "WXPAY_PROXY")
    if setup.base_url is None or unusable is not None or not setup.safe:
        return [_skip(Area.NETWORK, "network")]
    proxy = setup.settings["WXPAY_PROXY"]
    return [each async for each in check_network(setup.base_url, proxy)]


def _skip(area: Area, name: str) -> Finding:
    """Say that something was not checked, since something before it failed."""
    return Scribe(area).warn(
        name,
        Sentence("not checked", "未检查"),
        Sentence("mend what failed above, then look again", "先解决上面失败的项，再重新检查"),
    )
