"""The public face: what is listed is what there is, and importing it costs little more than importing torch."""

import subprocess
import sys

import sparring

HEAVY = [
    "scipy",
    "pyarrow",
    "pandas",
    "matplotlib",
    "jinja2",
    "rich",
    "typer",
    "pydantic",
    "torchvision",
    "timm",
    "transformers",
    "yaml",
    "PIL",
]


def test_every_public_name_is_listed_in_order_and_importable():
    for name in sparring.__all__:
        assert getattr(sparring, name) is not None, name
        assert name in dir(sparring)
    assert len(sparring.__all__) == len(set(sparring.__all__)) <= 45


def test_no_public_name_is_left_out_of_the_list():
    from types import ModuleType

    public = {
        name
        for name, value in vars(sparring).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name not in ("Any", "TYPE_CHECKING")
    }
    assert public - {"import_module"} <= set(sparring.__all__)


def test_parts_that_the_readme_names_are_there_after_one_import():
    assert callable(sparring.__getattr__("certify").certify)
    assert callable(sparring.__getattr__("defend").train)


def test_every_attack_is_exported_and_called_in_one_way():
    from sparring import attacks

    for name in attacks.__all__:
        assert callable(getattr(attacks, name)), name


def test_importing_sparring_brings_in_nothing_heavy():
    code = f"import sys, sparring; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    torch_alone = subprocess.run(
        [sys.executable, "-c", f"import sys, torch; print(*[m for m in {HEAVY!r} if m in sys.modules])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(out.stdout.split()) <= set(torch_alone.stdout.split())


def test_the_package_is_typed():
    from importlib.resources import files

    assert (files("sparring") / "py.typed").is_file()
