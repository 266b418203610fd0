"""Tell how a batch ended: counts, why lines did not end well and what to do, for people or JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wxpay_async.batch.checking import Checked
from wxpay_async.batch.report_texts import TEXTS, Texts
from wxpay_async.batch.tally import LABELS, Reason, Tally
from wxpay_async.cli.output import (
    make_table,
    print_json,
    print_rich,
    to_safe_text,
    translate,
    write_stdout,
)
from wxpay_async.language import Sentence, find_language

_EXAMPLES: Final = 3
_WORDS: Final = {
    "fault": Sentence("line {line}: {reason}\n", "第 {line} 行：{reason}\n"),
    "more": Sentence("and {count:,} more\n", "另有 {count:,} 处\n"),
    "sound": Sentence("{path}: {lines}, no fault\n", "{path}：{lines}，没有错误\n"),
    "code": Sentence("code", "错误码"),
    "first": Sentence("first lines", "最前面的行"),
    "exit": Sentence("exit code {code}\n", "退出码 {code}\n"),
    "explained": Sentence("{meaning}. {advice}", "{meaning}。{advice}"),
    "person": Sentence("Needs a person. {text}", "需人工介入。{text}"),
}


def print_faults(path: Path, checked: Checked, *, as_json: bool) -> None:
    """Print what a check found."""
    if as_json:
        faults = [{"line": fault.line, "reason": fault.reason} for fault in checked.faults]
        print_json(
            {"event": "checked", "lines": checked.lines, "faults": faults, "more": checked.more}
        )
        return
    for fault in checked.faults:
        write_stdout(_say("fault", line=fault.line, reason=to_safe_text(fault.reason)))
    if checked.more:
        write_stdout(_say("more", count=checked.more))
    if not checked.faults:
        write_stdout(_say("sound", path=path, lines=_texts().format_lines(checked.lines)))


def print_tally(tally: Tally, files: Mapping[str, Path | None], *, code: int) -> None:
    """Print how lines ended, and where more is to be found.

    Args:
        tally: how lines ended.
        files: by what is in them; None for one that was not written.
        code: the exit code.
    """
    table = make_table()
    words = _texts().words
    table.add_column(words["outcome"].lower(), no_wrap=True)
    table.add_column(words["lines"].lower(), justify="right", no_wrap=True)
    table.add_column(words["meaning"].lower(), overflow="fold")
    for label in LABELS:
        if tally.counts[label]:
            table.add_row(label, f"{tally.counts[label]:,}", _texts().notes[label])
    print_rich(table)
    if tally.reasons:
        _print_reasons(tally)
    for name, path in files.items():
        if path is not None:
            write_stdout(f"{name}: {path}\n")
    write_stdout(_say("exit", code=code))


def _print_reasons(tally: Tally) -> None:
    table = make_table()
    words = _texts().words
    table.add_column(_say("code"), overflow="fold")
    table.add_column(words["lines"].lower(), overflow="fold", justify="right")
    table.add_column(words["todo"].lower(), overflow="fold")
    table.add_column(_say("first"), overflow="fold")
    for reason in tally.list_reasons():
        table.add_row(
            _name(reason), f"{reason.count:,}", _advise(reason), ", ".join(_list_lines(reason))
        )
    print_rich(table)
    print_rich(words["same"])


def _name(reason: Reason) -> str:
    """Return a code, with the words of its first line where it is not documented."""
    if _texts().explain(reason) or not reason.examples:
        return reason.code
    return f"{reason.code}\n{to_safe_text(reason.examples[0].text)}"


def _advise(reason: Reason) -> str:
    texts = _texts()
    meaning, advice = texts.explain(reason), texts.find_advice(reason.error)
    meaning = meaning[:1].upper() + meaning[1:]
    text = _say("explained", meaning=meaning, advice=advice) if meaning else advice
    return _say("person", text=text) if reason.needs_person else text


def _texts() -> Texts:
    return TEXTS[find_language(os.environ)]


def _say(word: str, **values: object) -> str:
    return translate(_WORDS[word], **values)


def _list_lines(reason: Reason) -> list[str]:
    return [str(line.number) for line in reason.examples[:_EXAMPLES]]


def to_json(
    event: str, tally: Tally, files: Mapping[str, Path | None], *, code: int
) -> dict[str, object]:
    """Return for a program what `print_tally` prints."""
    return {
        "event": event,
        "lines": tally.total,
        "counts": {label: n for label in LABELS if (n := tally.counts[label])},
        "needPerson": tally.person_total,
        "reasons": [
            {
                "outcome": reason.label,
                "code": reason.code,
                "lines": reason.count,
                "needsPerson": reason.needs_person,
                "whatToDo": _advise(reason),
                "firstLines": [line.number for line in reason.examples],
            }
            for reason in tally.list_reasons()
        ],
        "files": {name: str(path) for name, path in files.items() if path is not None},
        "exitCode": code,
    }
