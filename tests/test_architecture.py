"""The floors of the house, enforced: imports point down, siblings never meet."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "dream": {"dream"},
    "cluster": {"cluster", "dream"},
    "deployments": {"deployments", "dream", "cluster"},
    "jobs": {"jobs", "dream", "cluster"},
    "benchmarks": {"benchmarks", "dream", "cluster", "deployments", "jobs"},
    "examples": {"examples", "dream", "cluster", "deployments", "jobs"},
}
OURS = set(ALLOWED) | {"tests"}
OF_DREAM_IN_CLUSTER = {"dream.memory", "dream.errors"}
"""These need no torch, so that planning needs none."""
RIM_OF_CLUSTER = {"rank", "rank_group", "shards"}
"""Modules that run engines with Ray; no other module of cluster imports them."""
AGAINST_THE_ORDER = {("dream.conflicts", "dream.params")}
"""Imports for type checkers alone, by a module that is loaded before the one it names."""
NEVER_IN_DREAM = {"ray", "fastapi", "pydantic", "starlette", "typer", "pyarrow"}

DREAM_FLOORS = [
    {
        "errors",
        "options",
        "conflicts",
        "template",
        "text",
        "chat",
        "params",
        "request",
        "growth",
        "memory",
    }
    | {"presets", "dtypes", "shape"},
    {"kernels"},
    {"canvas", "order", "window", "timetable", "remaining", "step_plan", "sampling", "noise"},
    {"remasking", "model", "likelihood"},
    {"engine"},
]
"""Rooms of dream from the ground up; a room imports its own floor and those below."""


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path, modules: Collection[str] = ()) -> set[str]:
    """Names imported anywhere in a file; `from a import b` names a.b where that is a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else node.module or "" for name in whole}
    return found


def import_graph(root: Path, packages: Collection[str]) -> dict[str, set[str]]:
    """Which of our modules each one imports: at the top, in functions and for type checkers."""
    paths = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    }
    return {name: imports(path, paths) & set(paths) - {name} for name, path in paths.items()}


def circle_of(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring, or nothing."""
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_point_down_and_siblings_never_meet(package):
    for path in modules(package):
        ours = {name.split(".")[0] for name in imports(path)} & OURS
        assert ours <= ALLOWED[package], f"{path} imports {ours - ALLOWED[package]}"


def test_cluster_imports_of_dream_the_plan_of_memory_alone():
    rim = {f"cluster.{name}" for name in RIM_OF_CLUSTER}
    for path in modules("cluster"):
        if path.stem in RIM_OF_CLUSTER:
            continue
        ours = {name for name in imports(path) if name.split(".")[0] == "dream"}
        assert ours <= OF_DREAM_IN_CLUSTER, path
        assert not imports(path) & rim, path


def test_no_module_imports_itself_over_others():
    graph = import_graph(ROOT, ALLOWED)
    for module, other in AGAINST_THE_ORDER:
        assert other in graph[module], f"{module} no longer imports {other}"
        graph[module].remove(other)

    assert circle_of(graph) == []


@pytest.mark.parametrize(
    "back",
    [
        "import ours.a",
        "from ours import a",
        "from ours.a import thing",
        "def use():\n    from ours.a import thing",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ours import a",
    ],
)
def test_a_circle_is_found_however_it_is_closed(back, tmp_path):
    package = tmp_path / "ours"
    package.mkdir()
    for name, text in {"__init__": "", "a": "from ours import b", "b": "import ours.c"}.items():
        (package / f"{name}.py").write_text(text)
    (package / "c.py").write_text(back)

    assert set(circle_of(import_graph(tmp_path, ["ours"]))) == {"ours.a", "ours.b", "ours.c"}


def test_dream_never_names_ray_or_the_wire():
    for path in modules("dream"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & NEVER_IN_DREAM, path


def test_rooms_of_dream_import_their_floor_or_below():
    floor_of = {room: level for level, rooms in enumerate(DREAM_FLOORS) for room in rooms}
    for path in modules("dream"):
        room = path.relative_to(ROOT / "dream").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for name in imports(path):
            if name.startswith("dream."):
                below = name.split(".")[1]
                assert floor_of[below] <= floor_of[room], f"{path} imports {name}"
                assert {below, room} != {"remasking", "model"}, f"{path} imports {name}"


@pytest.mark.parametrize(
    ("line", "others"),
    [
        (
            "from dream import Engine; Engine.from_pretrained('embedded')",
            ["ray", "fastapi", "torch._dynamo", "sympy"],
        ),
        ("import jobs.fill.drive", ["fastapi", "torch._dynamo", "matplotlib"]),
        ("import deployments.app", ["pyarrow.parquet", "torch._dynamo", "matplotlib"]),
    ],
)
def test_a_start_imports_nothing_that_it_may_never_need(line, others):
    """The compiler alone would take longer than torch itself, in every process of a cluster."""
    code = f"import sys\n{line}\nsys.exit(str([n for n in {others} if n in sys.modules] or ''))"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)

    assert done.stderr.strip() == ""


def test_no_function_is_longer_than_sixty_lines_and_no_file_than_three_hundred():
    for package in ALLOWED:
        for path in modules(package):
            text = path.read_text(encoding="utf-8")
            assert text.count("\n") <= 300, path
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = node.body[-1].end_lineno - node.body[0].lineno + 1
                    assert length <= 60, f"{path}:{node.lineno} {node.name}"


def test_remote_code_is_never_trusted():
    for package in ALLOWED:
        for path in modules(package):
            text = path.read_text(encoding="utf-8")
            assert "trust_remote_code" not in text, path
            assert "torch.load" not in text, path
            assert "import pickle" not in text, path


def test_broad_excepts_live_where_they_reach_the_caller():
    allowed = {
        "deployments/sse.py": 1,
        "dream/engine/async_engine.py": 1,
        "jobs/fill/stages.py": 1,
    }
    for package in ALLOWED:
        for path in modules(package):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            broad = [n for n in nodes if isinstance(n, ast.ExceptHandler) and is_broad(n)]
            name = path.relative_to(ROOT).as_posix()
            assert len(broad) <= allowed.get(name, 0), name


def is_broad(node: ast.ExceptHandler) -> bool:
    return node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException")
