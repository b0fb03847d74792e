"""The bench: what it counts, keeps, refuses and hides."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from known import Affine, inputs, mlp
from sparring.attack import AllTargets, Cascade, DecisionAttack, GradientAttack, Near, ScoreAttack, Transfer, restarts
from sparring.attacks import FMN, PGD, Square
from sparring.defend import AdversarialRisk
from sparring.errors import InputError, ModelError
from sparring.goals import Targeted
from sparring.losses import Point, cross_entropy, margin
from sparring.problem import Decisions, Gradients, Scores, bind
from sparring.spaces import L2, Linf
from sparring.threat import Access, ThreatModel


def problem(threat=None, **how):
    model, x = mlp(), inputs()
    return bind(model, x, model(x).argmax(1), threat or ThreatModel(Linf(0.1)), **how)


def test_each_level_of_access_adds_one_way_of_asking():
    kinds = [problem(ThreatModel(Linf(0.1), access=a)) for a in Access]
    assert [type(k) for k in kinds] == [Decisions, Scores, Gradients]
    assert not hasattr(kinds[0], "value")
    assert not hasattr(kinds[0], "clean")
    assert not hasattr(kinds[1], "gradient")


def test_a_point_outside_the_space_is_never_credited():
    p = problem(ThreatModel(Linf(0.01)))
    far = torch.sign(torch.randn(p.x.shape, generator=torch.Generator().manual_seed(0)))
    for size in (0.5, 2.0):
        assert not p.decide(size * far).any()
    assert not p.result().success.any()
    assert (p.result().forwards == 3).all()


def test_a_sample_retires_at_its_first_success_and_is_billed_no_more():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    r = restarts(PGD(steps=10), 5)(model, x, y, Linf(1.2 * model.distance(x, y, float("inf")).median().item()))
    assert r.success.any()
    assert not r.success.all()
    assert (r.forwards[r.success] < 14).all()
    assert (r.forwards[~r.success] == 1 + 5 * 11).all()
    assert (r.backwards[~r.success] == 50).all()


def test_a_free_search_keeps_the_nearest_success():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    p = bind(model, x, y, ThreatModel(L2()))
    gap = model.weight.detach()[1 - y] - model.weight.detach()[y]
    toward = (gap / gap.norm(dim=1, keepdim=True)).reshape(x.shape)
    true = model.distance(x, y, 2)
    for factor in (1.5, 1.1, 0.9, 1.3):
        p.decide(factor * true.reshape(-1, 1, 1, 1) * toward)
    assert torch.allclose(p.result().distance, 1.1 * true, rtol=1e-4, atol=1e-6)


def test_a_cascade_pays_only_for_what_still_stands():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    eps = Linf(1.1 * model.distance(x, y, float("inf")).median().item())
    one = PGD(steps=6)(model, x, y, eps)
    two = Cascade((PGD(steps=6), PGD(steps=6, loss=margin)))(model, x, y, eps)
    assert (two.success >= one.success).all()
    assert torch.equal(two.forwards[one.success], one.forwards[one.success])


def test_samples_that_rest_are_not_asked_about_until_the_next_search():
    p = problem()
    half = torch.arange(len(p.x)) < 8
    p.rest(half)
    p.observe(p.space.zeros(p.x))
    p.wake()
    p.observe(p.space.zeros(p.x))
    assert p.result().forwards.tolist() == [2] * 8 + [3] * 8


def test_aims_go_to_the_likeliest_wrong_classes_in_order_and_leave_the_goal():
    p = problem()
    assert isinstance(p, Gradients)
    order = p.clean.argsort(1, descending=True)
    seen = [aimed.goal.label for aimed in p.aims(9)]
    assert len(seen) == 4  # five classes
    assert torch.equal(torch.stack(seen, 1), order[:, 1:])
    assert p.goal.sign == -1


def test_a_targeted_threat_is_aimed_at_its_own_class_alone():
    from sparring.goals import Targeted

    p = problem(ThreatModel(Linf(0.1), Targeted()))
    assert [aimed is p for aimed in p.aims(9)] == [True]


def test_all_targets_of_a_two_class_model_is_one_search():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    r = AllTargets(PGD(steps=4), 9)(model, x, y, Linf(1e-6))
    assert (r.backwards == 4).all()


def test_a_transfer_attack_asks_the_victim_twice_and_takes_no_gradient():
    victim, x = Affine(), inputs()
    y = victim(x).argmax(1)
    threat = ThreatModel(Linf(0.3), access=Access.DECISIONS)
    r = Transfer(victim, attack=PGD(steps=5))(lambda x: victim(x), x, y, threat)
    assert r.success.all()
    assert (r.backwards == 0).all()
    assert (r.forwards == 2).all()


def test_the_differences_of_logits_come_with_their_gradients():
    model, x = Affine(classes=4), inputs(5)
    y = model(x).argmax(1)
    p = bind(model, x, y, ThreatModel(Linf(0.1)))
    assert isinstance(p, Gradients)
    rivals = p.rivals(3)
    for j, reply in enumerate(p.differences(p.space.zeros(x), rivals)):
        w = model.weight.detach()
        assert torch.allclose(reply.gradient.flatten(1), w[y] - w[rivals[:, j]], atol=1e-6)
        z = model(x).detach()
        assert torch.allclose(reply.value, (z.gather(1, y[:, None]) - z.gather(1, rivals[:, j : j + 1])).squeeze(1))
    assert (p.result().backwards == 3).all()
    assert (p.result().forwards == 2).all()


@pytest.mark.parametrize(
    "model",
    [lambda x: Affine()(x).detach(), lambda x: torch.eye(2)[(x.flatten(1).sum(1) > 12).long()]],
    ids=["detached", "rounded"],
)
def test_a_model_without_gradients_is_named_as_such(model):
    x = inputs()
    with pytest.raises(ModelError, match="no gradient"):
        PGD()(model, x, model(x).argmax(1), Linf(0.1))


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (255 * inputs(), torch.zeros(16).long(), "outside the box"),
        ((255 * inputs()).byte(), torch.zeros(16).long(), "uint8"),
        (inputs(), torch.zeros(15).long(), "one integer a sample"),
        (inputs(), torch.zeros(16), "one integer a sample"),
        (inputs() * torch.nan, torch.zeros(16).long(), "NaN"),
    ],
)
def test_inputs_that_do_not_fit_get_one_sentence(x, y, sentence):
    with pytest.raises(InputError, match=sentence):
        PGD()(mlp(), x, y, Linf(0.1))


def test_rounding_below_zero_is_forgiven():
    model, x = mlp(), inputs()
    x[0, 0, 0, 0] = -2.98e-8
    r = PGD()(model, x, model(x).argmax(1), Linf(0.1))
    assert float(r.x.min()) >= 0


def test_batchnorm_in_training_mode_is_refused_by_name():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(24), nn.Linear(24, 3))
    x = inputs()
    with pytest.raises(InputError, match="'1' is a BatchNorm in training mode"):
        PGD()(model, x, torch.zeros(16).long(), Linf(0.1))


def test_an_attack_of_ones_own_is_one_method():
    class Corner(DecisionAttack):
        def search(self, p, /):
            return p.space.project(p.x, p.random.signs(*p.x.shape[1:]))

    class Lucky(ScoreAttack):
        def search(self, p, /):
            delta = p.space.draw(p.x, p.random)
            p.value(delta, margin)
            return delta

    class Lazy(GradientAttack):
        def search(self, p, /):
            return p.space.zeros(p.x)

    model, x = mlp(), inputs()
    y = model(x).argmax(1)
    for attack, access in ((Corner(), 0), (Lucky(), 1), (Lazy(), 2)):
        assert attack.access == access
        assert attack(model, x, y, Linf(0.4)).forwards.max() <= 3


def test_restarts_differ_in_their_draws_and_never_hurt():
    model, x = mlp(), inputs()
    y = model(x).argmax(1)
    eps = Linf(0.02)
    found = [restarts(PGD(steps=2), n)(model, x, y, eps).success for n in (1, 4, 16)]
    assert (found[0] <= found[1]).all()
    assert (found[1] <= found[2]).all()
    with pytest.raises(InputError, match="at least once"):
        restarts(PGD(), 0)


def test_within_rests_a_sample_once_it_has_met_the_goal_in_there_and_no_sooner():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    true = model.distance(x, y, 2)
    gap = model.weight.detach()[1 - y] - model.weight.detach()[y]
    toward = (gap / gap.norm(dim=1, keepdim=True)).reshape(x.shape)
    p = bind(model, x, y, ThreatModel(L2()))
    narrow = p.within(1.2 * true)
    assert narrow.decide(1.5 * true.reshape(-1, 1, 1, 1) * toward).all()
    assert not narrow.fallen.any()
    assert narrow.decide(1.1 * true.reshape(-1, 1, 1, 1) * toward).all()
    assert narrow.fallen.all()
    assert not narrow.decide(1.01 * true.reshape(-1, 1, 1, 1) * toward).any(), "those who rest are not asked"
    p.wake()
    assert p.decide(1.01 * true.reshape(-1, 1, 1, 1) * toward).all()
    assert torch.allclose(p.result().distance, 1.01 * true, rtol=1e-4, atol=1e-6)


def test_a_bounded_problem_says_where_the_goal_is_met_beyond_its_eps():
    p = problem(ThreatModel(Linf(0.01)))
    far = torch.sign(torch.randn(p.x.shape, generator=torch.Generator().manual_seed(0)))
    met = p.decide(p.space.within(None).project(p.x, far))
    assert met.any()
    assert not p.result().success.any()


def test_a_goal_that_names_a_class_the_model_does_not_know_is_refused_in_words():
    model, x = mlp(), inputs()
    y = model(x).argmax(1)
    with pytest.raises(InputError, match=r"names class 77, and the model has 5: give labels from 0 to 4"):
        PGD(steps=2)(model, x, y, ThreatModel(Linf(0.1), Targeted(77)))
    with pytest.raises(InputError, match="names class -1"):
        PGD(steps=2)(model, x, torch.full_like(y, -1), Linf(0.1))


def test_settings_that_make_no_search_are_refused():
    with pytest.raises(InputError, match=r"PGD\(steps=2\.5\): give a whole number from 1"):
        PGD(steps=2.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"PGD\(steps='10'\): give a whole number from 1"):
        PGD(steps="10")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="a Cascade of no attacks"):
        Cascade(())
    with pytest.raises(InputError, match=r"give a tuple of attacks, as in Cascade\(\(PGD\(\), Square\(\)\)\)"):
        Cascade(PGD())  # pyright: ignore[reportArgumentType]
    for loss in (torch.nn.CrossEntropyLoss(), torch.nn.functional.cross_entropy):
        with pytest.raises(InputError, match=r"torch's losses read logits.*give one such as sparring.losses.cross"):
            PGD(loss=loss)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="the seed is 'a'; give a whole number"):
        PGD(steps=1)(mlp(), inputs(2), torch.zeros(2, dtype=torch.long), Linf(0.1), seed="a")
    with pytest.raises(InputError, match=r"PGD\(steps=0\): give a whole number from 1"):
        PGD(steps=0)


@pytest.mark.parametrize(("returned", "said"), [(None, "None"), (torch.zeros(2, 3), r"shape \(2, 3\)")])
def test_a_search_that_returns_no_perturbation_of_the_batch_is_told_so(returned, said):
    class Stray(DecisionAttack):
        def search(self, p):
            return returned

    stray = dataclass(frozen=True)(Stray)()
    with pytest.raises(InputError, match=rf"the search of Stray returned {said}; return the last delta, of shape "):
        stray(mlp(), inputs(2), torch.zeros(2, dtype=torch.long), Linf(0.1))


def test_ids_are_one_a_sample():
    question = mlp(), inputs(2), torch.zeros(2, dtype=torch.long), Linf(0.1)
    with pytest.raises(InputError, match=r"ids are of shape \(3,\); give one whole number for each of 2 samples"):
        PGD(2)(*question, ids=torch.arange(3))
    listed, given = (PGD(2)(*question, ids=ids).x for ids in ([3, 5], torch.tensor([3, 5])))
    assert torch.equal(listed, given)


@pytest.mark.parametrize("make", [lambda: Cascade((PGD,)), lambda: AllTargets(PGD), lambda: AdversarialRisk(PGD, "l2")])
def test_a_class_in_place_of_an_attack_is_told_so(make):
    with pytest.raises(InputError, match=r"\(attacks?=PGD\): give one, as in PGD\(…\)"):
        make()


def test_a_loss_given_by_name_is_answered_with_where_it_is():
    with pytest.raises(InputError, match=r"PGD\(loss='dlr'\): give the function itself, as in sparring.losses.dlr"):
        PGD(loss="dlr")
    with pytest.raises(InputError, match=r"as in sparring.losses.cross_entropy$"):
        PGD(loss="ce")


def test_near_spends_nothing_on_samples_that_are_far_from_the_goal():
    model, x = Affine(), inputs()
    y = model(x).argmax(1)
    true = model.distance(x, y, float("inf"))
    first = PGD(steps=1, random_start=False, loss=margin)
    near = Cascade((first, Near(PGD(steps=5, loss=margin), 0.5)))(model, x, y, Linf((0.3 * true).contiguous()))
    assert (near.forwards == 4).all(), "the clean input, the step, two looks: 0.7 of the margin is left"
    aims = AllTargets(PGD(steps=5, loss=margin), 1)
    near = Cascade((first, Near(aims, 0.5)))(model, x, y, Linf((0.3 * true).contiguous()))
    assert (near.forwards == 4).all(), "though every aim begins a search"
    near = Cascade((first, Near(PGD(steps=5, loss=margin), 0.5)))(model, x, y, Linf((0.8 * true).contiguous()))
    assert (near.forwards == 3 + 6).all(), "0.2 of the margin is left"


def test_a_later_search_may_begin_at_the_best_point_of_an_earlier_one():
    p = problem(ThreatModel(Linf(0.001), access=Access.SCORES))
    points = [p.space.draw(p.x, p.random) for _ in range(4)]
    values = torch.stack([p.value(point, margin) for point in points])
    best = torch.stack(points)[values.argmin(0), torch.arange(len(p.x))]
    clean = margin(Point(p.best, p.clean, p.goal))
    assert torch.equal(p.best[values.amin(0) < clean], best[values.amin(0) < clean])
    assert torch.allclose(p.shortfall * clean, torch.minimum(values.amin(0), clean), atol=1e-6)


class Brittle(nn.Module):
    """A network that answers what it should on the inputs it was shown, and `word` everywhere else."""

    def __init__(self, x, word=torch.nan):
        super().__init__()
        self.net, self.known, self.word = mlp(), x.clone(), word

    def forward(self, x):
        near = torch.cdist(x.detach().flatten(1), self.known.flatten(1)).amin(1) < 1e-6
        return torch.where(near[:, None], self.net(x), self.word)


@pytest.mark.parametrize("word", [torch.nan, torch.inf])
@pytest.mark.parametrize("attack", [PGD(steps=3), FMN(steps=3), Square(queries=5)], ids=lambda a: type(a).__name__)
def test_a_model_that_breaks_down_on_attacked_inputs_is_named_as_such(attack, word):
    x = inputs()
    model = Brittle(x, word)
    y = model(x).argmax(1)
    y[3] = (y[3] + 1) % 5
    threat = Linf() if isinstance(attack, FMN) else Linf(0.1)
    with pytest.raises(ModelError, match=r"answered NaN or infinity on 15 of 16 attacked inputs, .*; look in it for"):
        attack(model, x, y, threat)


def test_an_answer_that_is_no_number_is_never_credited_nor_kept():
    model, x = mlp(), inputs()
    y = model(x).argmax(1)
    p = bind(Brittle(x), x, y, ThreatModel(Linf(0.1)))
    clean = p._ledger.score.clone()
    assert not p.decide(p.space.draw(p.x, p.random)).any()
    assert torch.equal(p._ledger.score, clean)
    assert clean.isfinite().all()
    assert (p.best == 0).all()


def test_a_breakdown_outside_the_space_is_no_matter():
    x = inputs()
    model = Brittle(x)
    p = bind(model, x, model(x).argmax(1), ThreatModel(Linf(0.01)))
    p.decide(torch.full_like(x, 0.1))
    assert p.result().margin.isfinite().all()


def stale(threat=None):
    """A problem that looks at who is active every ten calls, as on a GPU."""
    p = problem(threat or ThreatModel(Linf(1e-4)))
    p._look_every = 10
    return p, torch.arange(len(p.x)) < 8


def answered(p):
    """Whose logits are the model's, and not the zeros that stand for a sample that was left alone."""
    return p._forward(p.space.zeros(p.x)).ne(0).any(1)


def test_samples_that_wake_between_looks_are_asked_again():
    p, half = stale()
    p.rest(half)
    p._calls = 0
    assert answered(p).tolist() == (~half).tolist()
    p.wake()
    assert answered(p).all()
    p._ledger.spare(half)
    assert answered(p).tolist() == (~half).tolist()
    p._ledger.spare(torch.zeros_like(half))
    assert answered(p).all()
    p.rest(half)
    p._calls = 0
    answered(p)
    narrow = p.within(torch.full((16,), 1e-5))
    assert answered(narrow).all()
    assert answered(p).all(), "a copy woke them for all"
    p.rest(half)
    p._calls = 0
    answered(p)
    assert all(answered(aimed).all() for aimed in p.aims(2))


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (inputs(), None, r"labels are missing; give a tensor, as in torch.as_tensor\(y\)"),
        (inputs(), [0] * 16, "labels are of type list; give a tensor"),
        (inputs().numpy(), torch.zeros(16).long(), r"of type ndarray; give a tensor.*load_data\(\(x, y\)\)"),
        (inputs().tolist(), torch.zeros(16).long(), "inputs are of type list; give a tensor"),
        (inputs()[:, 0, 0, 0], torch.zeros(16).long(), r"inputs have shape \(16,\); give samples on the first axis"),
        (inputs(), torch.zeros(16).bool(), "one integer a sample"),
        (inputs(), torch.full((16,), 5), "names class 5, and the model has 5"),
    ],
)
def test_what_is_no_tensor_of_inputs_or_labels_gets_one_sentence(x, y, sentence):
    with pytest.raises(InputError, match=sentence):
        PGD(steps=2)(mlp(), x, y, Linf(0.1))


def test_inputs_with_their_channels_last_are_recognised_where_the_model_refuses_them():
    with torch.random.fork_rng():
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(5)).eval()
        x = inputs(4, (3, 6, 7))
        model(x)
    y = model(x).argmax(1)
    assert len(PGD(steps=1)(model, x, y, Linf(0.01)).x) == 4
    with pytest.raises(ModelError, match=r"\(4, 6, 7, 3\): .*channels last, so give x.permute\(0, 3, 1, 2\)"):
        PGD(steps=1)(model, x.permute(0, 2, 3, 1), y, Linf(0.01))
    with pytest.raises(ModelError, match=r"refused inputs of shape \(4, 2, 6, 7\): RuntimeError: .*expected input"):
        PGD(steps=1)(model, x[:, :2], y, Linf(0.01))


def first_row(x):
    return mlp()(x)[:1]


REFUSED = {
    "tuple": (lambda x: (mlp()(x), x), "answers with a tuple; return one tensor of logits"),
    "dict": (lambda x: {"logits": mlp()(x)}, "answers with a dict"),
    "array": (lambda x: mlp()(x).detach().numpy(), "answers with an ndarray"),
    "images": (lambda x: x, r"has shape \(8, 2, 3, 4\) for 8 inputs; return one row of logits a sample"),
    "classes": (lambda x: mlp()(x).argmax(1), "int64 of shape .* return logits, not class numbers"),
    "one row": (first_row, "answers 8 inputs with 1 rows"),
    "one output": (lambda x: mlp()(x)[:, :1], r"TwoClasses\(model\)"),
    "class": (nn.Linear, r"the model is the class Linear; give one of its instances, as in Linear\(…\)"),
    "shape": (nn.Linear(5, 2), r"refused inputs of shape \(8, 2, 3, 4\): RuntimeError"),
    "precision": (mlp().double(), r"float64 and the inputs are float32; wrap it: Cast\(model, torch.float64\)"),
}


@pytest.mark.parametrize("how", [PGD(steps=2), PGD(steps=2).perturb, Square(3)], ids=["attack", "perturb", "square"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_judged_is_refused_in_the_words_of_the_door(name, how):
    model, sentence = REFUSED[name]
    with pytest.raises(ModelError, match=sentence):
        how(model, inputs(8), torch.full((8,), 4), Linf(0.1))


@pytest.mark.parametrize("how", [PGD(steps=2), PGD(steps=2).perturb], ids=["attack", "perturb"])
def test_what_is_no_fault_of_the_model_comes_through_as_it_is(how):
    asked = []

    def falters(x):
        asked.append(len(x))
        if len(asked) == 1:
            raise error
        return mlp()(x)

    for error in (RuntimeError("once"), torch.OutOfMemoryError("too large"), InputError("of its own")):
        asked.clear()
        with pytest.raises(type(error), match=str(error)):
            how(falters, inputs(8), torch.zeros(8, dtype=torch.long), Linf(0.1))
        assert len(asked) == (2 if str(error) == "once" else 1)


def test_draws_after_a_search_among_some_do_not_tell_who_was_spared_beside():
    def later(near):
        p = problem()

        def search(p):
            for _ in p.steps(3):
                p.random.uniform()
                p.observe(p.space.zeros(p.x))
            return p.space.zeros(p.x)

        p.among(near, search)
        return p.random.uniform()

    none = torch.zeros(16, dtype=torch.bool)
    assert torch.equal(later(none), later(~none))


def test_a_search_among_some_is_the_search_of_those_alone():
    half = torch.arange(16) % 2 == 0

    def search(p):
        for _ in p.steps(5):
            p.value(p.space.draw(p.x, p.random), margin)
        return p.space.draw(p.x, p.random)

    results = []
    for dense in (False, True):
        p = problem(ThreatModel(Linf(0.05)), dense=dense)
        last = p.among(half, search)
        p.observe(last)
        results.append(p.result())
        assert last.shape == p.x.shape
    small, dense = results
    assert (small.forwards[~half] == 2).all(), "the clean look, and the last one"
    assert torch.equal(small.forwards, dense.forwards)
    assert torch.equal(small.success, dense.success)
    assert torch.allclose(small.x[half], dense.x[half], atol=1e-6)


def test_a_search_among_none_is_no_search_even_in_a_box_of_each_samples_own():
    x = inputs()
    p = problem(ThreatModel(Linf(0.05, box=((x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1)))))
    assert torch.equal(p.among(torch.zeros(16, dtype=torch.bool), lambda none: none.best), p.best)


def test_a_slope_is_the_gradient_and_where_nobody_reads_the_books_they_stay_blank():
    x, model = inputs(6), mlp()
    y, threat = model(x).argmax(1), ThreatModel(Linf(0.05))
    delta = 0.04 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    read = bind(model, x, y, threat, retire=False, dense=True)
    unread = bind(model, x, y, threat, retire=False, dense=True, kept=False)
    limited = bind(model, x, y, replace(threat, queries=9), retire=False, dense=True, kept=False)
    slopes = [p.slope(delta, cross_entropy) for p in (read, unread, limited)]
    assert torch.equal(slopes[0], read.gradient(delta, cross_entropy).gradient)
    assert torch.allclose(slopes[0], slopes[1], atol=1e-6)
    assert torch.equal(slopes[0], slopes[2])
    assert [int(p.result().forwards.sum()) for p in (read, unread, limited)] == [12, 0, 6]
    unread.observe(delta)
    assert torch.equal(unread.best, delta)


def test_a_model_that_cannot_be_asked_is_named():
    with pytest.raises(ModelError, match="the model is None; give a function"):
        PGD()(None, inputs(3), torch.zeros(3, dtype=torch.long), Linf(0.1))


def test_a_result_shows_itself_in_one_line():
    x, y = inputs(3), torch.zeros(3, dtype=torch.long)
    r = PGD(steps=2)(mlp(), x, y, Linf(0.1))
    assert repr(r) == (
        f"Result({int(r.success.sum())} of 3 succeeded, {int(r.forwards.sum())} forwards, "
        f"{int(r.backwards.sum())} backwards)"
    )
