"""Define the options that several commands share, and turn those of a client into a gateway."""

from __future__ import annotations

import enum
import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_type_hints

import attrs
from typer import Option

import wxpay_async as wx
from wxpay_async.cli.main import EXIT_CODES, AsJson, app
from wxpay_async.cli.output import print_short_warnings

T = TypeVar("T")

PASSPHRASE: Final = "WXPAY_PRIVATE_KEY_PASSPHRASE"  # noqa: S105 - the variable's name


class Scheme(enum.StrEnum):
    """How the merchant signs."""

    RSA = "rsa"
    MD5 = "md5"


@attrs.frozen(kw_only=True)
class ClientOptions:
    """The options that every client command takes; they win over the environment."""

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
    timeout: Annotated[
        float, Option(help="Seconds for the whole call, retries included; at least 3.", metavar="S")
    ] = 30.0
    as_json: AsJson = False

    def make_gateway(self) -> wx.PayGateway:
        """Make the gateway that the options and the environment describe.

        Raises:
            InvalidRequestError: a setting is missing, cannot be used or needs an extra.
            InvalidKeyError: a file cannot be used.
        """
        with print_short_warnings():
            try:
                return wx.PayGateway.from_env(self._build_environment())
            except ImportError as error:  # a setting that needs an extra; the text names it
                raise wx.InvalidRequestError(str(error)) from error

    def _build_environment(self) -> dict[str, str]:
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

    def run(
        self, operation: Callable[[wx.PayGateway], Awaitable[T]], *, read_only: bool = False
    ) -> T:
        """Await one operation of the gateway.

        Args:
            operation: what to await.
            read_only: it changes nothing on the platform, so an interrupted one is not in doubt.
        """
        import asyncio  # noqa: PLC0415 - the help texts do without it

        gateway = self.make_gateway()

        async def await_operation() -> T:
            async with gateway:
                return await operation(gateway)

        try:
            return asyncio.run(await_operation())
        except KeyboardInterrupt:
            if read_only:
                raise
            raise wx.InDoubtError("interrupted; what was sent may have been executed") from None


def client_command(command: Callable[..., None]) -> Callable[..., None]:
    """Register a command that takes `ClientOptions`, and add those options to its own."""
    hints = get_type_hints(ClientOptions, include_extras=True)
    shared = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(ClientOptions).parameters.items()
    ]
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run_command(**values: Any) -> None:  # noqa: ANN401 - what the signature below says
        options = ClientOptions(
            **{parameter.name: values.pop(parameter.name) for parameter in shared}
        )
        command(options, **values)

    run_command.__name__, run_command.__doc__ = command.__name__, command.__doc__
    run_command.__annotations__ = {each.name: each.annotation for each in (*own, *shared)}
    run_command.__dict__["__signature__"] = inspect.Signature([*own, *shared])
    app.command(epilog=EXIT_CODES)(run_command)
    return command
