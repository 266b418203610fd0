"""The words of console and cashier, in English and Chinese, and which of the two a reader wants."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from wxpay_async.sandbox.console.diagnosis import Cause

Language = Literal["en", "zh"]

LANGUAGES: Final[tuple[Language, Language]] = ("en", "zh")

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "lang": ("en", "zh-CN"),
    "other_language": ("中文", "English"),
    "console": ("Sandbox", "支付沙箱"),
    "no_money": ("No money moves here.", "这里没有真实资金流动。"),
    "orders": ("Orders", "订单"),
    "requests": ("Requests", "请求日志"),
    "faults": ("Faults", "故障注入"),
    "faults_ordered": ("Ordered now", "已安排的故障"),
    "faults_none": ("None: nothing goes wrong on purpose.", "没有安排故障，一切正常。"),
    "faults_seed": ("Chance is drawn from the seed {seed}.", "随机种子：{seed}。"),
    "faults_to_order": ("Order a fault", "安排故障"),
    "faults_note": (
        "Once, unless every, times or chance say otherwise. Empty fields are left out.",
        "默认一次；可用 every、times、chance 改变。空字段不计。",
    ),
    "fault_met": ("seen {seen}×, happened {happened}×", "遇到 {seen} 次，发生 {happened} 次"),
    "fault_order": ("Order", "安排"),
    "fault_clear": ("Take back", "取消"),
    "fault_elsewhere": (
        "Faults are ordered on the sandbox's own machine only.",
        "只能在沙箱所在的机器上安排故障。",
    ),
    "magic": ("Magic values", "特殊测试值"),
    "magic_note": (
        "These openids and amounts always lead to the same end, as soon as pay was executed.",
        "用这些 openid 或金额执行 pay，总是得到固定的结果。",
    ),
    "magic_off": ("Switched off (--no-magic).", "已关闭（--no-magic）。"),
    "live": ("live", "实时"),
    "offline": ("not connected", "未连接"),
    "behind": (
        "More happened than this page could show. Reload it to go on.",
        "变化太快，本页未能及时更新，请重新加载。",
    ),
    "reload": ("Reload", "重新加载"),
    "search": ("Search", "搜索"),
    "search_orders": ("Order, requestId, subject, amount", "订单号、requestId、标题、金额"),
    "search_requests": ("Path, order, requestId, code", "路径、订单号、requestId、错误码"),
    "all": ("All", "全部"),
    "awaiting": ("awaits payment", "待付款"),
    "paid": ("paid", "支付成功"),
    "failed": ("failed", "支付失败"),
    "closed": ("closed", "已关闭"),
    "only_refused": ("Refused", "被拒绝"),
    "answered": ("done", "成功"),
    "no_orders": ("No orders yet.", "还没有订单。"),
    "no_orders_how": (
        "Point your shop at this sandbox, and its orders appear here by themselves:",
        "把商户程序指向这个沙箱，订单会自动出现在这里：",
    ),
    "no_match": ("Nothing matches.", "没有符合条件的记录。"),
    "no_requests": ("No requests yet.", "还没有请求。"),
    "newest_only": (
        "The newest {shown} of {total}; the search finds the others.",
        "显示最新的 {shown} 条，共 {total} 条；其余请搜索。",
    ),
    "subject": ("Subject", "标题"),
    "amount": ("Amount", "金额"),
    "created": ("Created", "创建时间"),
    "closes": ("Closes", "关闭时间"),
    "app_key": ("appKey", "appKey"),
    "trade_no": ("Platform's number", "平台单号"),
    "attempts": ("seen {count}×", "收到 {count} 次"),
    "attempts_seen": ("Requests seen", "收到请求数"),
    "requests_short": ("requests: {count}", "请求 {count} 次"),
    "refunds": ("Refunds", "退款"),
    "refunded": ("refunded", "已退款"),
    "no_refunds": ("None.", "没有退款。"),
    "callbacks": ("Callbacks", "回调通知"),
    "callbacks_short": ("callbacks: {count}", "回调 {count} 次"),
    "no_callbacks": ("None sent.", "没有发送过回调。"),
    "no_notify_url": (
        "This merchant has no address for callbacks (--notify-url).",
        "该商户没有设置回调地址（--notify-url）。",
    ),
    "acknowledged": ("acknowledged", "已确认"),
    "not_acknowledged": ("not acknowledged", "未确认"),
    "no_answer": ("no answer", "没有应答"),
    "forged": ("forged", "伪造"),
    "answer": ("Answer", "应答"),
    "sent_fields": ("Fields that were sent", "发送的字段"),
    "resend": ("Send again", "重新发送"),
    "executed": ("Requests that were executed", "已执行的请求"),
    "trade": ("trade", "创建交易"),
    "pay": ("pay", "发起支付"),
    "refund": ("refund", "退款"),
    "charge": ("charged", "扣款"),
    "payer_tried": ("The payer tried", "付款人的尝试"),
    "wrong_password": ("wrong password", "密码错误"),
    "leave": ("left without paying", "离开未支付"),
    "bad_parameters": ("refused the JSAPI parameters", "JSAPI 参数校验失败"),
    "prepays": ("Prepays", "预支付单"),
    "valid_until": ("valid until", "有效期至"),
    "expired": ("expired", "已过期"),
    "open_cashier": ("Open the cashier", "打开收银台"),
    "confirm": ("Confirm", "确认支付"),
    "cancel": ("Cancel", "取消支付"),
    "expire": ("Let it expire", "让订单过期"),
    "insufficient": ("Insufficient funds", "余额不足"),
    "as_payer": ("As the payer", "扮演付款人"),
    "back": ("Back", "返回"),
    "time": ("Sandbox time", "沙箱时间"),
    "ahead": ("ahead by", "已快进"),
    "advance": ("Advance", "快进"),
    "advance_note": (
        "Orders and prepays become older. Signatures and callbacks keep the real time.",
        "订单和预支付单的时间随之推进；签名与回调仍按真实时间。",
    ),
    "minutes_1": ("1 min", "1 分钟"),
    "minutes_20": ("20 min", "20 分钟"),
    "minutes_30": ("30 min", "30 分钟"),
    "minutes_120": ("2 h", "2 小时"),
    "why": ("Why", "原因"),
    "code": ("Code", "错误码"),
    "address": ("From", "来源"),
    "order": ("Order", "订单"),
    "parameters": ("Parameters", "参数"),
    "fault": ("injected fault", "注入的故障"),
    "canonical": ("Canonical string", "待签名字符串"),
    "hashed": ("What is hashed (secret masked)", "参与摘要的文本（密钥已隐藏）"),
    "expected_md5": ("Expected signature", "期望的签名"),
    "expected_rsa": ("Expected SHA-256 digest", "期望的 SHA-256 摘要"),
    "received_md5": ("Received signature", "收到的签名"),
    "received_rsa": ("Received digest or signature", "收到的摘要或签名"),
    "difference": ("First difference", "第一处不同"),
    "difference_text": (
        "in the signed text, after {offset} characters",
        "在被签名的文本中，前 {offset} 个字符相同",
    ),
    "difference_sign": (
        "in the signature, after {offset} characters",
        "在签名中，前 {offset} 个字符相同",
    ),
    "sandbox_side": ("sandbox", "沙箱"),
    "merchant_side": ("merchant", "商户"),
    "at_end": ("(the end)", "（结尾）"),
    "not_found": ("There is no such order.", "没有这个订单。"),
    "done": ("Done", "完成"),
    "close": ("Close", "关闭"),
    "try_again": ("It was not done; try again.", "操作没有成功，请重试。"),
    "not_ended": (
        "An order that awaits payment has no callback yet.",
        "待付款的订单还没有回调。",
    ),
    "bad_number": ("This is not a number of seconds.", "秒数不正确。"),
    "stale_page": (
        "This page is of an earlier sandbox. Reload it.",
        "本页属于之前的沙箱，请重新加载。",
    ),
    # The cashier
    "cashier": ("Payment", "支付"),
    "pay_to": ("Pay to", "付款给"),
    "method": ("Method", "付款方式"),
    "change_purse": ("Balance (sandbox)", "零钱（沙箱）"),
    "pay_now": ("Pay now", "立即支付"),
    "checking": ("Checking the parameters…", "正在校验支付参数…"),
    "check_ok": (
        "The phone would accept these parameters: the signature fits.",
        "支付参数校验通过：签名正确。",
    ),
    "check_bad": (
        "支付验证签名失败: the signature does not fit the parameters. The phone would refuse them.",
        "支付验证签名失败：签名与参数不符，手机会拒绝支付。",
    ),
    "check_app": (
        "支付验证签名失败: the prepay was made for another mini program.",
        "支付验证签名失败：预支付单属于另一个小程序。",
    ),
    "check_none": (
        "This order is paid by a code; there is nothing to verify.",
        "扫码支付的订单，没有可校验的参数。",
    ),
    "check_unable": (
        "Not verified: browsers offer their crypto on localhost and over HTTPS only.",
        "未校验：浏览器只在 localhost 或 HTTPS 下提供加密功能。",
    ),
    "check_own": (
        "Opened from the console, with the parameters as the sandbox issued them.",
        "从控制台打开，使用沙箱签发的参数。",
    ),
    "paid_title": ("Paid", "支付成功"),
    "failed_title": ("Payment failed", "支付失败"),
    "closed_title": ("The order is closed", "订单已关闭"),
    "prepay_expired": (
        "The prepay has expired. Pay again from the mini program.",
        "预支付单已过期，请在小程序中重新下单。",
    ),
    "password_text": ("The password is wrong. Try again.", "支付密码错误，请重试"),
    "funds_text": ("Not enough money for this payment.", "零钱余额不足"),
    "other_ends": ("Other ends", "其他结果"),
    "needs_extra_title": ("The console needs Jinja2", "控制台需要 Jinja2"),
}

_CAUSES: Final[Mapping[Cause, tuple[str, str]]] = {
    Cause.URL_ENCODED: (
        (
            "The values were URL-encoded before signing. Sign them raw; encode them only in the "
            "form that is sent."
        ),
        "签名前对值做了 URL 编码。应对原始值签名，只在发送表单时编码。",
    ),
    Cause.EMPTY_KEPT: (
        "Empty values were signed, too. Leave out every parameter whose value is empty.",
        "空值也参与了签名。值为空的参数应全部去掉。",
    ),
    Cause.NOT_SORTED: (
        "The parameters were not sorted by name in ASCII order: capitals before small letters.",
        "参数没有按名称的 ASCII 顺序排序（大写字母在前）。",
    ),
    Cause.SIGN_INCLUDED: (
        "The parameter sign was signed, too. Leave it out.",
        "sign 参数也参与了签名，应去掉它。",
    ),
    Cause.JSON_REWRITTEN: (
        (
            "bizContent was written twice, differently: once to sign it and once to send it. "
            "Write it once, and sign the text that is sent."
        ),
        "bizContent 被序列化了两次，结果不同。应只序列化一次，并对实际发送的文本签名。",
    ),
    Cause.SIGN_TYPE_LEFT_OUT: (
        "signType=RSA is sent but was not signed. Sign it like every other parameter.",
        "发送了 signType=RSA，但它没有参与签名。它应和其他参数一样参与签名。",
    ),
    Cause.LINE_BREAK: (
        "A line break at the end was signed, too.",
        "末尾的换行符也参与了签名。",
    ),
    Cause.SECRET_MISSING: (
        "The canonical string was hashed without the secret. Append &appSecret=<secret> first.",
        "计算摘要时没有加密钥。应先在末尾追加 &appSecret=<密钥>。",
    ),
    Cause.SECRET_PLACED: (
        "The secret was joined in another way. Append it as &appSecret=<secret>, spelled so.",
        "密钥的拼接方式不对。应在末尾追加 &appSecret=<密钥>，大小写也要一致。",
    ),
    Cause.SECRET_SPELLED: (
        "The secret was used with a blank, a line break, quotes or in another case.",
        "密钥中多了空格、换行或引号，或大小写不同。",
    ),
    Cause.LOWER_CASE: (
        "The digits are in another case, or there is white space. Write 32 digits in capitals.",
        "签名的大小写不对，或含有空白。应写成 32 位大写十六进制。",
    ),
    Cause.OTHER_SCHEME: (
        "This is a signature of the other scheme: MD5 has no signType, RSA has signType=RSA.",
        "这是另一种签名方案：MD5 没有 signType，RSA 的 signType 为 RSA。",
    ),
    Cause.NO_KEY: (
        (
            "No public key is registered for this appKey. Start the sandbox with --scheme rsa, or "
            "give it merchant_public_key."
        ),
        "该 appKey 没有登记公钥。请用 --scheme rsa 启动沙箱，或设置 merchant_public_key。",
    ),
    Cause.OTHER_KEY: (
        "Another private key made this signature than the one whose public key is registered.",
        "签名用的私钥与登记的公钥不配对。",
    ),
    Cause.OTHER_HASH: (
        "The right key signed by another hash. Use SHA-256 (SHA256withRSA).",
        "密钥正确，但使用了其他摘要算法。应使用 SHA-256（SHA256withRSA）。",
    ),
    Cause.NOT_BASE64: (
        "The signature is not Base64. A + that became a blank was not URL-encoded in the form.",
        "签名不是 Base64。若 + 变成了空格，说明发送表单时没有做 URL 编码。",
    ),
    Cause.OTHER_TEXT: (
        "The right key signed another text. Compare the canonical string with yours.",
        "密钥正确，但签的是另一段文本。请与您的待签名字符串对比。",
    ),
    Cause.UNKNOWN: (
        (
            "None of the usual mistakes makes this signature: another secret, or another text. "
            "Compare the canonical string with yours, then the secret."
        ),
        "常见错误都得不到这个签名：密钥不同，或文本不同。请先对比待签名字符串，再核对密钥。",
    ),
}

TEXTS: Final[Mapping[Language, Mapping[str, str]]] = MappingProxyType(
    {
        language: MappingProxyType({name: words[index] for name, words in _WORDS.items()})
        for index, language in enumerate(LANGUAGES)
    }
)
"""Words by their names, of each language."""

CAUSES: Final[Mapping[Language, Mapping[Cause, str]]] = MappingProxyType(
    {
        language: MappingProxyType({cause: words[index] for cause, words in _CAUSES.items()})
        for index, language in enumerate(LANGUAGES)
    }
)
"""What is wrong with a signature, and what is right."""


def choose_language(wanted: str, accepted: str) -> Language:
    """Return the language of a page.

    Args:
        wanted: the parameter `lang`, empty when there is none.
        accepted: the header Accept-Language; the first of the two languages in it wins.
    """
    for tag in (wanted, *_sort_tags(accepted)):
        for language in LANGUAGES:
            if tag.strip().lower().split("-")[0] == language:
                return language
    return "en"


def _sort_tags(accepted: str) -> list[str]:
    """Return the tags of Accept-Language, the most wanted first; weights that are none count 0."""
    weighted = [(_read_weight(part), part.partition(";")[0]) for part in accepted.split(",")]
    return [tag for weight, tag in sorted(weighted, key=lambda each: -each[0]) if weight > 0]


def _read_weight(part: str) -> float:
    _, _, weight = part.partition(";q=")
    try:
        return float(weight) if weight else 1.0
    except ValueError:
        return 0.0
