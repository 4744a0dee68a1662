"""`python -m deployments.keys`: create, list and revoke the API keys of a server.

A server that reads the file takes a change within a second. Exit codes: 0 done; 2 not done, with
one line on standard error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from deployments.key_file import Key, KeyFileError, editing, new_key, read_keys

app = typer.Typer(
    name="keys",
    help=__doc__,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_WIDTH = 120
_LIMITS = ("requests_per_minute", "token_forwards_per_minute", "concurrent_requests")

File = Annotated[Path, typer.Option("--file", help="The key file.")]
Name = Annotated[str, typer.Argument(help="Shown in logs: letters, digits, '.', '_' and '-'.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Default: no limit.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def _user_errors() -> Iterator[None]:
    """Our own errors become one line on stderr and exit code 2."""
    try:
        yield
    except KeyFileError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


@app.command()
def create(
    name: Name,
    file: File,
    scope: Annotated[
        list[str] | None, typer.Option(help="infer (the default) or metrics; may be repeated.")
    ] = None,
    requests_per_minute: Limit = None,
    token_forwards_per_minute: Limit = None,
    concurrent_requests: Limit = None,
    priority: Annotated[
        str, typer.Option(help="interactive, or batch: behind interactive requests.")
    ] = "interactive",
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once: the file has its hash alone."""
    secret, digest = new_key()
    with _user_errors(), editing(file) as keys:
        if any(key.name == name for key in keys):
            raise KeyFileError(
                f"key file {file} has a key named {name}: revoke it, or name another"
            )
        values = {
            "name": name,
            "sha256": digest,
            "scopes": tuple(dict.fromkeys(scope or ["infer"])),
            "requests_per_minute": requests_per_minute,
            "token_forwards_per_minute": token_forwards_per_minute,
            "concurrent_requests": concurrent_requests,
            "priority": priority,
        }
        key = _checked(values)
        keys.append(key)
    typer.echo(json.dumps({"name": name, "key": secret}) if as_json else secret)


@app.command("list")
def list_command(file: File, as_json: AsJson = False) -> None:
    """Show every key by its name, with its scopes and limits."""
    with _user_errors():
        keys = read_keys(file).keys
    if as_json:
        typer.echo(json.dumps([key.model_dump(mode="json") for key in keys], indent=2))
        return
    table = Table(box=MARKDOWN)
    for title in (
        "name",
        "scopes",
        "requests/min",
        "token-forwards/min",
        "concurrent",
        "priority",
        "sha256",
    ):
        table.add_column(title)
    for key in keys:
        limits = (getattr(key, limit) for limit in _LIMITS)
        shown = ("-" if limit is None else str(limit) for limit in limits)
        table.add_row(key.name, " ".join(key.scopes), *shown, key.priority, key.sha256[:8])
    Console(width=_WIDTH).print(table)


@app.command()
def revoke(name: Name, file: File) -> None:
    """Take a key away: whoever still uses it gets 401 `invalid_api_key`."""
    with _user_errors(), editing(file) as keys:
        kept = [key for key in keys if key.name != name]
        if len(kept) == len(keys):
            raise KeyFileError(f"key file {file} has no key named {name}")
        keys[:] = kept
    typer.echo(f"revoked {name}", err=True)


def _checked(values: Mapping[str, object]) -> Key:
    try:
        return Key.model_validate(values)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        raise KeyFileError(f"{first['loc'][0]}: {first['msg']}") from None


if __name__ == "__main__":
    app(prog_name="python -m deployments.keys")
