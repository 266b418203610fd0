"""What every client command takes: which merchant, which platform, how long."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_type_hints

import attrs
from typer import Option

from wxpay_async import InDoubtError, InvalidRequestError, PayGateway
from wxpay_async.cli.main import EXIT_CODES, AsJson, app
from wxpay_async.cli.output import warnings_on_one_line
from wxpay_async.protocol.keys import read_key_file

T = TypeVar("T")

PASSPHRASE: Final = "WXPAY_PRIVATE_KEY_PASSPHRASE"  # noqa: S105 - the variable's name


@attrs.frozen(kw_only=True)
class Setup:
    """The options that every client command takes; they win over the environment."""

    app_key: Annotated[
        str | None, Option(help="The developer id. Else WXPAY_APP_KEY.", metavar="KEY")
    ] = None
    app_secret_file: Annotated[
        Path | None, Option(help="File with the MD5 secret. Else WXPAY_APP_SECRET.", metavar="PATH")
    ] = None
    private_key_file: Annotated[
        Path | None,
        Option(
            help="File with the RSA private key, 2048 bits or more. Else WXPAY_PRIVATE_KEY_FILE; "
            f"its passphrase is read from {PASSPHRASE}.",
            metavar="PATH",
        ),
    ] = None
    base_url: Annotated[
        str | None,
        Option(
            help="The platform's origin: https, or http on loopback. Else WXPAY_BASE_URL, else "
            "production.",
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

    def gateway(self) -> PayGateway:
        """Make the gateway that the options and the environment describe.

        Raises:
            InvalidRequestError: a setting is missing, cannot be used or needs an extra.
            InvalidKeyError: a file cannot be used.
        """
        with warnings_on_one_line():
            try:
                return PayGateway.from_env(self._environ())
            except ImportError as error:  # a setting that needs an extra; the text names it
                raise InvalidRequestError(str(error)) from error

    def _environ(self) -> dict[str, str]:
        environ = dict(os.environ)
        if self.app_secret_file and self.private_key_file:
            raise InvalidRequestError(
                "both given", field="--app-secret-file, --private-key-file", allowed="one of them"
            )
        if self.app_secret_file or self.private_key_file:
            # The option chooses the scheme, whatever the environment was set up for.
            for name in ("WXPAY_APP_SECRET", "WXPAY_PRIVATE_KEY_FILE"):
                environ.pop(name, None)
        if self.app_secret_file:
            environ["WXPAY_APP_SECRET"] = _secret_in(self.app_secret_file)
        given = {
            "WXPAY_APP_KEY": self.app_key,
            "WXPAY_PRIVATE_KEY_FILE": self.private_key_file,
            "WXPAY_BASE_URL": self.base_url,
            "WXPAY_PROXY": self.proxy,
        }
        return environ | {name: str(value) for name, value in given.items() if value is not None}

    def run(self, operation: Callable[[PayGateway], Awaitable[T]], *, reads: bool = False) -> T:
        """Await one operation of the gateway.

        Args:
            operation: what to await.
            reads: it changes nothing on the platform, so it can be interrupted without a doubt.
        """
        gateway = self.gateway()

        async def operate() -> T:
            async with gateway:
                return await operation(gateway)

        try:
            return asyncio.run(operate())
        except KeyboardInterrupt:
            if reads:
                raise
            raise InDoubtError("interrupted; what was sent may have been executed") from None


def _secret_in(path: Path) -> str:
    secret = read_key_file(path, private=True).decode("ascii", "replace").strip()
    if not secret:
        raise InvalidRequestError(
            f"{path} is empty", field="--app-secret-file", allowed="a file with the MD5 secret"
        )
    return secret


def client_command(command: Callable[..., None]) -> Callable[..., None]:
    """Register a command that takes a `Setup`, and give it the options of one."""
    hints = get_type_hints(Setup, include_extras=True)
    shared = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(Setup).parameters.items()
    ]
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(**options: Any) -> None:  # noqa: ANN401 - what the signature below says
        setup = Setup(**{parameter.name: options.pop(parameter.name) for parameter in shared})
        command(setup, **options)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
    run.__dict__["__signature__"] = inspect.Signature([*own, *shared])
    app.command(epilog=EXIT_CODES)(run)
    return command
