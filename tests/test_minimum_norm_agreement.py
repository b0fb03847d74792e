"""The minimum-norm attacks against independent implementations, sample by sample, on a published network and digits.

The figures were made with adv-lib 0.2.8 on the first eight images of the MNIST test set and `mnist_convsmall_nat`, at
the settings of each test; `benchmarks/agreement_minimum_norm.py` prints the same comparison on more samples. Where
adv-lib found nothing (its FMN in L1 and L2 leaves the fourth image), the figure is nan, and ours must find something.
"""

import importlib.util
import math
import os
import sys
import warnings
from pathlib import Path

import pytest
import torch

from sparring.attack import AllTargets
from sparring.attacks import EAD, FAB, FMN, CarliniWagner, DeepFool
from sparring.spaces import L0, L1, L2, ElasticNet, Linf

DATA = Path(os.environ.get("SPARRING_DATA", Path(__file__).parents[2] / "shared" / "data"))
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(not (DATA / "load.py").exists(), reason=f"no shared models and data in {DATA}"),
]
nan = math.nan


@pytest.fixture(scope="module")
def digits():
    spec = importlib.util.spec_from_file_location("shared_load", DATA / "load.py")
    assert spec is not None
    assert spec.loader is not None
    load = importlib.util.module_from_spec(spec)
    sys.modules["shared_load"] = load
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the loader leaves its files to the garbage collector
        spec.loader.exec_module(load)
        samples = load.data("mnist_test")
        return load.model("mnist_convsmall_nat"), load.images(samples)[:8], samples["y"][:8].long()


def check(attack, space, digits, figures, tolerance):
    model, x, y = digits
    r = attack(model, x, y, space)
    figures = torch.tensor(figures)
    assert r.success.all()
    known = ~figures.isnan()
    assert torch.allclose(r.distance[known], figures[known], rtol=tolerance)
    assert float(r.distance.median()) <= 1.001 * float(figures.nan_to_num(math.inf).median())


@pytest.mark.parametrize(
    ("space", "figures"),
    [
        (L1(), [15.00484, 10.7055, 3.9827, 17.61148, 3.91398, 7.2529, 4.22668, 8.32154]),
        (L2(), [1.76586, 1.78743, 0.94734, 2.65452, 0.76272, 1.24519, 0.61407, 1.29593]),
        (Linf(), [0.15447, 0.13555, 0.08903, 0.20862, 0.07476, 0.11334, 0.04374, 0.09306]),
    ],
    ids=["l1", "l2", "linf"],
)
def test_fab_t_agrees_with_adv_lib(digits, space, figures):
    """n_iter=10, restarts=9, targeted_restarts=True; no final search there."""
    check(AllTargets(FAB(steps=10, final=0), 9), space, digits, figures, 1e-3)


@pytest.mark.parametrize(
    ("space", "figures"),
    [
        (L2(), [1.72865, 1.77266, 0.92557, 2.68755, 0.74326, 1.22516, 0.60784, 1.35744]),
        (Linf(), [0.13309, 0.12434, 0.07884, 0.20364, 0.0719, 0.10209, 0.04287, 0.10009]),
    ],
    ids=["l2", "linf"],
)
def test_fab_agrees_with_adv_lib(digits, space, figures):
    """n_iter=20, restarts=1; no final search there."""
    check(FAB(steps=20, final=0), space, digits, figures, 1e-3)


@pytest.mark.parametrize(
    ("space", "figures"),
    [
        (L2(), [2.21155, 1.98544, 1.36814, 2.85759, 0.95981, 1.47828, 0.68596, 1.45287]),
        (Linf(), [0.19283, 0.16333, 0.15002, 0.22701, 0.0866, 0.13797, 0.05157, 0.11929]),
    ],
    ids=["l2", "linf"],
)
def test_deepfool_agrees_with_adv_lib(digits, space, figures):
    """steps=50; it lengthens each step by the overshoot where ours, as the paper's, lengthens their sum."""
    check(DeepFool(steps=50), space, digits, figures, 5e-3)


@pytest.mark.parametrize(
    ("space", "figures", "tolerance"),
    [
        (L0(), [14, 17, 5, 28, 4, 9, 5, 10], 0.15),
        (L1(), [11.49292, 15.31503, 3.90109, nan, 3.14117, 7.24949, 3.61795, 8.12484], 1e-3),
        (L2(), [1.69055, 2.17864, 0.91603, nan, 0.73664, 1.21488, 0.59776, 1.34203], 2e-3),
        (Linf(), [0.13196, 0.156, 0.07239, 0.21161, 0.07112, 0.09796, 0.04238, 0.09642], 1e-3),
    ],
    ids=["l0", "l1", "l2", "linf"],
)
def test_fmn_agrees_with_adv_lib(digits, space, figures, tolerance):
    """steps=100. Its L2 projection also lengthens what is shorter than eps, and it clips where ours is exact."""
    check(FMN(steps=100, growth=1.0), space, digits, [float(v) for v in figures], tolerance)


def test_carlini_wagner_agrees_with_adv_lib(digits):
    """learning_rate=0.05, initial_const=1, binary_search_steps=4, max_iterations=150, abort_early=False."""
    figures = [1.74562, 2.20785, 0.92614, 3.1048, 0.74547, 1.23856, 0.60101, 1.37311]
    check(CarliniWagner(steps=150, searches=4, rate=0.05, first_weight=1.0), L2(), digits, figures, 1e-3)


@pytest.mark.parametrize(("beta", "figure"), [(1e-3, 1.62266), (1e-2, 2.15586), (0.1, 4.30199)])
def test_ead_in_the_elastic_net_is_no_worse_than_foolbox(beta, figure, digits):
    """EADAttack(binary_search_steps=6, steps=100, decision_rule="EN", regularization=beta, initial_const=0.01,
    abort_early=False) of foolbox 3.3.4, at two forwards a step: the median of ‖δ‖₂² + β·‖δ‖₁.
    """
    model, x, y = digits
    r = EAD(steps=100, searches=6, first_weight=0.01, accelerated=False)(model, x, y, ElasticNet(beta=beta))
    assert r.success.all()
    assert float(r.distance.median()) <= 1.005 * figure
