"""Imports point down. The floors are drawn here, and read from the source by `ast`."""

import ast
from pathlib import Path

import pytest

import sparring

ROOT = Path(sparring.__file__).parent

FLOORS = (
    {"types", "errors"},
    {
        "geometry",
        "colours",
        "grids",
        "planes",
        "random",
        "spec",
        "world",
        "progress",
        "guest",
        "folder",
        "digests",
        "folding",
        "gates",
        "ranges",
    },
    {
        "goals",
        "losses",
        "spaces",
        "smoothness",
        "outputs",
        "matching",
        "directions",
        "probes",
        "strides",
        "transforms",
        "estimators",
        "models",
        "bounds",
        "data",
        "samples",
        "batches",
        "swift",
    },
    {"threat"},
    {"ledger", "engine", "inputs", "pairs"},
    {"parts"},
    {"problem"},
    {"attack", "segment", "boundaries", "penalised", "features"},
    {"attacks", "defend", "explain", "certify", "serve"},
    {"evaluation"},
    {"cli", "demo", "__main__", "__init__"},
)
"""Lowest first. Within a floor, only the pairs of SAME_FLOOR may meet."""
SAME_FLOOR = {
    ("losses", "goals"),  # a loss reads a goal's sign and label
    ("planes", "geometry"),
    ("gates", "geometry"),
    ("smoothness", "losses"),
    ("outputs", "goals"),
    ("matching", "losses"),
    ("matching", "goals"),
    ("matching", "outputs"),
    ("data", "models"),  # what a model wants of an image, and the calling of a named function
    ("samples", "models"),
    ("cli", "demo"),
    ("__main__", "cli"),
}
ABOVE_SIBLINGS = {("evaluation", "attacks"), ("evaluation", "certify")}
"""Evaluation stands a floor above its siblings because a plan names attacks; of them it may see the attacks, and the
certificates that bracket its verdict."""
OPTIONAL = {"torchvision", "timm", "transformers", "pandas", "huggingface_hub", "onnx", "onnxruntime"}
"""What may be imported inside a function: heavy packages that an extra brings."""
LAZY_DOOR = {"cli", "demo", "__init__", "__main__"}
"""The doors import torch and all that stands on it inside their verbs, so that --help is quick."""


def room(path: Path) -> str:
    """The part of the package that a file belongs to."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def floor(name: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if name in names)


def imports(tree: ast.AST):
    """Every imported module, with whether the import stands inside a function or under TYPE_CHECKING."""

    def walk(node: ast.AST, inside: bool):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.level == 0 and child.module:
                if child.module == "sparring":
                    yield from ((f"sparring.{alias.name}", inside) for alias in child.names)
                else:
                    yield child.module, inside
            deeper = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from walk(child, deeper)

    return walk(tree, inside=False)


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_import_climbs_and_no_siblings_meet(path):
    here = room(path)
    for module, _ in imports(ast.parse(path.read_text())):
        if module == "sparring" or not module.startswith("sparring."):
            continue
        there = module.split(".")[1]
        if there == here or here in LAZY_DOOR:
            continue
        if here == "evaluation" and floor(there) == floor("attacks"):
            assert (here, there) in ABOVE_SIBLINGS, f"{path.name} imports {module}"
            continue
        down = floor(there) < floor(here)
        assert down or (here, there) in SAME_FLOOR, f"{path.name} imports {module}, which does not stand below it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_import_hides_in_a_function_but_a_heavy_optional_one(path):
    if room(path) in LAZY_DOOR:
        return
    for module, inside in imports(ast.parse(path.read_text())):
        assert not inside or module.split(".")[0] in OPTIONAL, f"{path.name} imports {module} inside a function"


def test_attacks_do_not_meet_but_in_a_suite():
    suites = {"__init__.py", "autoattack.py", "composed.py", "minimum_norm.py", "transfer.py", "transformed.py"}
    parts = {f"sparring.attacks.{name}" for name in ("hills", "lines", "starts", "subspaces")}  # what attacks share
    for path in (ROOT / "attacks").glob("*.py"):
        if path.name in suites:
            continue
        for module, _ in imports(ast.parse(path.read_text())):
            assert module in parts or not module.startswith("sparring.attacks"), f"{path.name} imports {module}"


def test_only_the_bench_calls_a_model_under_attack():
    for path in [*(ROOT / "attacks").glob("*.py"), ROOT / "attack.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                assert name not in {"model", "_model", "surrogate"}, f"{path.name}:{node.lineno} calls a model"


def test_no_file_holds_two_ideas():
    for path in FILES:
        limit = 150 if room(path) == "attacks" and path.name != "__init__.py" else 300  # a door is a list of names
        lines = len(path.read_text().splitlines())
        assert lines <= limit, f"{path.relative_to(ROOT)} has {lines} lines"
