"""Define the command `doctor`: it checks what is set up, and says what to do."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from wxpay_async.cli.main import exit_with_error
from wxpay_async.cli.options import GatewayOptions, client_command
from wxpay_async.cli.output import (
    print_json,
    print_rich,
    to_safe_text,
    translate,
    write_stdout,
)
from wxpay_async.language import Sentence

if TYPE_CHECKING:
    from wxpay_async.cli.doctor.findings import Finding

_TITLES: Final = {
    "settings": Sentence("Settings", "设置"),
    "keys": Sentence("Secrets and keys", "密钥"),
    "extras": Sentence("What is installed", "已安装的组件"),
    "network": Sentence("The way to the platform", "到平台的网络"),
    "quota": Sentence("The quota", "配额"),
    "store": Sentence("The store", "存储"),
    "call": Sentence("One signed call", "一次签名调用"),
    "clock": Sentence("The clock", "时钟"),
}
_STATUSES: Final = {
    "ok": Sentence("ok", "正常"),
    "warning": Sentence("warning", "注意"),
    "failed": Sentence("failed", "失败"),
}
_COLOURS: Final = {"ok": "green", "warning": "yellow", "failed": "bold red"}
_UPLOAD: Final = Sentence(
    "The public key to upload to the platform's console", "要上传到平台后台的公钥"
)
_SUMMARY: Final = Sentence(
    "\n{checks} checks, none failed, {warnings}", "\n共检查 {checks} 项，没有失败，{warnings}"
)
_FAILURE: Final = Sentence(
    "{failed} of {checks} checks failed, {warnings}; mend first: {first}",
    "共检查 {checks} 项，{failed} 项失败，{warnings}；请先解决：{first}",
)
_WARNING: Final = Sentence("{count} warning", "{count} 项需注意")
_WARNINGS: Final = Sentence("{count} warnings", "{count} 项需注意")


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
    warnings = translate(_WARNING if count == 1 else _WARNINGS, count=count)
    if code:
        counts = {"failed": len(failed), "checks": len(found), "warnings": warnings}
        exit_with_error(translate(_FAILURE, **counts, first=failed[0]), code)
    if not options.as_json:
        print_rich(translate(_SUMMARY, checks=len(found), warnings=warnings))


async def _examine(environ: Mapping[str, str], *, as_json: bool) -> list[Finding]:
    from wxpay_async.cli.doctor.examination import examine  # noqa: PLC0415 - help does without

    found: list[Finding] = []
    async for findings in examine(environ, os.environ):
        found += findings
        if not as_json:
            _print_area(findings)
    return found


def _print_area(findings: Sequence[Finding]) -> None:
    from rich.cells import cell_len  # noqa: PLC0415 - the help texts do without it
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - help does without

    words = {status: translate(word) for status, word in _STATUSES.items()}
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, min_width=max(cell_len(each) for each in words.values()))
    grid.add_column(overflow="fold")
    for each in findings:
        line = Text.assemble((to_safe_text(each.name), "bold"), f": {to_safe_text(each.text)}")
        grid.add_row(Text(words[each.status.value], style=_COLOURS[each.status.value]), line)
        if "fingerprint" in each.facts:
            grid.add_row("", f"SHA-256 {each.facts['fingerprint']}")  # as wide as the column
        if each.advice:
            grid.add_row("", Text(f"→ {to_safe_text(each.advice)}", style="dim"))
    print_rich(Text(f"\n{translate(_TITLES[findings[0].area.value])}", style="bold underline"))
    print_rich(grid)


def _print_public_key(findings: Sequence[Finding]) -> None:
    """Print the merchant's public key so that it can be copied in one piece."""
    from rich.rule import Rule  # noqa: PLC0415 - as above

    for each in findings:
        key = each.facts.get("publicKey")
        if isinstance(key, str):
            print_rich("")
            print_rich(Rule(translate(_UPLOAD), style="dim", align="left"))
            write_stdout(f"{key}\n")  # wrapped by the terminal only
