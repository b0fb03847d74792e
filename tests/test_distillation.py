"""Learning from another model: the defensive kind falls, and the robust kinds are the formulas of their papers."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from known import inputs, mlp
from small_models import EPS, held_out, student
from sparring import InputError, Linf, evaluate
from sparring.attacks import APGD, FGSM, PGD, DeepFool
from sparring.defend import ARD, RSLAD, AdaAD, AdversarialRisk, Distilled, Risk, Smoothened, Tempered
from sparring.defend.distillation import Beside
from sparring.losses import cross_entropy, dlr, margin, scaled_cross_entropy

SPACE = Linf(0.05)


def three() -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """A student, its teacher, and a batch."""
    model, teacher, x = mlp().requires_grad_(True), mlp(seed=5), inputs()
    return model, teacher, x, (teacher(x).argmax(1) + (torch.arange(16) % 4 == 0)) % 5


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum(1).mean()


def stands(model: nn.Module, attack) -> float:
    return 1 - attack(model, *held_out(), Linf(EPS)).success.double().mean().item()


def test_a_temperature_divides_the_logits():
    model, teacher, x, y = three()
    torch.testing.assert_close(Tempered(7.0)(model, x, y), F.cross_entropy(model(x) / 7, y))
    soft = (teacher(x) / 7).softmax(1)
    expected = -(soft * (model(x) / 7).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(Distilled(teacher, 7.0)(model, x, y), expected)


def test_defensive_distillation_makes_the_plain_loss_stand_still_and_an_aware_one_walk_through():
    model = student()
    x, y = held_out()
    saturated = (F.cross_entropy(model(x), y, reduction="none") == 0).double().mean().item()
    assert saturated > 0.5  # softmax says 1 exactly, and no gradient is left
    assert stands(model, PGD(20, loss=cross_entropy)) > 0.6
    assert stands(model, FGSM()) > 0.6
    for loss in (margin, scaled_cross_entropy):
        assert stands(model, PGD(20, loss=loss)) < 0.15
    assert stands(model, APGD(20, dlr)) < 0.15


def test_the_report_of_a_distilled_model_does_not_believe_the_blind_attack():
    verdict = evaluate(student(), held_out(), Linf(EPS), plan=PGD(20, loss=cross_entropy))
    assert "the curve agrees with the plan" in [doubt.name for doubt in verdict.doubts]
    assert verdict.robust_accuracy < 0.2  # what its own second look broke counts
    assert evaluate(student(), held_out(), Linf(EPS), plan="quick").robust_accuracy < 0.15


def test_robust_distillation_is_the_formula_of_its_paper():
    model, teacher, x, y = three()
    near = PGD(3).perturb(model, x, y, SPACE)
    taught, heat = teacher(x), 4.0
    found = ARD(PGD(3), SPACE, teacher, share=0.7, temperature=heat)(model, x, y)
    apart = heat**2 * kl((taught / heat).softmax(1), (model(near) / heat).softmax(1))
    torch.testing.assert_close(found, 0.3 * F.cross_entropy(model(x), y) + 0.7 * apart)


def test_robust_soft_labels_replace_the_true_ones_everywhere():
    model, teacher, x, y = three()
    taught = teacher(x).softmax(1)

    def away(at) -> Tensor:
        return (taught * at.out.log_softmax(1)).sum(1)

    near = PGD(3, loss=away).perturb(model, x, y, SPACE)
    expected = kl(taught, model(x).softmax(1)) / 6 + 5 / 6 * kl(taught, model(near).softmax(1))
    found = RSLAD(PGD(3), SPACE, teacher)(model, x, y)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found, RSLAD(PGD(3), SPACE, teacher)(model, x, (y + 1) % 5))


def test_adaptive_distillation_attacks_student_and_teacher_together():
    model, teacher, x, y = three()

    def apart(near: Tensor) -> float:
        return kl(teacher(near).softmax(1), model(near).softmax(1)).item()

    found = AdaAD(PGD(10), SPACE, teacher)(model, x, y).item()
    generator = torch.Generator().manual_seed(0)
    tries = [apart(x + 0.05 * torch.randn(x.shape, generator=generator).sign()) for _ in range(100)]
    assert found > max(tries) > apart(x)
    mixed = AdaAD(PGD(10), SPACE, teacher, share=0.6)(model, x, y).item()
    assert mixed == pytest.approx(0.6 * found + 0.4 * apart(x), rel=1e-4)
    assert torch.equal(Beside(model, teacher)(x), torch.cat([model(x), teacher(x)], 1))


def test_two_earlier_models_soften_the_label():
    model, robust, x, y = three()
    standard = mlp(seed=8)
    near = PGD(3).perturb(model, x, y, SPACE)
    out = model(near)
    plain = Smoothened(PGD(3), SPACE, robust, standard, shares=(0.0, 0.0))(model, x, y)
    torch.testing.assert_close(plain, AdversarialRisk(PGD(3), SPACE)(model, x, y))
    expected = 0.25 * F.cross_entropy(out, y)
    for share, who in ((0.5, robust), (0.25, standard)):
        expected = expected + share * 4 * kl((who(near) / 2).softmax(1), (out / 2).softmax(1))
    torch.testing.assert_close(Smoothened(PGD(3), SPACE, robust, standard)(model, x, y), expected)


def distilling(teacher: nn.Module) -> list[Risk]:
    return [
        Distilled(teacher),
        ARD(PGD(2), SPACE, teacher),
        RSLAD(PGD(2), SPACE, teacher),
        AdaAD(PGD(2), SPACE, teacher),
        Smoothened(PGD(2), SPACE, teacher, teacher),
    ]


@pytest.mark.parametrize("which", range(5))
def test_a_teacher_is_asked_in_evaluation_mode_and_left_alone(which):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(24), nn.Dropout(0.5), nn.Linear(24, 5)).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    model, _, x, y = three()
    model.train()
    risk = distilling(teacher)[which]
    loss = risk.backward(model, x, y, 0)
    assert torch.equal(loss, risk(model, x, y, 0))
    assert teacher.training
    assert teacher[1].training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(weight.grad is not None for weight in model.parameters())
    assert "Linear" not in repr(risk)


def test_what_cannot_be_distilled_is_refused():
    _, teacher, _, _ = three()
    with pytest.raises(InputError, match="RSLAD sets the attack's loss"):
        RSLAD(DeepFool(3), SPACE, teacher)
    with pytest.raises(InputError, match="AdaAD sets the attack's loss"):
        AdaAD(DeepFool(3), SPACE, teacher)
    with pytest.raises(InputError, match="add up to at most 1"):
        Smoothened(PGD(2), SPACE, teacher, teacher, shares=(0.7, 0.7))
