"""Show the explanation of a signature: for people in 80 columns, for programs as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, cast

from rich.cells import cell_len, chop_cells
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wxpay_async.cli.output import make_console, print_rich, to_json, to_safe_text
from wxpay_async.language import Language, Sentence
from wxpay_async.protocol.explain import Comparison, Explanation, Parameter
from wxpay_async.protocol.explain_causes import Cause, Verdict
from wxpay_async.protocol.explain_texts import Difference

_INDENT: Final = 2
_ROOM: Final = 58
"""Cells beside the labels of a difference, on a screen of 80."""

_WORDS: Final[Mapping[str, Sentence]] = MappingProxyType(
    {
        "signed": Sentence("Signed, in this order", "参与签名的参数（按顺序）"),
        "dropped": Sentence("Left out", "不参与签名的参数"),
        "canonical": Sentence(
            "Canonical string, {size} bytes of UTF-8", "待签名字符串（UTF-8，{size} 字节）"
        ),
        "md5": Sentence(
            "Hashed by MD5: the string above, then &appSecret=***",
            "MD5 计算：上面的字符串，末尾追加 &appSecret=***",
        ),
        "rsa": Sentence(
            "Signed by RSA (PKCS#1 v1.5): its SHA-256", "RSA 签名（PKCS#1 v1.5）：其 SHA-256 摘要"
        ),
        "signature": Sentence("Signature", "签名"),
        "no_key": Sentence("only a public key is here", "此处只有公钥"),
        "notes": Sentence("Mind", "注意"),
        "against_string": Sentence("Compared with a canonical string", "与给出的待签名字符串比较"),
        "against_signature": Sentence("Compared with a signature", "与给出的签名比较"),
        "difference": Sentence(
            "Byte {offset} is the first that differs, {place}",
            "第一个不同的字节：第 {offset} 个，{place}",
        ),
        "inside": Sentence("in {name}", "位于 {name}"),
        "at_end": Sentence("at the end", "位于末尾"),
        "right": Sentence("right", "正确"),
        "theirs": Sentence("theirs", "对方"),
        "ends": Sentence("<ends here>", "<到此结束>"),
    }
)
_COLOURS: Final = {
    Verdict.MATCHES: "bold green",
    Verdict.EXPLAINED: "bold red",
    Verdict.UNKNOWN: "bold yellow",
}


def to_fields(found: Explanation, language: Language) -> dict[str, object]:
    """Turn an explanation into JSON; each cause has a name for programs and a text for people."""
    fields = cast("dict[str, object]", to_json(found))
    if not found.path:
        del fields["path"]
    fields["notes"] = _describe(found.notes, language)
    if found.comparison is not None:
        comparison = cast("dict[str, object]", to_json(found.comparison))
        fields["comparison"] = {
            **comparison,
            "text": found.comparison.verdict.sentence.in_language(language),
            "causes": _describe(found.comparison.causes, language),
        }
    return fields


def _describe(causes: Iterable[Cause], language: Language) -> list[dict[str, str]]:
    return [{"cause": each, "text": each.sentence.in_language(language)} for each in causes]


def print_explanation(found: Explanation, language: Language) -> None:
    """Print an explanation for a person."""
    _Screen(language).show(found)


class _Screen:
    """Prints in one language."""

    def __init__(self, language: Language) -> None:
        self._language: Language = language

    def _say(self, word: str, **values: object) -> str:
        return _WORDS[word].in_language(self._language).format(**values)

    def _sentence(self, sentence: Sentence) -> str:
        return sentence.in_language(self._language)

    def show(self, found: Explanation) -> None:
        """Print everything, section by section."""
        signed = [each for each in found.parameters if each.dropped is None]
        if signed:
            rows = ((each.name, each.value) for each in signed)
            self._print_section("signed", _make_values(rows))
        self._print_dropped(each for each in found.parameters if each.dropped is not None)
        canonical = self._say("canonical", size=found.size)
        _print_block(canonical, found.canonical)
        _print_block(self._say(found.scheme.lower()), found.digest)
        _print_block(self._say("signature"), found.signature or self._say("no_key"))
        if found.notes:
            self._print_section("notes", self._list_causes(found.notes))
        if found.comparison is not None:
            self._print_comparison(found.comparison)

    def _print_section(self, word: str, content: RenderableType) -> None:
        _print_titled(self._say(word), content)

    def _print_dropped(self, dropped: Iterable[Parameter]) -> None:
        rows = [
            (each.name, self._sentence(each.dropped.sentence))
            for each in dropped
            if each.dropped is not None
        ]
        if rows:
            self._print_section("dropped", _make_grid(rows))

    def _list_causes(self, causes: Iterable[Cause]) -> RenderableType:
        return _make_grid(("-", self._sentence(cause.sentence)) for cause in causes)

    def _print_comparison(self, found: Comparison) -> None:
        is_string = found.kind == "canonical string"
        title = self._say("against_string" if is_string else "against_signature")
        verdict = self._sentence(found.verdict.sentence)
        _print_titled(title, Text(verdict, style=_COLOURS[found.verdict]))
        if found.causes:
            print_rich(Padding(self._list_causes(found.causes), (0, 0, 0, _INDENT), expand=False))
        if found.difference is not None:
            self._print_difference(found.difference)

    def _print_difference(self, found: Difference) -> None:
        inside = self._say("inside", name=to_safe_text(found.parameter))
        place = inside if found.parameter else self._say("at_end")
        before = to_safe_text(found.before)
        rows = [
            (self._say(label), _fit(before, to_safe_text(text) or self._say("ends")))
            for label, text in (("right", found.ours), ("theirs", found.theirs))
        ]
        rows.insert(1, ("", " " * cell_len(before) + "^"))
        _print_titled(
            self._say("difference", offset=found.offset + 1, place=place), _make_values(rows)
        )


def _print_titled(title: str, content: RenderableType) -> None:
    print_rich("")
    print_rich(Text(title, style="bold"))
    print_rich(Padding(content, (0, 0, 0, _INDENT), expand=False))


def _print_block(title: str, text: str) -> None:
    """Print a text so that its lines can be copied: no blanks behind them."""
    lines = [" " * _INDENT + line for line in _break_lines(text, beside=0)]
    print_rich("")
    print_rich(Text(title, style="bold"))
    print_rich(Text("\n".join(lines), no_wrap=True))


def _break_lines(text: str, *, beside: int) -> list[str]:
    """Break a text at the end of the line, not at blanks, since each of its characters counts."""
    width = max(_INDENT, make_console().width - _INDENT - beside)
    return chop_cells(to_safe_text(text), width)


def _make_values(rows: Iterable[tuple[str, str]]) -> Table:
    """Show names, and values that are broken as `_break_lines` does."""
    pairs = [(to_safe_text(name), value) for name, value in rows]
    beside = _INDENT + max(cell_len(name) for name, _ in pairs)
    return _make_grid(
        (name, Text("\n".join(_break_lines(value, beside=beside)), no_wrap=True))
        for name, value in pairs
    )


def _make_grid(rows: Iterable[tuple[str, str | Text]]) -> Table:
    grid = Table.grid(padding=(0, _INDENT))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(to_safe_text(name), value)
    return grid


def _fit(before: str, after: str) -> str:
    """Cut a text at the right, so that both lines of a difference stay lines."""
    room = max(1, _ROOM - cell_len(before))
    return before + (after if cell_len(after) <= room else chop_cells(after, room)[0])
