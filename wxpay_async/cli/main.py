"""Run the program around the commands: its name, its help, its errors and its exit codes.

Answers go to stdout, everything else goes to stderr. An error is one line, and where its text does
not say by itself what to do, a second one begins with `hint:`. The exit code says what is known
about the money, see `EXIT_CODES`.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, NoReturn, cast

import typer
from typer import Option

from wxpay_async import (
    Fate,
    IdempotencyConflictError,
    InvalidKeyError,
    InvalidRequestError,
    WxPayError,
    __version__,
)
from wxpay_async.cli.output import join_lines, translate, write_stderr
from wxpay_async.cli.signals import TerminatedError, exit_code_of, raise_on_sigterm
from wxpay_async.language import Sentence, find_language

EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 refused by the platform, a signature differs, or the demo went wrong; "
    "2 bad input or configuration, nothing was sent; 3 not sent, try again; 4 in doubt, the "
    "request may have been executed, or its answer could not be shown: query before anything else; "
    "130 interrupted, 143 terminated."
)
EXIT_BY_FATE: Final[Mapping[Fate, tuple[Sentence, int]]] = MappingProxyType(
    {
        Fate.REFUSED: (Sentence("refused: ", "被拒绝: "), 1),
        Fate.NOT_SENT: (Sentence("not sent: ", "没有发出: "), 3),
        Fate.IN_DOUBT: (Sentence("in doubt: ", "结果未知: "), 4),
    }
)
"""For each fate of a request, how the error line begins, and the exit code."""

_BAD_INPUT: Final = 2
_INTERRUPTED: Final = 130

_ERROR: Final = Sentence("error:", "错误:")
_HINT: Final = Sentence("hint:", "提示:")
_SEE_HELP: Final = Sentence("{text}; see {place} --help", "{text}；用法见 {place} --help")
_TERMINATED: Final = Sentence("terminated", "被终止")
_INTERRUPTION: Final = Sentence("interrupted", "被中断")

# Newer versions of typer carry a click of their own: this names the class in both cases.
_UsageError: Final = cast("type[typer.BadParameter]", typer.BadParameter.__base__)

app = typer.Typer(
    name="wxpay-async",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, Option("--json", help="Print JSON, and nothing else, on stdout.")]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with what `EXIT_CODES` says.

    Args:
        argv: the arguments; the process's own when absent.
    """
    stdout: object = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="replace")  # a terminal without Chinese must not end a payment
    with raise_on_sigterm():
        _run(argv)


def _run(argv: Sequence[str] | None) -> NoReturn:
    try:
        code = _find_program()(None if argv is None else list(argv), standalone_mode=False)
    except _UsageError as error:
        place = error.ctx.command_path if error.ctx else "wxpay-async"
        text = join_lines(error.format_message()).rstrip(".")
        exit_with_error(translate(_SEE_HELP, text=text, place=place), _BAD_INPUT)
    except WxPayError as error:
        text, failed = _describe_error(error)
        exit_with_error(text, failed, hint=_find_hint(error))
    except typer.Abort:
        code = _INTERRUPTED
    except TerminatedError:
        exit_with_error(translate(_TERMINATED), exit_code_of(signal.SIGTERM))
    if code == _INTERRUPTED:
        exit_with_error(translate(_INTERRUPTION), _INTERRUPTED)
    sys.exit(code or 0)


def _find_program() -> Callable[..., Any]:
    """Return the program with its help in the language of the environment."""
    if find_language(os.environ) == "en":
        return app
    from wxpay_async.cli.chinese_lines import (  # noqa: PLC0415 - English does without
        break_between_characters,
    )
    from wxpay_async.cli.help_texts import translate_help  # noqa: PLC0415 - as above

    break_between_characters()
    program = typer.main.get_command(app)
    translate_help(program)
    return program


def exit_with_error(text: str, code: int, *, hint: str = "") -> NoReturn:
    """Write one line to stderr, and what to do on another, then exit."""
    write_stderr(translate(_ERROR), text, colour="red")
    if hint:
        write_stderr(translate(_HINT), hint, colour="cyan")
    sys.exit(code)


def _find_hint(error: WxPayError) -> str:
    """Return what to do; nothing for bad input, whose text names what is allowed."""
    return "" if isinstance(error, InvalidRequestError) else error.hint


def _describe_error(error: WxPayError) -> tuple[str, int]:
    """Return the error's line and its exit code."""
    text = join_lines(str(error))
    bad_input = isinstance(error, InvalidRequestError | InvalidKeyError | IdempotencyConflictError)
    if bad_input and error.fate is Fate.NOT_SENT:
        return text, _BAD_INPUT
    fate, code = EXIT_BY_FATE[error.fate]
    return f"{translate(fate)}{text}", code


@app.callback(invoke_without_command=True)
def _show_version_or_help(
    context: typer.Context,
    *,
    show_version: Annotated[bool, Option("--version", help="Print the version.")] = False,
) -> None:
    """Take WeChat mini-program payments; see them work without a platform first: try `demo`."""
    if show_version:
        typer.echo(f"wxpay-async {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
