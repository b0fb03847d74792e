"""Settings travel through JSON unchanged, and a data file runs no code."""

import dataclasses
import json
from dataclasses import dataclass

import pytest
import torch

from sparring import attacks, spec
from sparring.attack import Cascade
from sparring.directions import Adam, Momentum
from sparring.errors import InputError, SpecError
from sparring.evaluation.plan import plan_for
from sparring.goals import Targeted
from sparring.losses import dlr, margin
from sparring.spaces import L0, L1, L2, Linf
from sparring.threat import Access, ThreatModel, as_threat
from sparring.world import World, here
from table import TABLE


def there_and_back(value):
    return spec.read(json.loads(json.dumps(spec.write(value), allow_nan=False)))


@pytest.mark.parametrize("entry", [entry for entry in TABLE if entry.written], ids=str)
def test_every_attack_of_the_table_survives_json(entry):
    assert there_and_back(entry.attack) == entry.attack


def needed(kind):
    """The settings without which the attack cannot be made."""
    return [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]


SETTINGS = {"attack": attacks.PGD(), "attacks": (attacks.PGD(),), "stages": (attacks.Stage(3, margin),)}
EXPORTED = [getattr(attacks, name) for name in attacks.__all__]
MAKEABLE = [kind for kind in EXPORTED if isinstance(kind, type) and set(needed(kind)) <= set(SETTINGS)]


@pytest.mark.parametrize("kind", MAKEABLE, ids=lambda kind: kind.__name__)
def test_every_exported_attack_survives_json_with_its_defaults(kind):
    made = kind(**{name: SETTINGS[name] for name in needed(kind)})
    assert there_and_back(made) == made


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        0.1,
        "text",
        float("inf"),
        (1, (2.5, None), [False]),
        {"a": (1,), "type": "b"},
        Access.SCORES,
        margin,
        torch.float16,
        Adam(b1=0.5),
        World(1, 3),
        ThreatModel(L0(3, pixels=False), Targeted(3, confidence=0.5), Access.SCORES, 500),
        ThreatModel(Linf(torch.tensor([0.1, 0.2]), box=(torch.zeros(1, 3, 1, 1), 2.0))),
        L2(None, box=(-1.0, 1.0)),
        Cascade((attacks.PGD(3, loss=dlr, direction=Momentum(0.5)), Cascade((attacks.AllTargets(attacks.PGD(), 2),)))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_of_all_kinds_survive_json(value):
    again = there_and_back(value)
    assert again == value
    assert type(again) is type(value)


def test_tensors_keep_their_shape_type_and_infinities():
    for tensor in (torch.tensor([[1.0, float("-inf")]]), torch.zeros(0, 3, dtype=torch.int64), torch.tensor(True)):
        again = there_and_back(tensor)
        assert torch.equal(again, tensor)
        assert again.dtype is tensor.dtype


def test_nan_survives_json():
    assert there_and_back(float("nan")) != there_and_back(float("nan"))


@pytest.mark.parametrize(
    "harm",
    [
        {"type": "os:system"},
        {"function": "os:system"},
        {"type": "subprocess:Popen", "args": "true"},
        {"function": "sparring.spec:import_module"},
        {"type": "sparring.spec:FunctionType"},
        {"type": "sparring.world:os.path"},
        {"type": "sparring.samples.__init__:digits"},
        {"type": "sparring"},
        {"type": "sparring_evil:X"},
        {"type": 3},
        {"type": "sparring.attacks.pgd:PGD", "stepz": 1},
        {"type": "sparring.attacks.pgd:PGD", "steps": "1"},
        {"type": "sparring.attacks.pgd:PGD", "steps": True},
        {"type": "sparring.errors:SpecError"},
        {"type": "sparring.nowhere:PGD"},
        {"type": "sparring.attacks.pgd:Nothing"},
        {"enum": "sparring.threat:Access", "name": "ROOT"},
        {"enum": "sparring.threat:Access"},
        {"tensor": [1, 2, 3], "shape": [2], "dtype": "float32"},
        {"tensor": [1], "shape": [1], "dtype": "load"},
        {"number": "many"},
        {"unknown": 1},
        {},
    ],
    ids=str,
)
def test_what_no_settings_of_ours_look_like_is_refused(harm):
    with pytest.raises(SpecError):
        spec.read(harm)


def test_values_out_of_range_are_refused_as_they_are_anywhere():
    with pytest.raises(InputError, match="eps is -1"):
        spec.read({"type": "sparring.spaces.balls:Linf", "eps": -1.0})


def test_a_lambda_is_refused_with_the_remedy():
    with pytest.raises(SpecError, match="define it with def at the top of a module"):
        spec.write(attacks.PGD(loss=lambda at: at.out))


def test_a_function_within_a_function_is_refused():
    factor = 2

    def loss(at):
        return factor * at.out

    with pytest.raises(SpecError, match="no import path"):
        spec.write(attacks.PGD(loss=loss))


def test_what_is_no_setting_is_refused():
    for value in (object(), {1: 2}, torch.nn.Linear(1, 1)):
        with pytest.raises(SpecError):
            spec.write(value)


@dataclass(frozen=True)
class Mine:
    """Settings that are defined outside the package."""

    steps: int = 1


def test_settings_of_other_packages_are_recorded_and_not_read_back():
    written = spec.write(Mine())
    assert written == {"type": f"{__name__}:Mine", "steps": 1}
    with pytest.raises(SpecError, match="this package alone"):
        spec.read(written)


def test_a_fallback_is_asked_about_what_cannot_be_written():
    written = spec.write({"a": object, "b": (object(),)}, fallback=lambda value: "an object")
    assert written == {"mapping": {"a": "an object", "b": {"tuple": ["an object"]}}}


def test_spaces_are_told_apart():
    assert there_and_back(L1(1.0)) != L2(1.0)


def test_the_world_is_read_from_what_torchrun_says():
    assert here({}) == World(0, 1)
    assert here({"RANK": "2", "WORLD_SIZE": "4"}) == World(2, 4)
    ids = torch.tensor([0, 5, 6, 2, 9])
    assert World(2, 4).mine(ids).tolist() == [False, False, True, True, False]
    for wrong in ({"RANK": "4", "WORLD_SIZE": "4"}, {"RANK": "x"}):
        with pytest.raises(InputError):
            here(wrong)


def test_every_sample_belongs_to_one_process():
    ids = torch.arange(100) * 7
    assert (sum(World(r, 3).mine(ids).long() for r in range(3)) == 1).all()


@pytest.mark.parametrize("threat", ["linf:8/255", "l1:3", "l2", "patch:3x3"])
def test_the_code_of_settings_and_their_imports_give_them_back(threat):
    question = as_threat(threat)
    plan = plan_for("standard", question)
    names: dict[str, object] = {}
    exec("\n".join(spec.imports(question, plan)), names)
    assert {name: eval(spec.code(attack), names) for name, attack in plan.items()} == plan
    assert eval(spec.code(question), names) == question


@pytest.mark.parametrize("entry", [one for one in TABLE if one.written], ids=str)
def test_the_code_of_an_attack_gives_it_back_even_where_none_was_chosen(entry):
    if any(type(one).__name__ in ("Universal", "Generated") for one in spec.nested(entry.attack)):
        pytest.skip("it holds weights, which have no code")
    names: dict[str, object] = {}
    exec("\n".join(spec.imports(entry.attack)), names)
    assert eval(spec.code(entry.attack), names) == entry.attack


def test_code_leaves_out_an_infinity_that_is_unset_and_keeps_one_that_was_chosen():
    assert "inf" not in spec.code(attacks.FMN(50))
    names: dict[str, object] = {"Square": attacks.Square, "margin": margin}
    chosen = attacks.Square(50, hope=float("inf"))
    assert eval(spec.code(chosen), names) == chosen


def test_code_leaves_out_what_is_unset_and_keeps_a_none_that_was_chosen():
    assert "queries" not in spec.code(as_threat("linf:0.1"))
    assert "outset=None" in spec.code(attacks.ShrinkingBall(outset=None))
    assert "outset=0.3" in spec.code(attacks.ShrinkingBall())
    assert spec.code(attacks.Pruning()) == "Pruning(steps=200)"
