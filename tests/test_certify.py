"""Certificates hold: attacked inside them nothing falls, exact distances are met, and shares are what they claim."""

import math

import pytest
import torch
from torch import Tensor, nn

from known import Affine, inputs, mlp
from known_relu import Relu
from shared import case, needs_data, truth
from sparring.attacks import APGD, PGD
from sparring.certify import certify, exact_distance
from sparring.errors import InputError, ModelError
from sparring.goals import Targeted
from sparring.spaces import L0, L1, L2, Linf
from sparring.threat import ThreatModel

SPACES = {1: L1, 2: L2, math.inf: Linf}
METHODS = ("ibp", "crown-ibp", "fast-lin", "crown", "alpha-crown", "auto")


@pytest.mark.parametrize("p", SPACES)
@pytest.mark.parametrize("method", METHODS)
def test_an_affine_model_is_certified_up_to_its_exact_distance_and_no_further(p, method):
    model, x = Affine(classes=4), inputs()
    y = model(x).argmax(1)
    far = model.distance(x, y, p)
    if method == "ibp" and p != math.inf:
        pytest.skip("intervals alone see the box around a ball")
    inside = certify(model, (x, y), SPACES[p](0.98 * far), method=method)
    outside = certify(model, (x, y), SPACES[p](1.001 * far), method=method)
    clear = far > 1e-3  # nearer than that, rounding is a part of the distance
    assert clear.sum() > 10
    assert torch.equal(inside.certified[clear], clear[clear])
    assert not outside.certified.any()
    torch.testing.assert_close(inside.radius[clear], 0.98 * far[clear])
    assert not outside.radius.any()


@pytest.mark.parametrize("p", SPACES)
def test_no_attack_succeeds_inside_a_certificate(p):
    model = mlp()
    x = inputs(24, spread=0.9)
    y = model(x).argmax(1)
    eps = {1: 0.5, 2: 0.12, math.inf: 0.03}[p]
    found = certify(model, (x, y), SPACES[p](eps))
    assert 0 < found.certified.sum() < 24
    fallen = torch.zeros(24, dtype=torch.bool)
    for attack in (PGD(40), APGD(40)):
        fallen |= attack(model, x, y, SPACES[p](eps)).success
    assert fallen.any()
    assert not (fallen & found.certified).any()


@pytest.mark.parametrize("p", [1, math.inf])
def test_certificates_and_exact_distances_agree_on_a_small_network(p):
    model = Relu()
    x = torch.rand(12, 2, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    exact = exact_distance(model, x, y, SPACES[p]())
    torch.testing.assert_close(exact.double(), model.distance(x, y, p), atol=1e-6, rtol=1e-6)
    for share in (0.3, 0.7, 0.99, 1.01):
        found = certify(model, (x, y), SPACES[p](share * exact))
        assert share < 1 or not found.certified.any()
        assert share > 0.3 or found.certified.float().mean() > 0.7


@pytest.mark.parametrize("p", SPACES)
def test_exact_distances_of_affine_models_are_those_of_the_closed_form(p):
    model, x = Affine(classes=5), inputs()
    y = model(x).argmax(1)
    far = exact_distance(model, x, y, SPACES[p](box=(-9.0, 9.0)))
    torch.testing.assert_close(far, model.distance(x, y, p))
    assert (exact_distance(model, x, y, SPACES[p]()) >= far - 1e-6).all()
    assert (exact_distance(model, x, (y + 1) % 5, SPACES[p]()) == 0).all()


def test_exact_distances_know_the_box():
    model = nn.Linear(2, 2, bias=False).requires_grad_(False)
    model.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    x, y = torch.tensor([[0.1, 0.7]]), torch.tensor([0])
    torch.testing.assert_close(exact_distance(model, x, y, Linf()), torch.tensor([0.7]))
    assert exact_distance(model, x + 0.1, y, Linf(box=(0.15, 1.0))).isinf().all()


def test_a_deeper_model_has_no_exact_distance_here():
    deep = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ModelError, match="one hidden layer of ReLU"):
        exact_distance(deep, torch.rand(2, 3), torch.tensor([0, 1]), Linf())
    with pytest.raises(ModelError, match="take one of these"):
        exact_distance(mlp(), inputs(2), torch.tensor([0, 1]), L2())
    with pytest.raises(ModelError, match="units can switch"):
        exact_distance(mlp(), inputs(2), mlp()(inputs(2)).argmax(1), Linf())


def test_a_targeted_certificate_asks_for_one_class_alone():
    model, x = Affine(classes=4), inputs()
    y = model(x).argmax(1)
    z = model(x)
    eps = 0.05
    normal = (model.weight[y] - model.weight[2]).abs().sum(1)
    clear = (z.gather(1, y[:, None]).squeeze(1) - z[:, 2] > eps * normal * 1.001) & (y != 2)
    found = certify(model, (x, y), ThreatModel(Linf(eps), Targeted(2)))
    assert torch.equal(found.certified, clear)
    assert found.accuracy >= certify(model, (x, y), Linf(eps)).accuracy


def test_a_sample_is_certified_whatever_batch_it_is_in():
    model, x = mlp(), inputs(12, spread=0.9)
    y = model(x).argmax(1)
    one = certify(model, (x, y), Linf(0.03), batch_size=12)
    other = certify(model, (x.flip(0), y.flip(0)), Linf(0.03), batch_size=5)
    assert torch.equal(one.certified, other.certified.flip(0))
    assert one.method == other.method[::-1]


def test_a_cascade_proves_what_any_of_its_stages_proves_and_says_which_did():
    model, x = mlp(), inputs(40, spread=0.9)
    y = model(x).argmax(1)
    alone = [certify(model, (x, y), Linf(0.03), method=method) for method in METHODS[:-1]]
    whole = certify(model, (x, y), Linf(0.03))
    assert torch.equal(whole.certified, torch.stack([one.certified for one in alone]).any(0))
    assert (whole.margin >= alone[-1].margin - 1e-6)[~whole.certified].all()
    for i, name in enumerate(whole.method):
        assert name == "open" or alone[METHODS.index(name)].certified[i] or name == "alpha-crown"


def test_what_an_attack_broke_is_spared_the_dearest_proof_and_no_other():
    model, x = mlp(), inputs(24, spread=0.9)
    y = model(x).argmax(1)
    free = certify(model, (x, y), Linf(0.03))
    spared = certify(model, (x, y), Linf(0.03), broken=torch.ones(24, dtype=torch.bool))
    change = {"open": "broken", "alpha-crown": "broken"}
    assert "open" in free.method
    assert spared.method == tuple(change.get(name, name) for name in free.method)
    with pytest.raises(InputError, match="give one value for each of 24 samples"):
        certify(model, (x, y), Linf(0.03), broken=torch.ones(3, dtype=torch.bool))


def test_arrays_are_certified_as_the_tensors_that_they_hold():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.rand(6, 12)  # a row has one layout
    y = model(x).argmax(1)
    tensors, arrays = certify(model, (x, y), Linf(0.01)), certify(model, (x.numpy(), y.numpy()), Linf(0.01))
    assert torch.equal(tensors.certified, arrays.certified)
    assert torch.equal(tensors.margin, arrays.margin)
    grey = (255 * x).byte()
    tensors, bytes_ = certify(model, (grey.float() / 255, y), Linf(0.01)), certify(model, (grey, y), Linf(0.01))
    assert torch.equal(tensors.margin, bytes_.margin)
    with pytest.raises(InputError, match="batch_size is 0 and steps 30; each must be at least 1"):
        certify(model, (x, y), Linf(0.01), batch_size=0)
    with pytest.raises(InputError, match="give one label an input"):
        certify(model, (x.numpy(), y[:2].numpy()), Linf(0.01))


def test_wrong_samples_are_never_certified_and_the_model_is_left_as_it_was():
    model, x = mlp().train(), inputs(6)
    y = (model(x).argmax(1) + 1) % 5
    told: list[tuple[int, int]] = []
    found = certify(model, (x, y), Linf(1e-4), batch_size=4, progress=lambda done, of: told.append((done, of)))
    assert not found.certified.any()
    assert set(found.method) == {"wrong"}
    assert model.training
    assert told == [(4, 6), (6, 6)]


@pytest.mark.parametrize(
    ("threat", "sentence"),
    [
        ("linf", "need a threat with an eps"),
        (L0(3), "not for L0"),
        (ThreatModel(Linf(0.1), Targeted(1)), ""),
    ],
)
def test_what_cannot_be_bounded_is_refused_in_a_sentence(threat, sentence):
    model, x = mlp(), inputs(2)
    y = torch.tensor([0, 2])
    if sentence:
        with pytest.raises(InputError, match=sentence):
            certify(model, (x, y), threat)
    else:
        certify(model, (x, y), threat)
    with pytest.raises(InputError, match="unknown method"):
        certify(model, (x, y), "linf:0.1", method="magic")


class Borderline(nn.Module):
    """Whether the sum of many features passes a threshold that rounding decides."""

    def __init__(self, shift: float):
        super().__init__()
        self.linear = nn.Linear(4096, 2)
        with torch.no_grad():
            self.linear.weight.copy_(torch.stack([torch.ones(4096), torch.zeros(4096)]) * 0.1)
            self.linear.bias.copy_(torch.tensor([shift, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def test_a_lead_within_rounding_is_not_certified():
    x = torch.full((1, 4096), 0.5)
    low = -float((0.1 * (x.double() - 0.01)).sum())
    y = torch.tensor([0])
    assert not certify(Borderline(low + 1e-4), (x, y), Linf(0.01)).certified.any()
    assert certify(Borderline(low + 1.0), (x, y), Linf(0.01)).certified.all()


@needs_data
@pytest.mark.parametrize(
    ("model", "known", "eps", "attacked"),
    [
        pytest.param("mnist_kw_eps0.1", "mnist_kw_eps0.1_.1", 0.1, True, marks=pytest.mark.slow),
        ("mnist_rsl18a_sdp", "mnist_rsl18a_sdp_.1", 0.1, False),
        pytest.param("cifar_resnet2b", "cifar_resnet2b_2over255", 2 / 255, True, marks=pytest.mark.slow),
        pytest.param("cifar_cnn_a_mix", "cifar_cnn_a_mix_2over255", 2 / 255, True, marks=pytest.mark.slow),
    ],
)
def test_what_another_tool_certifies_is_certified_and_nothing_that_was_broken(model, known, eps, attacked):
    n = 2 if attacked else 10
    net, x, y = case(model, n)
    found = certify(net, (x, y), Linf(eps))
    peer = truth(f"cert_{known}")
    order = peer["idx"].argsort()
    theirs = peer["certified"][order][:n]
    assert (found.certified >= theirs).all()
    if attacked:
        after = truth(f"aa_{known}")
        assert not (found.certified & ~after["robust_after_AA"][after["idx"].argsort()][:n]).any()


def test_a_model_that_draws_is_not_certified_by_one_of_its_draws():
    class Drawing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :3] + torch.rand(3)

    with pytest.raises(ModelError, match="answers differently when asked again"):
        certify(Drawing(), (torch.rand(4, 3), torch.zeros(4, dtype=torch.long)), Linf(0.01))
