"""Draw the pictures of the documents: the states, the layers of imports, the flow of a payment.

`python -m tests.support.drawings` writes `docs/drawings/*.svg`, in English and in Chinese. What can
be read from the code is: `tests/docs/test_drawings.py` compares them.
"""

from __future__ import annotations

import configparser
import html
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from tests.support.pages import DOCS, ROOT

FOLDER: Final = DOCS / "drawings"
LANGUAGES: Final = ("en", "zh")
Text = tuple[str, str]
"""English and Chinese."""
Point = tuple[float, float]

_BOLD, _DASHED = 'font-weight="bold"', 'stroke-dasharray="5 4"'
_HALO: Final = 'stroke="#fff" stroke-width="4" paint-order="stroke"'
_INK, _GREY, _PAPER = "#1f2933", "#7b8794", "#ffffff"
_HEAD: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
    'height="{height}" font-family="Helvetica, Arial, Noto Sans CJK SC, Microsoft YaHei, '
    'sans-serif" font-size="14" fill="{ink}" role="img">\n<title>{title}</title>\n<defs>'
    '<marker id="end" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{ink}"/></marker></defs>\n'
    '<rect width="{width}" height="{height}" rx="8" fill="{paper}"/>\n'
)


def _text(x: float, y: float, text: str, extra: str = 'text-anchor="middle"') -> str:
    return f'<text x="{x:g}" y="{y:g}" {extra}>{html.escape(text)}</text>\n'


def _box(x: float, y: float, width: float, height: float, fill: str, extra: str = "") -> str:
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return f'<rect {place} rx="6" fill="{fill}" stroke="{_INK}" {extra}/>\n'


def _arrow(points: Sequence[Point], extra: str = "") -> str:
    path = " L".join(f"{x:g},{y:g}" for x, y in points)
    return (
        f'<path d="M{path}" fill="none" stroke="{_INK}" stroke-width="1.3" '
        f'marker-end="url(#end)" {extra}/>\n'
    )


def _picture(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    head = _HEAD.format(width=width, height=height, title=title, ink=_INK, paper=_PAPER)
    return head + "".join(parts) + "</svg>\n"


# The states

_NODES: Final[dict[str, tuple[float, float, str]]] = {
    "reserved": (95, 250, "#e4e7eb"),
    "rejected": (95, 90, "#c6f7e2"),
    "sending": (320, 250, "#d9e8ff"),
    "unknown": (520, 140, "#ffe8a3"),
    "pending": (500, 365, "#d9e8ff"),
    "conflict": (320, 570, "#ffd0b5"),
    "needs_review": (520, 570, "#ffd0b5"),
    "not_executed": (860, 100, "#c6f7e2"),
    "succeeded": (860, 215, "#c6f7e2"),
    "failed": (860, 330, "#c6f7e2"),
    "reissued": (95, 540, "#c6f7e2"),
}
_EVENTS: Final[dict[str, Text]] = {
    "claim": ("claim", "领取"),
    "unsent": ("not sent", "未发送"),
    "refused": ("refused", "拒绝"),
    "doubt": ("answer lost", "应答丢失"),
    "accepted": ("accepted", "已受理"),
    "success": ("success", "成功"),
    "failure": ("failure", "失败"),
    "absent": ("not found twice", "两次查无此单"),
    "mismatch": ("other content", "内容不一致"),
    "too_old": ("24 h without proof", "24 小时无定论"),
    "confirmed": ("a person: executed", "人工：已执行"),
    "denied": ("a person: not executed", "人工：未执行"),
}


@frozen
class _Edge:
    """An arrow, the steps that it stands for, and where its label begins."""

    steps: str
    points: tuple[Point, ...]
    label: Point
    anchor: str = "middle"


_OPEN: Final = ("sending", "unknown", "pending")
_PERSON: Final = ("conflict", "needs_review")


def _from(states: Sequence[str], *steps: str) -> str:
    return ", ".join(f"{state} {step}" for step in steps for state in states)


_EDGES: Final = (
    _Edge("reserved claim sending", ((160, 242), (255, 242)), (207, 234)),
    _Edge("sending unsent reserved", ((255, 258), (160, 258)), (207, 276)),
    _Edge("sending refused rejected", ((275, 227), (160, 100)), (176, 160)),
    _Edge("sending doubt unknown", ((365, 227), (455, 150)), (395, 178), "end"),
    _Edge("unknown claim sending", ((470, 163), (385, 238)), (452, 208), "start"),
    _Edge("unknown doubt unknown", ((500, 117), (500, 88), (540, 88), (540, 117)), (520, 80)),
    _Edge("sending accepted pending", ((350, 273), (435, 352)), (380, 330), "end"),
    _Edge("unknown accepted pending", ((515, 163), (515, 342)), (508, 290), "end"),
    _Edge("sending mismatch conflict", ((300, 273), (300, 547)), (306, 480), "start"),
    _Edge("unknown mismatch conflict", ((490, 163), (348, 547)), (0, 0)),
    _Edge("unknown too_old needs_review", ((577, 163), (577, 547)), (583, 480), "start"),
    _Edge("pending too_old needs_review", ((500, 388), (500, 547)), (0, 0)),
    _Edge("unknown absent not_executed", ((585, 130), (795, 106)), (700, 105)),
    _Edge(_from(_OPEN, "success succeeded"), ((650, 215), (795, 215)), (722, 207)),
    _Edge(_from(_OPEN, "failure failed"), ((650, 330), (795, 330)), (722, 322)),
    _Edge(_from(_PERSON, "failure failed"), ((650, 530), (860, 530), (860, 353)), (755, 522)),
    _Edge(
        _from(_PERSON, "success succeeded", "confirmed succeeded"),
        ((650, 565), (965, 565), (965, 215), (925, 215)),
        (800, 557),
    ),
    _Edge(
        _from(_PERSON, "denied not_executed") + ", needs_review absent not_executed",
        ((650, 600), (1000, 600), (1000, 100), (925, 100)),
        (820, 592),
    ),
)
_REISSUABLE: Final = (
    "reserved",
    "unknown",
    "succeeded",
    "rejected",
    "not_executed",
    "needs_review",
)


def draw_states(language: int) -> str:
    """Draw the life of an operation."""
    asked, person = (
        ("open: the SDK asks", "未了结：SDK 会自动查询"),
        ("waits for a person", "需人工介入"),
    )
    parts = [
        _box(235, 50, 415, 365, "#f5f7fa", _DASHED),
        _text(245, 70, asked[language], _BOLD),
        _box(235, 510, 415, 115, "#fff7f2", _DASHED),
        _text(245, 616, person[language], _BOLD),
        _text(860, 60, ("final", "终态")[language], f'text-anchor="middle" {_BOLD}'),
    ]
    parts += [_draw_edge(edge, language) for edge in _EDGES]
    for state, (x, y, fill) in _NODES.items():
        parts += [_box(x - 65, y - 23, 130, 46, fill), _text(x, y + 5, state.upper(), _MONO)]
    steps = _from(_REISSUABLE, "reissue reissued")
    note = (
        ("a pay that is closed before", "another credential is issued:", "from RESERVED, UNKNOWN,"),
        ("换发支付凭证之前，", "先关闭原来的 pay：", "可从 RESERVED、UNKNOWN、"),
    )[language]
    rest = ("SUCCEEDED, REJECTED,", "NOT_EXECUTED, NEEDS_REVIEW")
    rest = rest if language == 0 else ("SUCCEEDED、REJECTED、", "NOT_EXECUTED、NEEDS_REVIEW")
    lines = [
        _text(10, 582 + 16 * n, line, 'font-size="12"') for n, line in enumerate((*note, *rest))
    ]
    parts.append(f'<g data-steps="{steps}">\n{"".join(lines)}</g>\n')
    title = ("States of an operation", "一次操作的状态")[language]
    return _picture(1020, 665, title, parts)


_MONO: Final = 'text-anchor="middle" font-weight="bold" font-size="13"'


def _draw_edge(edge: _Edge, language: int) -> str:
    events = dict.fromkeys(step.split()[1] for step in edge.steps.split(", "))
    joined = (", ", "、")[language].join(_EVENTS[event][language] for event in events)
    arrow = _arrow(edge.points, f'data-steps="{edge.steps}"')
    if edge.label == (0, 0):
        return arrow
    extra = f'text-anchor="{edge.anchor}" font-size="12" {_HALO}'
    return arrow + _text(*edge.label, joined, extra)


# The layers of imports

_LAYERS: Final[dict[str, Text]] = {
    "__main__": ("python -m wxpay_async", "python -m wxpay_async"),
    "cli": ("the command wxpay-async, and its demo", "命令 wxpay-async 及其演示"),
    "integrations": (
        "FastAPI, aiohttp, OpenTelemetry, taskiq, pytest",
        "FastAPI、aiohttp、OpenTelemetry、taskiq、pytest",
    ),
    "batch": (
        "files of requests, each line brought to its end once",
        "批量文件，每一行恰好执行一次",
    ),
    "engine": ("how a call is carried out", "一次调用如何执行"),
    "adapters": ("transports, stores, limiters, signers", "传输、存储、限流、签名"),
    "sandbox": ("a whole platform in one process", "单进程的模拟平台"),
    "policy": ("states, retries, quota, doubt: decided", "状态、重试、限额、结果未知：只做决定"),
    "protocol": ("requests, results, signing, the wire: said", "请求、结果、签名、报文：只管表达"),
    "errors": ("the tree of errors, each with its fate", "错误类，各有 fate"),
    "hints": ("what to do after each error", "每种错误之后该怎么办"),
    "extras": ("how to install what is optional", "可选依赖如何安装"),
    "language": ("Chinese or English", "中文或英文"),
    "version": ("the version", "版本号"),
}
_PURE: Final = {"policy", "protocol"}


def read_layers() -> list[list[str]]:
    """Return the layers as the import contract has them, the highest first."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["importlinter:contract:layers"]["layers"].split("\n")
    return [line.replace(" ", "").split("|") for line in lines if line.strip()]


def draw_layers(language: int) -> str:
    """Draw the layers, each of which may import only what is below."""
    layers = read_layers()
    parts = list[str]()
    for row, names in enumerate(layers):
        width = (760 - 20 * (len(names) - 1)) / len(names)
        for column, name in enumerate(names):
            x, y = 60 + column * (width + 20), 20 + row * 56
            fill = "#c6f7e2" if name in _PURE else "#f5f7fa"
            parts.append(_box(x, y, width, 42, fill, f'data-layer="{name}"'))
            parts.append(_text(x + 14, y + 26, name, 'font-weight="bold"'))
            about = _LAYERS[name][language]
            parts.append(_text(x + width - 14, y + 26, about, 'text-anchor="end" font-size="13"'))
    bottom = 20 + len(layers) * 56
    parts.append(_arrow(((30, 30), (30, bottom - 20))))
    note = (
        "Imports look down only. Green: no I/O, no clock, no random number.",
        "只允许向下导入。绿色：不做 I/O，不读时钟，不取随机数。",
    )[language]
    parts.append(_text(60, bottom + 12, note, f'fill="{_GREY}"'))
    title = ("Layers of imports", "导入分层")[language]
    return _picture(850, bottom + 30, title, parts)


# The flow of a payment

_LANES: Final[tuple[Text, ...]] = (
    ("payer's phone", "付款人手机"),
    ("mini program", "小程序"),
    ("your server + SDK", "商户后端 + SDK"),
    ("platform", "工猫平台"),
)
_STEPS: Final[tuple[tuple[int, int, Text], ...]] = (
    (1, 2, ("tap: order 42", "点击支付：订单 42")),
    (2, 3, ("trade → payToken", "trade → payToken")),
    (2, 3, ("pay: payToken, openid → prepay", "pay：payToken、openid → prepay")),
    (2, 1, ("jsapi_params()", "jsapi_params()")),
    (1, 0, ("wx.requestPayment", "wx.requestPayment")),
    (0, 3, ("the person confirms", "付款人确认付款")),
    (3, 2, ("callback", "回调")),
    (2, 3, ("query: is it paid?", "query：是否已支付？")),
    (2, 3, ("refund, if wanted", "refund（需要时）")),
)


def draw_flow(language: int) -> str:
    """Draw who tells whom what, from the tap to the refund."""
    x = [110, 330, 560, 790]
    bottom = 90 + 46 * len(_STEPS)
    parts = list[str]()
    for place, lane in zip(x, _LANES, strict=True):
        parts.append(_box(place - 85, 20, 170, 38, "#d9e8ff" if place == x[2] else "#f5f7fa"))
        parts.append(_text(place, 44, lane[language], 'text-anchor="middle" font-weight="bold"'))
        line = f'x1="{place}" y1="58" x2="{place}" y2="{bottom - 20}" stroke="{_GREY}"'
        parts.append(f'<line {line} stroke-dasharray="3 4"/>\n')
    for row, (start, end, text) in enumerate(_STEPS):
        y = 98 + 46 * row
        side = 1 if end > start else -1
        parts.append(_arrow(((x[start], y), (x[end] - 3 * side, y))))
        extra = f'text-anchor="middle" font-size="13" {_HALO}'
        parts.append(_text((x[start] + x[end]) / 2, y - 7, f"{row + 1}. {text[language]}", extra))
    return _picture(900, bottom, ("The flow of one payment", "一笔支付的流程")[language], parts)


DRAWINGS: Final = {"states": draw_states, "layers": draw_layers, "flow": draw_flow}


def make_files() -> dict[str, str]:
    """Return every drawing by its file's name."""
    suffixes = ("", ".zh")
    return {
        f"{name}{suffix}.svg": draw(language)
        for name, draw in DRAWINGS.items()
        for language, suffix in enumerate(suffixes)
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, text in make_files().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
