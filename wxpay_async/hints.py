"""Say what to do after an error: one sentence for each errorCode and each class of `errors.py`.

What an errorCode means for the merchant comes first, then what kept a request from being sent, then
the class. The code counts only for the class that it stands for: a refusal that did not end a doubt
(an earlier attempt may have been executed) is an `InDoubtError`, and what the code advises, such as
another requestId, would be wrong there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from wxpay_async.language import Sentence

_PLATFORM_FAILED: Final = Sentence(
    "Call again with the same request, or query the order: the platform failed by itself, and the "
    "request may have been executed.",
    "用同一个请求再次调用，或查询订单：这是平台自身的故障，请求可能已经执行。",
)

CODES: Final[Mapping[str, tuple[str, Sentence]]] = MappingProxyType(
    {
        "CO_MSG_000001": (
            "RefusedError",
            Sentence(
                "Correct the parameter that the message names (the platform's support knows which "
                "one if it names none), and send it under the next generation of its requestId.",
                "改正 errorMsg 指出的参数（没有指明时咨询平台客服），"
                "再递增 generation，用新的 requestId 发送。",
            ),
        ),
        "CO_MSG_000002": ("InDoubtError", _PLATFORM_FAILED),
        "CO_MSG_000003": ("InDoubtError", _PLATFORM_FAILED),
        "CO_MSG_000004": (
            "AccessDeniedError",
            Sentence(
                "Compare WXPAY_APP_KEY with the platform's console (production and test have keys "
                "of their own), then call again with the same request.",
                "与平台后台核对 WXPAY_APP_KEY（生产环境和测试环境的不同），"
                "然后用同一个请求再次调用。",
            ),
        ),
        "CO_MSG_000005": (
            "ClockSkewError",
            Sentence(
                "Set this machine's clock, by NTP for example, then call again with the same "
                "request.",
                "校准本机时钟（例如用 NTP），然后用同一个请求再次调用。",
            ),
        ),
        "CO_MSG_000006": (
            "SignatureRefusedError",
            Sentence(
                "Compare the appSecret, or for RSA the uploaded public key, with the platform's "
                "console (production and test have their own); `wxpay-async sign explain` shows "
                "what is signed.",
                "与平台后台核对 appSecret，使用 RSA 时核对已上传的公钥（生产和测试环境的不同）；"
                "`wxpay-async sign explain` 可显示参与签名的内容。",
            ),
        ),
        "CO_MSG_000007": (
            "RateLimitedError",
            Sentence(
                "Wait for a minute, then call again with the same request; where other programs "
                "use this appKey too, share its quota by WXPAY_QUOTA_URL.",
                "等一分钟，然后用同一个请求再次调用；有其他程序使用这个 appKey 时，"
                "请用 WXPAY_QUOTA_URL 共享配额。",
            ),
        ),
        "CO_MSG_000008": (
            "AccessDeniedError",
            Sentence(
                "Ask the platform's support why the appKey was ended; once it is valid, call again "
                "with the same request.",
                "咨询平台客服该 appKey 为何失效；恢复后，用同一个请求再次调用。",
            ),
        ),
        "CO_MSG_0000011": (
            "AccessDeniedError",
            Sentence(
                "Ask the platform's support for a valid token or contract, then call again with "
                "the same request.",
                "联系平台客服恢复 token 或合同，然后用同一个请求再次调用。",
            ),
        ),
        "CO_MSG_0000012": (
            "",
            Sentence(
                "Query the order before anything else, and ask the platform's support why a code "
                "of withdrawals answers it; never use a new requestId before.",
                "先查询订单，并咨询平台客服为何返回提现业务的错误码；在此之前绝不更换 requestId。",
            ),
        ),
        "CO_MSG_0000015": (
            "ConfigurationRefusedError",
            Sentence(
                "Find out which proxy or firewall changes the request's content type, then call "
                "again with the same request.",
                "查明是哪个代理或防火墙改动了请求的 Content-Type，然后用同一个请求再次调用。",
            ),
        ),
        "CO_MSG_0000016": (
            "ConfigurationRefusedError",
            Sentence(
                "Find out which proxy or firewall changes the request's method from POST, then "
                "call again with the same request.",
                "查明是哪个代理或防火墙改动了请求方法（应为 POST），然后用同一个请求再次调用。",
            ),
        ),
        "CO_MSG_0000017": (
            "AccessDeniedError",
            Sentence(
                "Put the address that this machine has outside on the allow-list in the platform's "
                "console, or set WXPAY_PROXY to a proxy that is on it, then call again with the "
                "same request.",
                "把本机的公网出口 IP 加入平台后台的白名单，或将 WXPAY_PROXY 设为白名单内的代理，"
                "然后用同一个请求再次调用。",
            ),
        ),
        "GM_API_BUS_000005": (
            "RefusedError",
            Sentence(
                "Name a requestId in the request (`derive_request_id` makes one); if there is one, "
                "find out what removes it on its way.",
                "在请求中填写 requestId（可用 `derive_request_id` 生成）；"
                "如果已经填写，请排查是什么在传输途中去掉了它。",
            ),
        ),
        "GM_API_BUS_000007": (
            "RefusedError",
            Sentence(
                "Query the order first, and if it shows nothing of this request, send it under the "
                "next generation of the requestId (`derive_request_id(..., generation=1)`).",
                "先查询订单；如果查不到这次请求的结果，"
                "再递增 generation，用新的 requestId（`derive_request_id(..., generation=1)`）"
                "发送。",
            ),
        ),
        "GM_API_BUS_0000015": (
            "DuplicateRequestError",
            Sentence(
                "Query the order before anything else, and never use a new requestId: an earlier "
                "request with this one has arrived.",
                "先查询订单，绝不更换 requestId：平台已经收到过使用它的请求。",
            ),
        ),
    }
)
"""errorCode -> (the class of the errors that it is for, what to do).

CO_MSG_0000012 belongs to another chapter of the platform: its hint fits every class.
"""

CLASSES: Final[Mapping[str, Sentence]] = MappingProxyType(
    {
        "WxPayError": Sentence(
            "Read `fate`: it says whether the request was not sent, refused, or may have been "
            "executed.",
            "看 `fate`：它说明请求没有发出、被拒绝，还是结果未知（可能已经执行）。",
        ),
        "InvalidRequestError": Sentence(
            "Correct the field or the setting that the error names, then call again.",
            "改正错误信息指出的字段或设置，然后再次调用。",
        ),
        "InvalidKeyError": Sentence(
            "Replace or convert the key as the error says; `wxpay-async keys show FILE` tells what "
            "a file holds.",
            "按错误信息更换或转换密钥；`wxpay-async keys show FILE` 可查看文件里是哪种密钥。",
        ),
        "IdempotencyConflictError": Sentence(
            "Find out who uses the requestId a second time, and give each purchase one of its own "
            "by `derive_request_id`.",
            "查明是谁重复使用了这个 requestId，"
            "并用 `derive_request_id` 为每笔交易生成各自的 requestId。",
        ),
        "NotSentError": Sentence(
            "Correct what the error names, if anything is wrong there, then call again with the "
            "same request: nothing was sent.",
            "请求没有发出：如果错误信息指出了问题，请先改正，然后用同一个请求再次调用。",
        ),
        "NotSentTimeoutError": Sentence(
            "Call again with the same request, or give the call a longer `timeout`: nothing was "
            "sent.",
            "请求没有发出：用同一个请求再次调用，或为这次调用设置更长的 `timeout`。",
        ),
        "QuotaExhaustedError": Sentence(
            "Call again with the same request after `retry_after` seconds, or give the call a "
            "longer `timeout`.",
            "等 `retry_after` 秒后用同一个请求再次调用，或为这次调用设置更长的 `timeout`。",
        ),
        "NotificationError": Sentence(
            "Do not believe the callback, and query the order if in doubt; where every callback "
            "fails, compare the platform's key and the endpoint's settings.",
            "不要信任这个回调，有疑问时查询订单；如果所有回调都验证失败，请核对平台公钥和回调设置。",
        ),
        "InDoubtError": Sentence(
            "Never use a new requestId: call again with the same request, or query the order.",
            "绝不更换 requestId：用同一个请求再次调用，或查询订单。",
        ),
        "InDoubtTimeoutError": Sentence(
            "Never use a new requestId: call again with the same request, with a longer `timeout`, "
            "or query the order.",
            "绝不更换 requestId：用同一个请求再次调用（可加长 `timeout`），或查询订单。",
        ),
        "AlreadyPaidError": Sentence(
            "Do nothing, and do not charge again: the order is paid.",
            "什么也不用做：订单已支付，不要再次收款。",
        ),
        "DuplicateRequestError": Sentence(
            "Query the order before anything else, and never use a new requestId.",
            "先查询订单，绝不更换 requestId。",
        ),
        "InProgressError": Sentence(
            "Call again later with the same request: another process is sending it, and its lease "
            "lasts 45 s.",
            "稍后用同一个请求再次调用：另一个进程正在发送它，租约是 45 秒。",
        ),
        "MalformedResponseError": Sentence(
            "Never use a new requestId: call again with the same request, or query the order; if "
            "it stays so, find out what answers in the platform's place.",
            "绝不更换 requestId：用同一个请求再次调用，或查询订单；"
            "如果一直如此，请排查是什么在代替平台应答。",
        ),
        "PlatformConflictError": Sentence(
            "Let a person compare both requests, and never use a new requestId before.",
            "需人工介入，比对两边的内容；在此之前绝不更换 requestId。",
        ),
        "OtherPayerError": Sentence(
            "Call `checkout` again after `retry_at`; until then only the other payer can pay.",
            "等到 `retry_at` 之后再调用 `checkout`；在此之前只有另一位付款人可以支付。",
        ),
        "PrepayExpiredError": Sentence(
            "Query the order; if it is not paid, pay under the next generation of the requestId.",
            "先查询订单；没有支付时，递增 generation，用新的 requestId 重新发起支付。",
        ),
        "TradeUnusableError": Sentence(
            "Wait until `retry_at`, when the order is closed, then create a new order; `checkout` "
            "does so by itself when it is given `reorder=`.",
            "等到 `retry_at` 订单关闭之后再重新下单；"
            "给 `checkout` 传入 `reorder=` 时由它自动完成。",
        ),
        "RefusedError": Sentence(
            "Correct what `message` names, and ask the platform's support about a code that no "
            "page explains; the next generation of the requestId may go.",
            "按 `message` 改正，文档中没有的错误码请咨询平台客服；"
            "之后可以递增 generation，改用新的 requestId。",
        ),
        "ClockSkewError": Sentence(
            "Set this machine's clock, then call again with the same request.",
            "校准本机时钟，然后用同一个请求再次调用。",
        ),
        "ConfigurationRefusedError": Sentence(
            "Find out which proxy or firewall answered in the platform's place, correct the "
            "address or the proxy, then call again with the same request.",
            "查明是哪个代理或防火墙代替平台作了应答，改正地址或代理，然后用同一个请求再次调用。",
        ),
        "AccessDeniedError": Sentence(
            "Correct the appKey, the token or the address allow-list, then call again with the "
            "same request.",
            "改正 appKey、token 或 IP 白名单，然后用同一个请求再次调用。",
        ),
        "SignatureRefusedError": Sentence(
            "Compare `canonical_string(...)` and the keys, then call again with the same request.",
            "比对 `canonical_string(...)` 和密钥，然后用同一个请求再次调用。",
        ),
        "FailedError": Sentence(
            "Find out why it failed; the next generation of the requestId may go.",
            "查明失败的原因；之后可以递增 generation，改用新的 requestId。",
        ),
        "NotExecutedError": Sentence(
            "Send it under the next generation of the requestId if it is still wanted.",
            "如果仍然需要，递增 generation，用新的 requestId 发送。",
        ),
        "NotPaidError": Sentence(
            "Create a new order if it is still wanted.",
            "如果仍然需要，重新下单。",
        ),
        "RateLimitedError": Sentence(
            "Wait for a minute, then call again with the same request.",
            "等一分钟，然后用同一个请求再次调用。",
        ),
    }
)
"""Class -> what to do. A class of the merchant's own has that of its nearest parent."""

UNSENT: Final[tuple[tuple[re.Pattern[str], Sentence], ...]] = (
    (
        re.compile(r"the store cannot"),
        Sentence(
            "See that the store's server runs and takes the login, or correct WXPAY_STORE_URL "
            "(`store=`), then call again with the same request.",
            "确认存储的服务器正在运行并接受登录，或改正 WXPAY_STORE_URL（`store=`），"
            "然后用同一个请求再次调用。",
        ),
    ),
    (
        re.compile(r"the Redis of the quota"),
        Sentence(
            "See that the quota's Redis runs and takes the login, or correct WXPAY_QUOTA_URL "
            "(`limiter=`), then call again with the same request.",
            "确认配额所用的 Redis 正在运行并接受登录，或改正 WXPAY_QUOTA_URL（`limiter=`），"
            "然后用同一个请求再次调用。",
        ),
    ),
    (
        re.compile(r"certificate|FingerprintMismatch", re.IGNORECASE),
        Sentence(
            "Check the address, then which authority signed the certificate: one of your own is "
            "named by `ca_file=` of the transport; nothing was sent.",
            "请求没有发出：先检查地址，再检查证书由谁签发；自有的 CA 用传输层的 `ca_file=` 指定。",
        ),
    ),
    (
        re.compile(r"WRONG_VERSION_NUMBER|InvalidContentType|ClientConnectorSSLError"),
        Sentence(
            "Check scheme and port of WXPAY_BASE_URL: what listens there does not speak TLS as the "
            "platform does; nothing was sent.",
            "请求没有发出：检查 WXPAY_BASE_URL 的协议和端口，那里的服务不能完成 TLS 握手。",
        ),
    ),
    (
        re.compile(r"DNSError|EAI_|failed to lookup"),
        Sentence(
            "Check the host in WXPAY_BASE_URL or WXPAY_PROXY, and this machine's DNS, then call "
            "again with the same request.",
            "检查 WXPAY_BASE_URL 或 WXPAY_PROXY 中的主机名以及本机的 DNS，"
            "然后用同一个请求再次调用。",
        ),
    ),
    (
        re.compile(r"ECONNREFUSED"),
        Sentence(
            "Check host and port in WXPAY_BASE_URL or WXPAY_PROXY, or start what should listen "
            "there, then call again with the same request.",
            "检查 WXPAY_BASE_URL 或 WXPAY_PROXY 中的主机和端口，或启动应在那里监听的程序，"
            "然后用同一个请求再次调用。",
        ),
    ),
    (
        re.compile(r"Proxy\w*Error"),
        Sentence(
            "Check address, port and login in WXPAY_PROXY, and what the proxy lets through, then "
            "call again with the same request.",
            "检查 WXPAY_PROXY 的地址、端口和登录信息，以及代理是否放行，然后用同一个请求再次调用。",
        ),
    ),
    (
        re.compile(
            r"(?:Connection|Connect)Timeout|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ConnectorError"
            r"|ConnectError"
        ),
        Sentence(
            "Check WXPAY_BASE_URL and whether a firewall lets this machine out (WXPAY_PROXY names "
            "a proxy), then call again with the same request.",
            "检查 WXPAY_BASE_URL，以及防火墙是否允许本机访问外网（WXPAY_PROXY 可指定代理），"
            "然后用同一个请求再次调用。",
        ),
    ),
)
"""What the reason of a `NotSentError` names -> what to do; the first that fits."""


def find_hint(kinds: Sequence[str], *, code: str | None, reason: str) -> Sentence:
    """Return what to do after an error.

    Args:
        kinds: the names of the error's class and of its parents, the nearest first.
        code: the platform's errorCode.
        reason: the error's own text, without what the platform wrote.
    """
    if code is not None and code in CODES:
        kind, hint = CODES[code]
        if kind in {kinds[0], ""}:
            return hint
    if "NotSentError" in kinds:
        for named, hint in UNSENT:
            if named.search(reason):
                return hint
    return next(CLASSES[kind] for kind in kinds if kind in CLASSES)
