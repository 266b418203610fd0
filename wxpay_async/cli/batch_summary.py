"""Tell how a batch ended: counts, why lines did not end well and what to do, for people or JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wxpay_async.batch.checking import Checked
from wxpay_async.batch.report_texts import ENGLISH
from wxpay_async.batch.tally import LABELS, Reason, Tally
from wxpay_async.cli.output import make_table, print_json, print_rich, to_safe_text, write_stdout

_EXAMPLES: Final = 3


def print_faults(path: Path, checked: Checked, *, as_json: bool) -> None:
    """Print what a check found."""
    if as_json:
        faults = [{"line": fault.line, "reason": fault.reason} for fault in checked.faults]
        print_json(
            {"event": "checked", "lines": checked.lines, "faults": faults, "more": checked.more}
        )
        return
    for fault in checked.faults:
        write_stdout(f"line {fault.line}: {to_safe_text(fault.reason)}\n")
    if checked.more:
        write_stdout(f"and {checked.more:,} more\n")
    if not checked.faults:
        write_stdout(f"{path}: {ENGLISH.format_lines(checked.lines)}, no fault\n")


def print_tally(tally: Tally, files: Mapping[str, Path | None], *, code: int) -> None:
    """Print how lines ended, and where more is to be found.

    Args:
        tally: how lines ended.
        files: by what is in them; None for one that was not written.
        code: the exit code.
    """
    table = make_table()
    table.add_column("outcome", no_wrap=True)
    table.add_column("lines", justify="right", no_wrap=True)
    table.add_column("what it means", overflow="fold")
    for label in LABELS:
        if tally.counts[label]:
            table.add_row(label, f"{tally.counts[label]:,}", ENGLISH.notes[label])
    print_rich(table)
    if tally.reasons:
        _print_reasons(tally)
    for name, path in files.items():
        if path is not None:
            write_stdout(f"{name}: {path}\n")
    write_stdout(f"exit code {code}\n")


def _print_reasons(tally: Tally) -> None:
    table = make_table()
    for name in ("code", "lines", "what to do", "first lines"):
        table.add_column(name, overflow="fold", justify="right" if name == "lines" else "left")
    for reason in tally.list_reasons():
        table.add_row(
            _name(reason), f"{reason.count:,}", _advise(reason), ", ".join(_list_lines(reason))
        )
    print_rich(table)
    print_rich(ENGLISH.words["same"])


def _name(reason: Reason) -> str:
    """Return a code, with the words of its first line where it is not documented."""
    if ENGLISH.explain(reason) or not reason.examples:
        return reason.code
    return f"{reason.code}\n{to_safe_text(reason.examples[0].text)}"


def _advise(reason: Reason) -> str:
    meaning, advice = ENGLISH.explain(reason), ENGLISH.find_advice(reason.error)
    text = f"{meaning[:1].upper()}{meaning[1:]}. {advice}" if meaning else advice
    return f"Needs a person. {text}" if reason.needs_person else text


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
