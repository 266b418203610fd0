"""Define the commands about the database of `SqlStore`: `store schema`. They connect to none."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from typer import Argument, Option

from wxpay_async import InvalidRequestError
from wxpay_async.cli.main import EXIT_CODES, AsJson, app
from wxpay_async.cli.output import print_json, write_stdout
from wxpay_async.extras import how_to_install

store = typer.Typer(epilog=EXIT_CODES, help="Prepare the database of a durable store.")
app.add_typer(store, name="store")

Url = Annotated[
    str,
    Argument(
        help="The database's address, or its beginning: sqlite://, postgresql://, mysql:// or "
        "mariadb://. Nothing connects to it, so it needs no password.",
        metavar="URL",
        show_default=False,
    ),
]
Schema = Annotated[
    str | None,
    Option(help="Where the tables are, as SqlStore's schema=. It must exist.", metavar="NAME"),
]
Prefix = Annotated[
    str, Option(help="How their names begin, as SqlStore's table_prefix=.", metavar="PREFIX")
]
FromVersion = Annotated[
    int | None,
    Option(
        help="Print the steps from this version on: the highest number in the table wxpay_schema.",
        metavar="N",
    ),
]

_OPTIONS: Final = {"url": "URL", "schema": "--schema", "table_prefix": "--prefix"}
"""How the fields of an error are called here."""


@store.callback(invoke_without_command=True)
def _show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@store.command(epilog=EXIT_CODES)
def schema(
    url: Url,
    *,
    schema: Schema = None,
    prefix: Prefix = "wxpay_",
    from_version: FromVersion = None,
    as_json: AsJson = False,
) -> None:
    """Print the SQL that makes the tables, for SqlStore(create=False)."""
    try:
        from wxpay_async.adapters.stores import sql_schema  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidRequestError(f"install it with: {how_to_install('sql')}") from error

    if from_version is not None and not 1 <= from_version <= sql_schema.VERSION:
        raise InvalidRequestError(
            "no version", field="--from-version", allowed=f"1 to {sql_schema.VERSION}"
        )
    try:
        dialect = sql_schema.find_dialect(url)
        sql_schema.check_names(dialect.name, schema=schema, prefix=prefix)
    except InvalidRequestError as error:
        raise error.called(_OPTIONS[error.field]) from None
    tables = sql_schema.make_tables(schema=schema, prefix=prefix)
    statements = sql_schema.write_sql(tables, dialect, version=from_version or 0)
    if as_json:
        print_json({"version": sql_schema.VERSION, "statements": statements})
        return
    title = f"-- Tables of wxpay-async, version {sql_schema.VERSION}, for {dialect.name}"
    write_stdout(f"{title}{'' if statements else ': nothing to do'}\n")
    for statement in statements:
        write_stdout(f"\n{statement};\n")
