"""The Chinese help texts of options and arguments, by the English ones."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

OPTION_TEXTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Print the version.": "打印版本号。",
        "Install completion for the current shell.": "为当前 shell 安装命令补全。",
        "Show completion for the current shell, to copy it or customize the installation.": (
            "打印当前 shell 的补全脚本，用来复制或自行调整。"
        ),
        "JSON Lines, or CSV with a header; the platform's names or snake case.": (
            "JSON Lines，或带表头的 CSV；字段用平台的名称或蛇形命名。"
        ),
        (
            "What each line asks for: pay, trade, refund or query. Without it, lines with "
            "refundAmount are refunds, with payToken pay, with tradeInfo trade."
        ): (
            "每一行做什么：pay、trade、refund 或 query。不写时，有 refundAmount 的行是退款，有 "
            "payToken 的是 pay，有 tradeInfo 的是 trade。"
        ),
        (
            "Have workers make the calls: amqp://..., or module:variable with a broker of "
            "taskiq. Else WXPAY_BROKER_URL."
        ): (
            "由 worker 发出调用：amqp://...，或 module:variable（taskiq 的 broker）。不写时用 "
            "WXPAY_BROKER_URL。"
        ),
        (
            "Where requestIds and outcomes are kept. Else WXPAY_STORE_URL, else wxpay.db beside "
            "the file."
        ): (
            "在哪里保存 requestId 和结果。不写时用 WXPAY_STORE_URL，再没有就用文件旁边的 wxpay.db。"
        ),
        "A Redis that counts the calls of all processes. Else WXPAY_QUOTA_URL.": (
            "为所有进程的调用计数的 Redis。不写时用 WXPAY_QUOTA_URL。"
        ),
        (
            "How many of the 400 calls a minute machines may use at most, 380 by default; people "
            "have the rest to themselves. Else WXPAY_BATCH_SHARE."
        ): (
            "每分钟 400 次调用中程序最多可用多少次，默认 380；其余留给人。不写时用 "
            "WXPAY_BATCH_SHARE。"
        ),
        "Where the outcomes go; else FILE.outcomes.jsonl.": (
            "结果写到哪里；不写时为 FILE.outcomes.jsonl。"
        ),
        "Write the outcomes as CSV, too.": "结果同时写一份 CSV。",
        "Read the whole file and list its faults; send nothing.": (
            "读完整个文件并列出错误；什么也不发出。"
        ),
        "Show the outcomes that the store has, also during a run; no call.": (
            "显示存储里已有的结果，运行期间也可以用；不发出调用。"
        ),
        "With --report: write a page for a browser.": (
            "与 --report 一起用：生成在浏览器里看的网页。"
        ),
        (
            "For pay: where to write what wx.requestPayment takes, as it comes; it lives for 20 "
            "minutes."
        ): "只用于 pay：把 wx.requestPayment 所需的参数写到哪里，得到一个写一个；有效期 20 分钟。",
        "Calls at once, at most 1000.": "同时进行的调用数，最多 1000。",
        "The developer id. Else WXPAY_APP_KEY.": "平台分配的 appKey。不写时用 WXPAY_APP_KEY。",
        "File with the MD5 secret. Else WXPAY_APP_SECRET_FILE or WXPAY_APP_SECRET.": (
            "保存 MD5 密钥的文件。不写时用 WXPAY_APP_SECRET_FILE 或 WXPAY_APP_SECRET。"
        ),
        (
            "File with the RSA private key, 2048 bits or more. Else WXPAY_PRIVATE_KEY_FILE or "
            "WXPAY_PRIVATE_KEY; its passphrase is read from WXPAY_PRIVATE_KEY_PASSPHRASE."
        ): (
            "保存 RSA 私钥的文件，2048 位以上。不写时用 WXPAY_PRIVATE_KEY_FILE 或 "
            "WXPAY_PRIVATE_KEY；口令从 WXPAY_PRIVATE_KEY_PASSPHRASE 读取。"
        ),
        (
            "The platform's address: test, production, https, or http on loopback. Else "
            "WXPAY_BASE_URL, else production."
        ): (
            "平台地址：test、production、https 地址，或本机回环的 http 地址。不写时用 "
            "WXPAY_BASE_URL，再没有就用 production。"
        ),
        "HTTP proxy with a fixed address. Else WXPAY_PROXY.": (
            "出口地址固定的 HTTP 代理。不写时用 WXPAY_PROXY。"
        ),
        "Print JSON, and nothing else, on stdout.": "stdout 只打印 JSON。",
        "Worker processes.": "worker 进程数。",
        "The merchant's order number.": "商户订单号。",
        "What is sold, as the payer sees it.": "商品标题，付款人会看到。",
        "Yuan, 0.01 to 100000000000.00, at most two decimal places.": (
            "金额，单位元，0.01 到 100000000000.00，最多两位小数。"
        ),
        "The seller's member id.": "卖家的会员号。",
        "The payer's IP address.": "付款人的 IP 地址。",
        "Pieces that share the amount evenly.": "件数，平分订单金额。",
        "The payer's openid in the mini program; not for 64, 65.": (
            "付款人在小程序里的 openid；64、65 不需要。"
        ),
        "The mini program's appid; the platform's own when absent.": (
            "小程序的 appid；不写时用平台自己的。"
        ),
        "66 debit cards, 67 all; 64 and 65 the same, scanned.": (
            "66 仅借记卡，67 不限；64 和 65 同上，用于扫码支付。"
        ),
        "Time to pay: 0, or 10m to 7d with unit m, h or d.": (
            "付款时限：0，或 10m 到 7d，单位为 m、h 或 d。"
        ),
        (
            "1 to 32 characters of A-Z a-z 0-9 _ -. By default derived from the order, so that "
            "repeating a command never makes a second one."
        ): "1 到 32 个字符：A-Z a-z 0-9 _ -。默认由订单推导，重复执行命令也不会产生第二笔。",
        (
            "Counts the requestIds of one order. Raise it by one only after the previous one was "
            "refused, is proven not executed, or its prepay has expired."
        ): (
            "同一订单的第几个 requestId。只有前一个被拒绝、被证明没有执行，或其预支付已过期时，"
            "才可以加一。"
        ),
        "Seconds for the whole call, retries included; at least 3.": (
            "整个调用的秒数，包括重试；至少 3。"
        ),
        "The payer's openid in the mini program.": "付款人在小程序里的 openid。",
        "From trade. Other users of the machine can see it.": (
            "由 trade 得到。本机的其他用户能看到它。"
        ),
        "File with the payToken; - for stdin.": "保存 payToken 的文件；- 表示 stdin。",
        "The merchant's order number; or give --trade-no.": "商户订单号；也可以改用 --trade-no。",
        "The platform's number of the order.": "平台的订单号。",
        "The refund's own number.": "退款自己的单号。",
        "The order that was paid.": "已支付的原商户订单号。",
        "Sub-merchants a request.": "每次请求的子商户数。",
        "Stop after so many.": "列出这么多个就停止。",
        "How many payments, at most 100,000; two schemes share them.": (
            "支付多少笔，最多 100,000；两种签名各占一半。"
        ),
        "How they are signed.": "用哪种签名。",
        "Payments at once, at most 1000.": "同时进行的支付数，最多 1000。",
        "Address to listen on.": "监听的地址。",
        "Port; 0 for any free one. Else PORT.": "端口；0 表示任意空闲端口。不写时用 PORT。",
        "How the merchant signs, and how callbacks are signed.": "商户请求和回调用哪种签名。",
        "Calls in any 60 s; 0 for no limit.": "任意 60 s 内的调用次数；0 表示不限。",
        "The merchant's private key for rsa; made when absent.": (
            "商户的私钥，用于 rsa；没有时自动生成。"
        ),
        "Where the merchant takes callbacks; else none are sent.": (
            "商户接收回调的地址；不写时不发回调。"
        ),
        (
            "Where to write the public key that verifies callbacks, for rsa; else "
            "sandbox-platform.pem beside the merchant's key."
        ): (
            "把用来给回调验签的公钥写到哪里，用于 rsa；不写时为商户私钥旁边的 "
            "sandbox-platform.pem。"
        ),
        "Let other machines in, each of which can then pay; and let callbacks out.": (
            "允许其他机器访问，它们随后都能支付；也允许回调发往其他机器。"
        ),
        "The merchant's MD5 secret; else a new one at each start.": (
            "商户的 MD5 密钥；不写时每次启动都用新的。"
        ),
        (
            "Folder with the keys, made when absent: platform-private.pem signs prepays and "
            "callbacks, so that it is the same at each start; for rsa also merchant.pem and "
            "sandbox-platform.pem."
        ): (
            "保存密钥的文件夹，没有时自动创建：platform-private.pem 为预支付和回调签名，"
            "所以每次启动都相同；用于 rsa 时还有 merchant.pem 和 sandbox-platform.pem。"
        ),
        "File that keeps orders; else they are forgotten.": "保存订单的文件；不写时退出即丢失。",
        "Write the settings there as NAME=value, and print nothing.": (
            "把设置按 NAME=value 写入这个文件，什么也不打印。"
        ),
        "TOML file of faults to order; see docs/sandbox.md.": (
            "预先安排故障的 TOML 文件；见 docs/sandbox.md。"
        ),
        "Whether magic openids and amounts act; see docs/sandbox.md.": (
            "特殊的 openid 和金额是否起作用；见 docs/sandbox.md。"
        ),
        "Refuse a pay of another openid than its trade.": "pay 的 openid 与 trade 的不同时拒绝。",
        "No line for each request, callback and refusal.": "不再为每个请求、回调和拒绝打印一行。",
        "Only these; may be given several times.": "只列出这些状态；可以写多次。",
        "Only this one.": "只列出这种操作。",
        "Only what is open for longer: 90s, 10m, 2h, 1d.": (
            "只列出未了结超过这么久的：90s、10m、2h、1d。"
        ),
        "The requestId of the operation.": "这个操作的 requestId。",
        (
            "What a person found out of an operation that waits for one: succeeded; failed or "
            "not-executed, after which its next generation may go."
        ): (
            "对需人工介入的操作，人工查明的结果：succeeded；failed 或 not-executed，"
            "此后可以使用递增 generation 得到的新 requestId。"
        ),
        "Who says so; it is kept.": "由谁裁决；会保存下来。",
        "How it is known, e.g. the number of a case; it is kept.": (
            "依据是什么，例如工单号；会保存下来。"
        ),
        "The file to make. It must not exist.": "要生成的文件。必须还不存在。",
        (
            "File with a private key, a public key or a certificate. Else "
            "WXPAY_PRIVATE_KEY_FILE; a passphrase is read from WXPAY_PRIVATE_KEY_PASSPHRASE."
        ): (
            "保存私钥、公钥或证书的文件。不写时用 WXPAY_PRIVATE_KEY_FILE；口令从 "
            "WXPAY_PRIVATE_KEY_PASSPHRASE 读取。"
        ),
        "As PEM, with its BEGIN and END lines.": "打印为 PEM，带 BEGIN 和 END 行。",
        (
            "File with the request, or - for stdin: a bizContent (JSON with requestId), JSON of "
            "the call's parameters, or the form that was sent."
        ): (
            "保存请求的文件，或用 - 表示 stdin：bizContent（带 requestId 的 JSON）、调用参数的 "
            "JSON，或发出的表单。"
        ),
        "The request itself in place of FILE. Other users of the machine can see it.": (
            "直接写请求本身，代替 FILE。本机的其他用户能看到它。"
        ),
        (
            "A canonical string or a signature that the other side computed. Else the request's "
            "own sign."
        ): "对方算出的待签名字符串或签名。不写时用请求自己的 sign。",
        "File with it, in whatever charset; - for stdin.": (
            "保存它的文件，字符集不限；- 表示 stdin。"
        ),
        "Else the request's, that of --against, or a new one.": (
            "不写时用请求的、--against 的，或一个新的。"
        ),
        "Milliseconds; else as --nonce, or now.": "毫秒；不写时同 --nonce，或用当前时间。",
        (
            "File with a secret or a key that the other side may have used by mistake; may be "
            "repeated. The secrets of WXPAY_FORMER_SECRETS are tried, too."
        ): (
            "对方可能误用的密钥（MD5 或 RSA）的文件；可以写多次。WXPAY_FORMER_SECRETS "
            "里的密钥也会尝试。"
        ),
        (
            "New file, mode 0600, for the form to post: curl --data-binary @PATH. It holds the "
            "payer's credentials."
        ): "新文件，权限 0600，保存要提交的表单：curl --data-binary @PATH。其中有付款人的凭证。",
        "The signature; else the request's own sign.": "签名；不写时用请求自己的 sign。",
        (
            "File with the signer's public key, such as the platform's for its callbacks, in "
            "place of your own secret or key."
        ): "保存签名方公钥的文件，例如用来给回调验签的平台公钥；代替您自己的密钥。",
        (
            "The database's address, or its beginning: sqlite://, postgresql://, mysql:// or "
            "mariadb://. Nothing connects to it, so it needs no password."
        ): (
            "数据库地址，或它的开头：sqlite://、postgresql://、mysql:// 或 mariadb://。"
            "不会连接数据库，所以不需要密码。"
        ),
        "Where the tables are, as SqlStore's schema=. It must exist.": (
            "表在哪个 schema 里，同 SqlStore 的 schema=。它必须已经存在。"
        ),
        "How their names begin, as SqlStore's table_prefix=.": (
            "表名的前缀，同 SqlStore 的 table_prefix=。"
        ),
        "Print the steps from this version on: the highest number in the table wxpay_schema.": (
            "打印从这个版本起的升级步骤：版本号是表 wxpay_schema 里最大的数字。"
        ),
        "Show this message and exit.": "显示本帮助。",
    }
)
"""For each English text of an option or an argument the Chinese one."""
