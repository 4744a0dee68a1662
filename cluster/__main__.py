"""Command line: render a launcher file, plan a placement, examine a machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.doctor import Finding, examine
from cluster.errors import ClusterError, MissingSetting, SpecError
from cluster.facts import gather
from cluster.machines import MACHINES
from cluster.render import render, up_command
from cluster.serve import deploy_command, render_for_machines, render_serve
from cluster.spec import load, read_shape
from cluster.topology import NodeType, Plan, plan
from dream.memory import GIB

app = typer.Typer(
    name="cluster", help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False
)

_WIDTH = 100
_SMALLEST = "smallest"
_KINDS = ", ".join(MACHINES)


@contextmanager
def _user_errors() -> Iterator[None]:
    """Our own errors become one line on stderr and exit code 2."""
    try:
        yield
    except ClusterError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


@app.command("render")
def render_command(
    options: Annotated[list[str] | None, typer.Argument(help="key=value ...")] = None,
    provider: Annotated[str | None, typer.Option(help="aws, gcp or local.")] = None,
    on: Annotated[
        str | None, typer.Option(help="With --serve, for Ray without a launcher file: " + _KINDS)
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="The Serve config file of the same settings instead.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="File to write; default stdout.")] = None,
) -> None:
    """Print a complete launcher file, or say which option is wrong."""
    with _user_errors():
        pairs = _pairs(options or [])
        text, then = _rendered(provider, on, pairs, serve)
        if output is not None:
            _write(output, text)
            typer.echo(f"wrote {output}; {then(str(output))}", err=True)
            return
    typer.echo(text, nl=False)


@app.command("plan")
def plan_command(
    file: Annotated[Path, typer.Argument(help="A launcher file.")] = Path("cluster.yaml"),
    config: Annotated[Path | None, typer.Option(help="The model's config.json.")] = None,
    node: Annotated[
        list[str] | None, typer.Option(help="NAME:CPUS:GPUS:GIB:MAX, instead of the file's nodes.")
    ] = None,
    tensor_parallel: Annotated[
        str | None, typer.Option(help="Ranks per replica, or `smallest`; default the file's.")
    ] = None,
    replicas: Annotated[int | None, typer.Option(help="Default the file's maximum.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print where every replica goes, or why it cannot."""
    with _user_errors():
        spec = load(file)
        ours = spec.dream
        ranks = _ranks(tensor_parallel, ours.tensor_parallel)
        made = plan(
            read_shape(ours.model, config),
            ours if ranks is None else ours.model_copy(update={"tensor_parallel": ranks}),
            [_node_type(text) for text in node] if node else spec.node_types,
            num_replicas=ours.replicas.max if replicas is None else replicas,
            smallest=ranks is None,
        )
    typer.echo(json.dumps(_plan_json(made), indent=2)) if as_json else _print_plan(made)


@app.command("doctor")
def doctor_command(
    min_gpus: Annotated[int, typer.Option(help="Fewer GPUs than this are a problem.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Examine this machine; exit code 1 when there is a problem."""
    findings = examine(gather(os.environ), min_gpus=min_gpus)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print_findings(findings)
    if any(finding.remedy is not None for finding in findings):
        raise typer.Exit(1)


def _rendered(
    provider: str | None, on: str | None, pairs: dict[str, str], serve: bool
) -> tuple[str, Callable[[str], str]]:
    """The text of a file, and from its path what to type once it is written."""
    if on is not None:
        if provider is not None or not serve:
            raise SpecError("on", on, "given with --serve and without --provider")
        return render_for_machines(on, pairs), "deploy it with: serve deploy {}".format
    if provider is None:
        raise MissingSetting("provider", None, "--provider, or --serve --on")
    if serve:
        text = render_serve(provider, pairs)
        return text, lambda file: f"once the cluster is up, deploy it with: {deploy_command(file)}"
    return render(
        provider, pairs
    ), lambda file: f"bring the cluster up with: {up_command(provider, pairs, file)}"


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecError("output", str(path), f"a file that can be written: {error}") from error


def _pairs(words: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key in pairs:
            raise SpecError("option", word, "key=value, each key once")
        pairs[key] = value
    return pairs


def _ranks(text: str | None, default: int) -> int | None:
    if text is None:
        return default
    if text == _SMALLEST:
        return None
    if not text.isdecimal():
        raise SpecError("tensor_parallel", text, f"an integer >= 1, or {_SMALLEST}")
    return int(text)


def _node_type(text: str) -> NodeType:
    try:
        name, cpus, gpus, gib, max_nodes = text.split(":")
        return NodeType(
            name=name,
            num_cpus=float(cpus),
            num_gpus=int(gpus),
            gpu_memory_bytes=int(float(gib) * GIB),
            max_nodes=int(max_nodes),
        )
    except (OverflowError, ValueError) as error:
        raise SpecError("node", text, "NAME:CPUS:GPUS:GIB:MAX, such as h100:96:8:79:2") from error


def _plan_json(made: Plan) -> dict[str, object]:
    totals = {"num_replicas": made.num_replicas, "num_gpus": made.num_gpus}
    memory = {**asdict(made.memory), "total": made.memory.total}
    nodes = [asdict(use) for use in made.nodes]
    return {**asdict(made), **totals, "memory": memory, "nodes": nodes}


def _print_plan(made: Plan) -> None:
    bundles = f"{made.tensor_parallel} x {made.bundles[0]}, {made.strategy}"
    typer.echo(
        f"tensor_parallel: {made.tensor_parallel}\n"
        f"memory per GPU: {made.memory}\n"
        f"bundles of a replica: {bundles}"
    )
    table = Table(box=MARKDOWN)
    for title in ("node type", "nodes", "replicas per node", "replicas", "GPUs"):
        table.add_column(title)
    for use in made.nodes:
        counts = (use.num_nodes, use.replicas_per_node, use.num_replicas)
        gpus = use.num_replicas * made.tensor_parallel
        table.add_row(Text(use.node_type), *map(str, counts), str(gpus))
    Console(width=_WIDTH).print(table)


def _print_findings(findings: list[Finding]) -> None:
    for finding in findings:
        mark = "ok     " if finding.remedy is None else "PROBLEM"
        typer.echo(f"{mark}  {finding.name}: {finding.found}")
        if finding.remedy is not None:
            typer.echo(f"         -> {finding.remedy}")


if __name__ == "__main__":
    app(prog_name="python -m cluster")
