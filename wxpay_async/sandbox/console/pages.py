"""Render the pages by Jinja2, which escapes all text. Needs the extra `sandbox`."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from attrs import define, field

from wxpay_async.errors import InvalidRequestError
from wxpay_async.extras import how_to_install
from wxpay_async.sandbox.console.texts import CAUSES, TEXTS, Language
from wxpay_async.sandbox.console.views import write_json

if TYPE_CHECKING:
    from jinja2 import Environment

_PACKAGE: Final = "wxpay_async.sandbox.console"


@define(eq=False)
class Pages:
    """Render templates; they are loaded when the first page is asked for."""

    _environment: Environment | None = field(init=False, default=None)

    def render(self, template: str, language: Language, **values: object) -> str:
        """Return a page or a part of one.

        Args:
            template: its file name.
            language: of its words.
            values: what it shows.

        Raises:
            InvalidRequestError: the extra `sandbox` is not installed.
        """
        if self._environment is None:
            self._environment = _make_environment()
        return self._environment.get_template(template).render(
            t=TEXTS[language],
            causes=CAUSES[language],
            language=language,
            other="zh" if language == "en" else "en",
            **values,
        )


def read_static(name: str) -> bytes:
    """Return a style sheet or a script."""
    return files(_PACKAGE).joinpath("static", name).read_bytes()


def _make_environment() -> Environment:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidRequestError(
            f"the console needs Jinja2; install it with: {how_to_install('sandbox')}"
        ) from error
    made = Environment(
        loader=PackageLoader(_PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["json"] = write_json
    return made
