"""Define the command `doctor`: it checks what is set up, and says what to do."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from wxpay_async.cli.main import exit_with_error
from wxpay_async.cli.options import GatewayOptions, client_command
from wxpay_async.cli.output import print_json, print_rich, to_safe_text, write_stdout

if TYPE_CHECKING:
    from wxpay_async.cli.doctor.findings import Finding

_TITLES: Final = {
    "settings": "Settings",
    "keys": "Secrets and keys",
    "extras": "What is installed",
    "network": "The way to the platform",
    "quota": "The quota",
    "store": "The store",
    "call": "One signed call",
    "clock": "The clock",
}
_COLOURS: Final = {"ok": "green", "warning": "yellow", "failed": "bold red"}
_UPLOAD: Final = "The public key to upload to the platform's console"


@client_command
def doctor(options: GatewayOptions) -> None:
    """Check settings, keys, network, store and clock, and make one call; no money moves.

    Each line is ok, a warning or failed, and says what to do. The call lists
    sub-merchants; it is not made where something that it needs has failed. No
    secret is printed.
    """
    import asyncio  # noqa: PLC0415 - the help texts do without it

    from wxpay_async.cli.doctor.findings import choose_exit_code  # noqa: PLC0415

    environ = options.build_environment()
    found = asyncio.run(_examine(environ, as_json=options.as_json))
    code = choose_exit_code(found)
    if options.as_json:
        print_json({"exitCode": code, "checks": [each.to_json() for each in found]})
    else:
        _print_public_key(found)
    failed = [to_safe_text(each.name) for each in found if each.status == "failed"]
    count = sum(each.status == "warning" for each in found)
    warnings = f"{count} warning{'' if count == 1 else 's'}"
    if code:
        counts = f"{len(failed)} of {len(found)} checks failed, {warnings}"
        exit_with_error(f"{counts}; mend first: {failed[0]}", code)
    if not options.as_json:
        print_rich(f"\n{len(found)} checks, none failed, {warnings}")


async def _examine(environ: Mapping[str, str], *, as_json: bool) -> list[Finding]:
    from wxpay_async.cli.doctor.examination import examine  # noqa: PLC0415 - help does without

    found: list[Finding] = []
    async for findings in examine(environ, os.environ):
        found += findings
        if not as_json:
            _print_area(findings)
    return found


def _print_area(findings: Sequence[Finding]) -> None:
    from rich.table import Table  # noqa: PLC0415 - the help texts do without it
    from rich.text import Text  # noqa: PLC0415 - help does without

    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, min_width=len("warning"))
    grid.add_column(overflow="fold")
    for each in findings:
        line = Text.assemble((to_safe_text(each.name), "bold"), f": {to_safe_text(each.text)}")
        grid.add_row(Text(each.status.value, style=_COLOURS[each.status.value]), line)
        if "fingerprint" in each.facts:
            grid.add_row("", f"SHA-256 {each.facts['fingerprint']}")  # as wide as the column
        if each.advice:
            grid.add_row("", Text(f"→ {to_safe_text(each.advice)}", style="dim"))
    print_rich(Text(f"\n{_TITLES[findings[0].area.value]}", style="bold underline"))
    print_rich(grid)


def _print_public_key(findings: Sequence[Finding]) -> None:
    """Print the merchant's public key so that it can be copied in one piece."""
    from rich.rule import Rule  # noqa: PLC0415 - as above

    for each in findings:
        key = each.facts.get("publicKey")
        if isinstance(key, str):
            print_rich("")
            print_rich(Rule(_UPLOAD, style="dim", align="left"))
            write_stdout(f"{key}\n")  # wrapped by the terminal only
