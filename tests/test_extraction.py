"""Copies of a black box: what they cost, what they know, and that nothing is asked twice."""

import copy

import pytest
import torch
from torch import nn

from known import Affine, inputs, mlp
from sparring.attacks import PGD, Transfer, fit_knockoff, fit_substitute
from sparring.errors import InputError, ModelError, StoreError
from sparring.spaces import Linf
from sparring.threat import Access, ThreatModel

SHAPE = (2, 3, 4)
FAST = {"epochs": 20, "batch_size": 16, "rate": 0.01}


class Endpoint:
    """Names classes, or gives scores; counts what it was asked, and breaks off after a while."""

    def __init__(self, model, *, scores=False, most=10**9):
        self.model, self.scores, self.most, self.asked = model, scores, most, []

    @torch.no_grad()
    def __call__(self, x):
        if sum(map(len, self.asked)) + len(x) > self.most:
            raise ConnectionError
        self.asked.append(x.clone())
        return self.model(x) if self.scores else self.model(x).argmax(1)

    @property
    def rows(self):
        return torch.cat(self.asked)


def blank(seed):
    return mlp(seed=seed).requires_grad_(True)


def weights(network):
    return torch.cat([value.flatten() for value in network.state_dict().values()])


def test_the_bill_is_what_the_endpoint_saw_and_never_more_than_the_budget():
    x = inputs(10, SHAPE, spread=0.6)
    for budget, expected in ((7, 7), (33, 33), (500, 40)):
        endpoint = Endpoint(mlp())
        found = fit_substitute(endpoint, x, blank(1), budget=budget, rounds=3, epochs=2)
        assert found.queries == len(endpoint.rows) == expected  # 10 inputs, doubled twice
        assert float(endpoint.rows.min()) >= 0
        assert float(endpoint.rows.max()) <= 1
    endpoint = Endpoint(mlp(), scores=True)
    assert fit_knockoff(endpoint, x, blank(1), budget=6, **FAST).queries == len(endpoint.rows) == 6


def test_each_round_steps_along_the_sign_of_the_copys_gradient_and_later_against_it():
    victim, x = Affine(classes=2), inputs(6, SHAPE)
    endpoint = Endpoint(victim)
    found = fit_substitute(endpoint, x, Affine(seed=3), budget=24, rounds=3, step=0.05, turn=1, epochs=1, rate=1e-9)
    assert found.queries == 24
    for before, after, sign in ((x, endpoint.rows[6:12], 1), (endpoint.rows[:12], endpoint.rows[12:], -1)):
        label = victim(before).argmax(1)
        assert torch.allclose((after - before).abs(), torch.tensor(0.05), atol=1e-6)
        own = found.network.weight[label].detach().reshape(-1, *SHAPE)
        assert torch.equal((after - before).sign(), sign * own.sign())


def test_a_substitute_of_labels_alone_transfers_better_than_a_stranger():
    torch.manual_seed(0)
    victim, x = mlp(), inputs(40, SHAPE, spread=0.9)
    fresh = blank(7)
    found = fit_substitute(Endpoint(victim), x, copy.deepcopy(fresh), budget=600, rounds=5, step=0.1, **FAST)
    assert found.agreement > 0.9
    test = inputs(60, SHAPE, spread=0.9, seed=5)
    y, threat = victim(test).argmax(1), ThreatModel(Linf(0.06), access=Access.DECISIONS)
    own, other = (Transfer(m, attack=PGD(10))(victim, test, y, threat).success.sum() for m in (found.network, fresh))
    assert own > 1.5 * other


def test_a_knockoff_learns_probabilities_where_there_are_any():
    victim, pool = mlp(), inputs(400, SHAPE, spread=0.9)
    told = [fit_knockoff(Endpoint(victim, scores=s), pool, blank(1), budget=300, **FAST).network for s in (0, 1)]
    test = inputs(200, SHAPE, spread=0.9, seed=9)
    truth = victim(test).softmax(1)
    named, scored = ((network(test).softmax(1) - truth).abs().sum(1).mean() for network in told)
    assert scored < 0.5 * named


@pytest.mark.parametrize("most", [5, 25, 60])
def test_an_extraction_that_breaks_off_asks_nothing_twice_and_ends_with_the_same_copy(tmp_path, most):
    x = inputs(10, SHAPE, spread=0.6)
    how = FAST | {"epochs": 3, "batch_size": 4, "budget": 70, "rounds": 4, "seed": 2}
    whole = fit_substitute(Endpoint(mlp()), x, blank(1), **how)
    broken, mended = Endpoint(mlp(), most=most), Endpoint(mlp())
    with pytest.raises(ConnectionError):
        fit_substitute(broken, x, blank(1), folder=tmp_path, **how)
    again = fit_substitute(mended, x, blank(1), folder=tmp_path, **how)
    assert len(broken.rows) + len(mended.rows) == again.queries == whole.queries == 70
    assert torch.equal(weights(again.network), weights(whole.network))
    silent = Endpoint(mlp(), most=0)
    assert torch.equal(
        weights(fit_substitute(silent, x, blank(1), folder=tmp_path, **how).network), weights(again.network)
    )
    with pytest.raises(StoreError, match=r"another extraction \(its budget differs\)"):
        fit_substitute(silent, x, blank(1), folder=tmp_path, **how | {"budget": 71})


def test_the_users_network_and_random_state_are_left_as_they_were():
    network, x = blank(1).train(), inputs(10, SHAPE)
    before, random = weights(network).clone(), torch.get_rng_state()
    found = fit_substitute(Endpoint(mlp()), x, network, budget=20, rounds=2, **FAST)
    assert torch.equal(weights(network), before)
    assert network.training
    assert torch.equal(torch.get_rng_state(), random)
    assert not found.network.training


def test_progress_is_told_after_every_epoch():
    steps = []
    fit_substitute(Endpoint(mlp()), inputs(10, SHAPE), blank(1), budget=40, rounds=2, progress=steps.append, epochs=3)
    assert [s.epoch for s in steps] == [1, 2, 3, 4, 5, 6]
    assert all(s.epochs == 6 and 0 <= s.figures["agrees"] <= 1 for s in steps)


def test_what_cannot_be_learned_from_is_refused_in_a_sentence():
    x, network = inputs(6, SHAPE), mlp(classes=2).requires_grad_(True)
    with pytest.raises(InputError, match="at least one of each"):
        fit_knockoff(Endpoint(mlp()), x, network, budget=0)
    with pytest.raises(InputError, match="no parameter of the network asks for a gradient"):
        fit_knockoff(Endpoint(mlp()), x, mlp(), budget=6)
    with pytest.raises(ModelError, match="the network has 2; give one with as many"):
        fit_knockoff(lambda x: torch.full((len(x),), 4), x, network, budget=6)
    for answer in (torch.full((6, 2), torch.nan), torch.zeros(6), torch.zeros(6, 2, 2)):
        with pytest.raises(ModelError, match="give one whole number an input, or finite scores"):
            fit_knockoff(lambda x, answer=answer: answer, x, network, budget=6)


def test_networks_with_batch_statistics_are_trained_however_many_inputs_there_are():
    network = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.BatchNorm1d(8), nn.Linear(8, 5))
    assert fit_knockoff(Endpoint(mlp()), inputs(17, SHAPE), network, budget=17, epochs=2, batch_size=16).queries == 17


def test_what_is_no_inputs_or_no_network_is_named():
    x = inputs(4, SHAPE)
    with pytest.raises(InputError, match="Tensor, tuple; give a tensor of inputs"):
        fit_substitute(Endpoint(Affine()), x, (x, x), budget=4)
