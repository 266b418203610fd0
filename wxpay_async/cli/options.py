"""Define the options that several commands share, and turn those of a client into a gateway."""

from __future__ import annotations

import enum
import functools
import inspect
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_type_hints

import attrs
import typer
from typer import Option

import wxpay_async as wx
from wxpay_async.cli.main import EXIT_CODES, AsJson, app
from wxpay_async.cli.output import print_short_warnings
from wxpay_async.cli.signals import TerminatedError, raise_doubt, watch_signals

if TYPE_CHECKING:
    from wxpay_async.engine.telemetry import Event, Hook

T = TypeVar("T")

PASSPHRASE: Final = "WXPAY_PRIVATE_KEY_PASSPHRASE"  # noqa: S105 - the variable's name
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Scheme(enum.StrEnum):
    """How the merchant signs."""

    RSA = "rsa"
    MD5 = "md5"


@attrs.frozen(kw_only=True)
class GatewayOptions:
    """The options that describe a gateway; they win over the environment."""

    app_key: Annotated[
        str | None, Option(help="The developer id. Else WXPAY_APP_KEY.", metavar="KEY")
    ] = None
    app_secret_file: Annotated[
        Path | None,
        Option(
            help="File with the MD5 secret. Else WXPAY_APP_SECRET_FILE or WXPAY_APP_SECRET.",
            metavar="PATH",
            exists=True,
        ),
    ] = None
    private_key_file: Annotated[
        Path | None,
        Option(
            help="File with the RSA private key, 2048 bits or more. Else WXPAY_PRIVATE_KEY_FILE or "
            f"WXPAY_PRIVATE_KEY; its passphrase is read from {PASSPHRASE}.",
            metavar="PATH",
        ),
    ] = None
    base_url: Annotated[
        str | None,
        Option(
            help="The platform's address: test, production, https, or http on loopback. Else "
            "WXPAY_BASE_URL, else production.",
            metavar="URL",
        ),
    ] = None
    proxy: Annotated[
        str | None,
        Option(help="HTTP proxy with a fixed address. Else WXPAY_PROXY.", metavar="URL"),
    ] = None
    as_json: AsJson = False

    def make_gateway(
        self, more: Mapping[str, str] = _NOTHING, *, hooks: Sequence[Hook] = ()
    ) -> wx.PayGateway:
        """Make the gateway that the options and the environment describe.

        Args:
            more: variables that win over both.
            hooks: the gateway's.

        Raises:
            InvalidRequestError: a setting is missing, cannot be used or needs an extra.
            InvalidKeyError: a file cannot be used.
        """
        with print_short_warnings():
            try:
                return wx.PayGateway.from_env(self.build_environment() | {**more}, hooks=hooks)
            except ImportError as error:  # a setting that needs an extra; the text names it
                raise wx.InvalidRequestError(str(error)) from error

    def build_environment(self) -> dict[str, str]:
        """Return the environment with what the options say in it.

        Raises:
            InvalidRequestError: two options exclude each other.
        """
        from wxpay_async.engine.environment import SCHEMES  # noqa: PLC0415 - as in `run`

        environment = dict(os.environ)
        if self.app_secret_file and self.private_key_file:
            raise wx.InvalidRequestError(
                "both given", field="--app-secret-file, --private-key-file", allowed="one of them"
            )
        if self.app_secret_file or self.private_key_file:
            # The option chooses the scheme, whatever the environment was set up for.
            for name in SCHEMES:
                environment.pop(name, None)
        given = {
            "WXPAY_APP_KEY": self.app_key,
            "WXPAY_APP_SECRET_FILE": self.app_secret_file,
            "WXPAY_PRIVATE_KEY_FILE": self.private_key_file,
            "WXPAY_BASE_URL": self.base_url,
            "WXPAY_PROXY": self.proxy,
        }
        return environment | {
            name: str(value) for name, value in given.items() if value is not None
        }


@attrs.frozen(kw_only=True)
class ClientOptions(GatewayOptions):
    """The options of a command that makes one call."""

    timeout: Annotated[
        float, Option(help="Seconds for the whole call, retries included; at least 3.", metavar="S")
    ] = 30.0

    def run(
        self, operation: Callable[[wx.PayGateway], Awaitable[T]], *, read_only: bool = False
    ) -> T:
        """Await one operation of the gateway.

        Args:
            operation: what to await.
            read_only: it changes nothing on the platform, so an interrupted one is not in doubt.

        Raises:
            InDoubtError: it was interrupted by Ctrl-C or SIGTERM after it was sent.
        """
        import asyncio  # noqa: PLC0415 - the help texts do without it

        sent: list[str] = []
        gateway = self.make_gateway(hooks=[functools.partial(_note_attempt, sent)])

        async def await_operation() -> T:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - for the type
            with watch_signals(lambda _: task.cancel(), signal.SIGTERM):
                async with gateway:
                    return await operation(gateway)

        try:
            result = asyncio.run(await_operation())
        except (KeyboardInterrupt, TerminatedError, asyncio.CancelledError) as error:
            if sent and not read_only:
                reason = "interrupted; what was sent may have been executed"
                raise wx.InDoubtError(reason) from None
            if isinstance(error, KeyboardInterrupt):
                raise
            raise TerminatedError from None
        if not read_only:
            raise_doubt()
        return result


def _note_attempt(sent: list[str], event: Event) -> None:
    if event.kind == "attempt_started":
        sent.append(event.operation)


def client_command(
    command: Callable[..., None], *, group: typer.Typer = app
) -> Callable[..., None]:
    """Register a command, and add to its options those of the class that it takes first."""
    first, *own = inspect.signature(command, eval_str=True).parameters.values()
    kind: type[GatewayOptions] = first.annotation
    hints = get_type_hints(kind, include_extras=True)
    shared = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(kind).parameters.items()
    ]

    def run_command(**values: Any) -> None:  # noqa: ANN401 - what the signature below says
        options = kind(**{parameter.name: values.pop(parameter.name) for parameter in shared})
        command(options, **values)

    run_command.__name__, run_command.__doc__ = command.__name__, command.__doc__
    run_command.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
    run_command.__dict__["__signature__"] = inspect.Signature([*own, *shared])
    group.command(epilog=EXIT_CODES)(run_command)
    return command
