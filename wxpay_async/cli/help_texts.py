"""Show the help in Chinese: the texts of commands, and how they take the place of the English ones.

Only a program that speaks Chinese imports this. A text is found by its English one, so a text that
changes needs its Chinese one changed, too; a test finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import typer

from wxpay_async.cli.help_of_options import OPTION_TEXTS
from wxpay_async.cli.output import join_lines

COMMAND_TEXTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Take WeChat mini-program payments; see them work without a platform first: try `demo`.": (
            "小程序微信支付的命令行。先试 `demo`：不需要平台就能看到支付全过程。"
        ),
        (
            "Exit codes: 0 done; 1 refused by the platform, a signature differs, or the demo "
            "went wrong; 2 bad input or configuration, nothing was sent; 3 not sent, try again; "
            "4 in doubt, the request may have been executed, or its answer could not be shown: "
            "query before anything else; 130 interrupted, 143 terminated."
        ): (
            "退出码：0 完成；1 被平台拒绝、签名不一致，或 demo 出错；2 输入或配置有误，"
            "什么也没有发出；3 没有发出，可以再试；4 结果未知，请求可能已经执行，或应答无法显示："
            "先查询，再做别的；130 被中断，143 被终止。"
        ),
        (
            "Bring every line of a file to its end, each exactly once. Interrupted or killed, "
            "the same command goes on where it stopped. It may take days: the quota allows 380 "
            "lines a minute."
        ): (
            "让文件里的每一行都得到结果，每行恰好执行一次。\n\n中断或被杀死之后，用同样的命令从停"
            "下的地方继续。可能要运行好几天：配额每分钟只允许 380 行。"
        ),
        (
            "Make the calls of batches that run with --broker; on any number of machines. taskiq "
            "runs the processes, and restarts a process that ends. After Ctrl-C or SIGTERM the "
            "calls under way have ten seconds to end, and other workers take over the rest."
        ): (
            "为带 --broker 运行的批量发出调用；可以在任意多台机器上运行。\n\n进程由 taskiq 管理，"
            "退出的进程会重新启动。收到 Ctrl-C 或 SIGTERM 后，正在进行的调用有十秒钟时间结束，"
            "其余的由别的 worker 接手。"
        ),
        "Create an order of one item, and print its payToken.": (
            "创建只有一件商品的订单，并打印它的 payToken。"
        ),
        (
            "Turn a payToken into the object that wx.requestPayment takes. Repeated for the same "
            "order it ends in doubt: the platform does not give its first answer again. Once "
            "that prepay has expired, 20 minutes later, pay under the next --generation."
        ): (
            "用 payToken 换取 wx.requestPayment 的参数。\n\n对同一订单重复执行，结果未知："
            "平台不会再次给出第一次的应答。20 分钟后那次预支付过期，此时递增 --generation，"
            "用得到的新 requestId 重新发起支付。"
        ),
        "Ask the platform for the status of one order.": "向平台查询一个订单的状态。",
        "Give money back, all of it or a part.": "退款，可以全额，也可以部分。",
        "List the sub-merchants; with --json one object a line, as they come.": (
            "列出子商户；加 --json 时每行一个对象，得到一个打印一个。"
        ),
        (
            "Check settings, keys, network, store and clock, and make one call; no money moves. "
            "Each line is ok, a warning or failed, and says what to do. The call lists "
            "sub-merchants; it is not made where something that it needs has failed. No secret "
            "is printed."
        ): (
            "检查设置、密钥、网络、存储和时钟，并发出一次调用；不会动用资金。\n\n每一行是正常、"
            "警告或失败，并说明该怎么办。这次调用列出子商户；它所需要的某一项失败时就不发出。"
            "不打印任何密钥。"
        ),
        "Pay against a sandbox of its own, and check ledger and callbacks. No money moves.": (
            "在自带的沙箱里支付，并核对账目和回调。不会动用资金。"
        ),
        "Run a whole platform on this machine, until Ctrl-C. No money moves.": (
            "在本机运行一个完整的平台，直到按下 Ctrl-C。不会动用资金。"
        ),
        (
            "Show what is open or waits for a person; find out what became of it. The exit code "
            "of list and recover is 4 while something is open, and 0 when nothing is."
        ): (
            "列出未了结的和需人工介入的操作，查明它们的结果。list 和 recover 的退出码："
            "还有未了结的为 4，没有则为 0。"
        ),
        (
            "List what is open in the store, and what waits for a person. No call is made. In "
            "JSON each operation is a line. Exit code 4 says that something is open."
        ): (
            "列出存储里未了结的和需人工介入的操作。不发出调用。\n\nJSON 每行一个操作。退出码 4 "
            "表示还有未了结的。"
        ),
        "Show an operation that is open, and what can be done about it. No call is made.": (
            "显示一个未了结的操作，以及可以怎么做。不发出调用。"
        ),
        (
            "Ask the platform what became of an operation, or record what a person found out. "
            "The platform is asked first. A person's verdict is taken only where its answer "
            "settles nothing, and only of what waits for a person. Exit codes: 0 it succeeded, 1 "
            "it was refused, failed or never executed, 3 nothing was sent so far, 4 it is still "
            "open."
        ): (
            "向平台查明一个操作的结果，或记录人工查明的结果。\n\n总是先查询平台。只有平台的应答不"
            "能定论，并且操作需人工介入时，才采纳人工裁决。退出码：0 已成功，1 被拒绝、"
            "失败或从未执行，3 目前什么也没有发出，4 仍未了结。"
        ),
        (
            "Ask the platform once about all that is open and due; for a cron job. A running "
            "gateway does this every 30 s by itself. Exit code 4 says that something is still "
            "open."
        ): (
            "对所有未了结并且到期的操作向平台查询一次；用于定时任务。\n\n运行中的 gateway 每 30 "
            "s 自己做一次。退出码 4 表示还有未了结的。"
        ),
        "Make an RSA key; show what is in a file; print the public key.": (
            "生成 RSA 密钥；查看文件里是什么；打印公钥。"
        ),
        (
            "Make a private key of 3072 bits, PKCS#8 in PEM, that only you can read. It is "
            "encrypted if WXPAY_PRIVATE_KEY_PASSPHRASE is set. A file that exists is never "
            "written over. The public key that is printed goes into the platform's console."
        ): (
            "生成 3072 位的私钥，格式为 PEM 的 PKCS#8，只有您能读取。\n\n设置了 "
            "WXPAY_PRIVATE_KEY_PASSPHRASE 时会加密。绝不覆盖已有的文件。打印出的公钥要填到平台的"
            "控制台。"
        ),
        (
            "Say what is in a key file: private or public, format, bits, fingerprint. The "
            "fingerprint is the SHA-256 of the public key in DER, the same for both halves of a "
            "pair: compare it with that of the key in the platform's console."
        ): (
            "说明密钥文件里是什么：私钥还是公钥、格式、位数、指纹。\n\n指纹是 DER 格式公钥的 "
            "SHA-256，一对密钥的两半相同：请与平台控制台里的密钥比对。"
        ),
        "Print the public key as the platform's console asks for it: Base64 on one line.": (
            "按平台控制台要求的格式打印公钥：一行 Base64。"
        ),
        "Make, verify and explain signatures, without sending anything.": (
            "签名、验签并解释签名，不发出任何请求。"
        ),
        (
            "Show how a signature comes about, and why another one differs. MD5: the canonical "
            "string, then &appSecret=<secret>, hashed. RSA: the canonical string with "
            "signType=RSA, signed by SHA-256 and PKCS#1 v1.5. The exit code is 1 if the other "
            "side's text differs."
        ): (
            "显示签名是怎样算出来的，以及另一个签名为什么不同。\n\nMD5：待签名字符串，加上 "
            "&appSecret=<secret>，再散列。RSA：待签名字符串带 signType=RSA，用 SHA-256 和 PKCS#1 "
            "v1.5 签名。对方的文本不同时，退出码为 1。"
        ),
        "Sign a request, and print what is added to it: appKey, nonce, timestamp, sign.": (
            "为请求签名，并打印要加上的参数：appKey、nonce、timestamp、sign。"
        ),
        (
            "Verify the signature of a request or a callback with all its parameters. The exit "
            "code is 1 if it is wrong; the likely cause is shown."
        ): "对请求或回调的全部参数验签。\n\n签名错误时退出码为 1，并显示可能的原因。",
        "Prepare the database of a durable store.": "为持久存储准备数据库。",
        "Print the SQL that makes the tables, for SqlStore(create=False).": (
            "打印建表的 SQL，用于 SqlStore(create=False)。"
        ),
    }
)
"""For each English text of a command, on one line, the Chinese one with its paragraphs."""

COMMANDS: Final = "命令"
OPTIONS: Final = "选项"
ARGUMENTS: Final = "参数"
"""The titles of the panels."""

_TEXTS: Final = {**COMMAND_TEXTS, **OPTION_TEXTS}

# Newer versions of typer carry a click of their own, so commands and parameters have no type here.
_Command = Any


def translate_help(command: _Command, parent: typer.Context | None = None) -> None:
    """Put Chinese texts in place of the English ones, in a command and in those below it.

    Args:
        command: what `typer.main.get_command` returns; it is changed.
        parent: the context of the group that the command is in.
    """
    context = typer.Context(command, parent=parent, **command.context_settings)
    command.help, command.epilog = _translate(command.help), _translate(command.epilog)
    command.rich_help_panel = COMMANDS
    for parameter in command.get_params(context):  # with --help, which click adds
        parameter.help = _translate(parameter.help)
        is_option = parameter.param_type_name == "option"
        parameter.rich_help_panel = OPTIONS if is_option else ARGUMENTS
    for below in getattr(command, "commands", {}).values():
        translate_help(below, context)


def _translate(text: str | None) -> str | None:
    """Return the Chinese text; the text itself where there is none, as of a newer typer."""
    return None if text is None else _TEXTS.get(join_lines(text), text)
