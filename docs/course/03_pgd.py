# ---
# jupytext:
#   text_representation:
#     extension: .py
#     format_name: percent
# kernelspec:
#   display_name: Python 3
#   language: python
#   name: python3

# %% [markdown]
# # 3. Projected gradient descent
#
# One step trusts one gradient over the whole ball. **Projected gradient descent** (PGD, Mądry and others 2018) takes
# short steps, looks again after each, and goes back into the ball and the box when it has left them. It is the attack
# that robustness is measured with and trained against, and it has five knobs. Here you
#
# - write the loop, and hold it number by number against the library's;
# - see what each knob does: number and size of steps, random start, loss, restarts and targets;
# - let the attack choose its own step size (APGD), and try momentum;
# - break it twice, once by arithmetic and once by a masked gradient, and see what gives each away;
# - end with what a verdict needs beyond a number.
#
# It runs in about half a minute: `python docs/course/03_pgd.py`.

# %% tags=["hide-input"]
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from sparring.explain.course import chapter

# FAST: fewer samples, for the tests; keep: saves the current figure under a name
FAST, keep = chapter(globals().get("__file__", ""))
torch.manual_seed(0)

# %% [markdown]
# ## The loop
#
# $$
# \delta_{t+1} = \Pi \big( \delta_t + \alpha \operatorname{sign} \nabla_\delta L(f(x + \delta_t), y) \big) ,
# \qquad \Pi: \ \text{the nearest } \delta \text{ with } \|\delta\|_\infty \le \varepsilon
# \text{ and } x + \delta \in [0, 1]^d .
# $$
#
# In $L_\infty$ the ball and the box are both boxes, so that $\Pi$ is two clamps, exactly. (In $L_2$ and $L_1$ it is
# not: to shrink and then to clip ends in the right set, but not at its nearest point. The library's `project` is the
# nearest point.)

# %%
from sparring.attacks import (
    APGD,
    BIM,
    FGSM,
    MIFGSM,
    PGD,
    AllTargets,
    Square,
    Transfer,
    restarts,
)
from sparring.explain import figures
from sparring.samples import digit_classifier, digits
from sparring.spaces import L2, Linf

model = digit_classifier()
train_x, train_y, test_x, test_y = digits()
n = 50 if FAST else 250
x, y = test_x[:n], test_y[:n]


def share(these):
    """How many of them, from 0 to 1."""
    return these.float().mean().item()


def pgd(model, x, y, eps, steps, rate, start):
    """Projected gradient descent in Linf, and the loss before every step."""
    delta, losses, alpha = start, [], rate * eps / steps
    for _ in range(steps):
        delta = delta.clone().requires_grad_()
        loss = F.cross_entropy(model(x + delta), y, reduction="none")
        (g,) = torch.autograd.grad(loss.sum(), delta)
        losses.append(loss.detach())
        delta = (delta.detach() + alpha * g.sign()).clamp(-eps, eps)
        delta = (x + delta).clamp(0, 1) - x
    return x + delta, torch.stack(losses)


ours, _ = pgd(model, x, y, 0.1, 10, 2.5, torch.zeros_like(x))
theirs = BIM(10, rate=2.5).perturb(model, x, y, Linf(0.1))
assert share((ours - theirs).abs() < 1e-5) > 0.999
assert (ours - x).abs().max() <= 0.1 + 1e-6
assert ours.min() >= 0
assert ours.max() <= 1

# %% [markdown]
# What would happen without the projection? The steps of a `rate` of 2.5 are together 2.5 times as long as
# $\varepsilon$: they would end outside, at points that prove nothing. In $L_2$ the difference between "shrink, then
# clip" and the nearest point is easily measured.

# %%
far = 3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
nearest = L2(2.0).bind(x).project(x, far)
shrunk = 2 * far / far.flatten(1).norm(dim=1)[:, None, None, None]
clipped = (x + shrunk).clamp(0, 1) - x
to_nearest = (far - nearest).flatten(1).norm(dim=1)
to_clipped = (far - clipped).flatten(1).norm(dim=1)
length = clipped.flatten(1).norm(dim=1).mean()
print(
    f"shrink and clip uses {length:.2f} of a budget of 2", end=", the projection "
)
print(f"{nearest.flatten(1).norm(dim=1).mean():.2f}")
assert (to_nearest < to_clipped).all()

# %% [markdown]
# ## A worthy opponent
#
# Against the usual network everything works at once, so we train one that resists: every batch is replaced by its PGD
# examples (Mądry's adversarial training; the real thing is longer). $\varepsilon$ grows during the first half, so that
# the network learns digits before it learns to defend them.

# %%
eps = 0.2


def harden(model, steps):
    """Adversarial training, very short."""
    draw = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for t in range(steps):
        rows = torch.randint(0, len(train_x), (64,), generator=draw)
        space = Linf(eps * min(1, 2 * (t + 1) / steps))
        attacked = PGD(4).perturb(
            model, train_x[rows], train_y[rows], space, seed=t
        )
        optimizer.zero_grad()
        F.cross_entropy(model(attacked), train_y[rows]).backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


robust = harden(digit_classifier().requires_grad_(), 60 if FAST else 150)


def stands(attack, model=robust, eps=eps):
    """The share of digits that are still read rightly."""
    return 1 - share(attack(model, x, y, Linf(eps), seed=0).success)


clean = share(robust(x).argmax(1) == y)
usual, hard = stands(PGD(20), model), stands(PGD(20))
print(f"hardened: clean {clean:.1%}, under PGD {hard:.1%}; usual: {usual:.1%}")
assert clean > 0.9
assert hard > usual + 0.2

# %% [markdown]
# ## How many steps, and how long?
#
# A step's length matters only together with their number. The library's `rate` is the length of *all steps together in
# units of* $\varepsilon$: at a rate below 1 the attack cannot even reach the rim of the ball from its centre; at a rate
# of 2.5 (Mądry's choice) it can cross it and turn back; at 20 every step of ten jumps from side to side.

# %%
rates = [0.25, 0.5, 1, 2.5, 5, 10, 20]
by_rate = [stands(BIM(10, rate=rate)) for rate in rates]
counts = [1, 2, 5, 10, 20, 40]
by_steps = [stands(BIM(k, rate=1 if k == 1 else 2.5)) for k in counts]
for rate, left in zip(rates, by_rate, strict=True):
    print(f"ten steps, rate {rate:5}: {left:.1%} stand")
assert by_rate[0] > by_rate[3] + 0.1  # too short: flatters the model
assert by_rate[2] >= by_rate[3]
assert by_steps[0] > by_steps[-1] + 0.05
assert abs(by_steps[-1] - by_steps[-2]) < 0.05  # it has levelled off

# %% tags=["hide-input"]
blue, orange, red = figures.PALETTE[:3]
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), sharey=True)
left.plot(counts, by_steps, "o-", color=blue)
left.set(xscale="log", xlabel="steps (rate 2.5)", ylabel="accuracy that is left")
left.set_xticks(counts, counts)
right.plot(rates, by_rate, "s-", color=orange)
right.set(xscale="log", xlabel="rate: length of ten steps in units of ε")
right.set_xticks(rates, rates)
for ax in (left, right):
    ax.set_xticks([], minor=True)
    figures.bare(ax)
keep("03_steps_and_rate")

# %% [markdown]
# Both curves are flat where it is safe to stop. That is the practical rule: *double the steps; if the accuracy moves,
# you had too few.* A paper that reports ten steps and not what twenty do has reported half a measurement.
#
# ## A random start, and more than one
#
# Start at a random point of the ball, and each run climbs another way. Here are twenty runs on one digit.

# %%
runs = 20
sure = robust(x).softmax(1).gather(1, y[:, None])[:, 0]
falls = PGD(20)(robust, x, y, Linf(eps), seed=0).success & (
    robust(x).argmax(1) == y
)
one = int(sure.where(falls, torch.tensor(0.0)).argmax())  # it falls, but was sure
many = x[one : one + 1].expand(runs, -1, -1, -1)
draw = torch.Generator().manual_seed(1)
start = (torch.rand(many.shape, generator=draw) * 2 - 1) * eps
start = (many + start).clamp(0, 1) - many
end, losses = pgd(robust, many, y[one].expand(runs), eps, 30, 2.5, start)
print(f"final losses from {losses[-1].min():.2f} to {losses[-1].max():.2f}")
assert (losses[-1] > losses[0]).all()  # every run climbs …
assert losses[-1].std() > 0  # … and not all to the same height

again = [stands(restarts(PGD(10), times)) for times in (1, 2, 4)]
print("standing after 1, 2, 4 restarts:", ", ".join(f"{a:.1%}" for a in again))
assert all(later <= now for now, later in pairwise(again))

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.2, 3.5))
ax.plot(losses, color=blue, alpha=0.5, linewidth=1)
ax.axhline(0.693, color=red, linestyle="--", linewidth=1)
ax.set(xlabel="step", ylabel="cross-entropy (nats)")
ax.set_title(
    "twenty random starts on one digit; below the dashes it is surely right"
)
figures.bare(ax)
keep("03_starts")

# %% [markdown]
# (Below $\ln 2$ the true class has more than half of the probability.) Restarts can only help, since success of *any*
# run counts, and `restarts` pays for what still stands alone. But they repeat one search. A larger change is another
# *direction*: **aim** in turn at each likely wrong class. Compare what a gradient buys:

# %%
from sparring.losses import cross_entropy, dlr, margin, scaled_cross_entropy

options = {
    "FGSM": FGSM(),
    "momentum, 20": MIFGSM(20),
    "PGD, 20": PGD(20),
    "PGD, 40": PGD(40),
    "PGD, 40, margin": PGD(40, loss=margin),
    "PGD, 20, twice": restarts(PGD(20), 2),
    "APGD, 40": APGD(40),
    "APGD at 4 targets": AllTargets(APGD(20, margin), 4),
}
left_by, paid = {}, {}
for name, attack in options.items():
    found = attack(robust, x, y, Linf(eps), seed=0)
    left_by[name] = 1 - share(found.success)
    paid[name] = found.backwards.float().mean().item()
    print(
        f"{name:>18}: {left_by[name]:.1%} stand, {paid[name]:5.1f} gradients each"
    )
assert left_by["momentum, 20"] >= left_by["PGD, 20"]
assert left_by["APGD, 40"] <= left_by["PGD, 40"] + 0.01
assert left_by["APGD at 4 targets"] <= min(list(left_by.values())[:4])

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.6, 3.8))
for i, name in enumerate(options):
    colour = figures.PALETTE[i % len(figures.PALETTE)]
    ax.plot(paid[name], left_by[name], "o", color=colour, label=name)
ax.set(xscale="log", xlabel="gradients a digit", ylabel="accuracy that is left")
ax.legend(frameon=False, fontsize=8)
figures.bare(ax)
keep("03_options")

# %% [markdown]
# **APGD** (Croce and Hein 2020) is PGD without its most delicate knob. It starts with steps as long as the ball is
# wide; at checkpoints it asks, sample by sample, whether enough of the last steps raised the loss; where not, it halves
# the step and goes back to the best point. **Momentum** (MI-FGSM, Dong and others 2018) adds the gradients up. That
# makes for smooth perturbations that carry over to *other* models. Here, in the white box, it is the weaker search: a
# tool for another question.
#
# ## When PGD fails: saturation
#
# Chapter 2 multiplied the logits by a factor. More steps do not help: each begins with the same zero. Another loss
# does. Besides the margin and the scaled cross-entropy there is **DLR** (Croce and Hein 2020), the margin over the gap
# between the first and the third logit: no factor on the logits can change a ratio of logits.


# %%
class Scaled(nn.Module):
    """The same decisions, a hundred times as loud."""

    def forward(self, x):
        return 100 * model(x)


asked = (cross_entropy, margin, scaled_cross_entropy, dlr)
quiet = {loss.__name__: stands(PGD(20, loss=loss), model, 0.15) for loss in asked}
loud = {loss.__name__: stands(PGD(20, loss=loss), Scaled(), 0.15) for loss in asked}
for name, left_over in loud.items():
    print(
        f"{name:>20}: {quiet[name]:6.1%} stand, with loud logits {left_over:6.1%}"
    )
assert loud["cross_entropy"] > 0.8
assert max(quiet.values()) < 0.1
assert max(loud[name] for name in ("margin", "scaled_cross_entropy", "dlr")) < 0.1

# %% [markdown]
# ## When PGD fails: masked gradients
#
# Now no loss helps. This model rounds its input to eight grey levels first, and rounding has a slope of zero. PGD is
# left with its random start. But look at what the *weaker* attackers find: `Square`, who sees only scores, and
# `Transfer`, who attacks the network without the rounding and hands the result over.


# %%
class Rounded(nn.Module):
    """Eight grey levels, then the network."""

    def forward(self, x):
        return model(torch.round(x * 7) / 7)


masked = Rounded()
asked = {
    "PGD, 20": PGD(20),
    "PGD, 100, DLR": PGD(100, loss=dlr),
    "Square, 200 queries": Square(200),
    "Transfer": Transfer(model, attack=PGD(20)),
}
seen = {name: stands(attack, masked, 0.15) for name, attack in asked.items()}
for name, left_over in seen.items():
    print(f"{name:>20}: {left_over:6.1%} stand")
assert min(seen["PGD, 20"], seen["PGD, 100, DLR"]) > 0.9
assert seen["Square, 200 queries"] < 0.6  # sees less, finds more: that is the sign
assert seen["Transfer"] < 0.1
assert stands(Square(200)) > stands(PGD(20))  # an honest model: the other way round

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.6, 2.6))
bars = ax.barh(list(seen), list(seen.values()), color=[orange, orange, blue, blue])
ax.bar_label(bars, [f"{100 * s:.0f} %" for s in seen.values()], padding=3)
ax.set(xlim=(0, 1.12), xlabel="accuracy that is left at ε = 0.15")
ax.set_title("one masked model: with its gradients (orange), without (blue)")
ax.invert_yaxis()
figures.bare(ax)
keep("03_masked")

# %% [markdown]
# ## What a verdict needs
#
# An accuracy under PGD is an **upper bound**: "this attack, so set, left so many". To make it a verdict you need
#
# 1. the threat model in words and numbers: space, $\varepsilon$, goal, what the attacker sees;
# 2. several attacks that fail for *different* reasons: two losses, targets, one without gradients;
# 3. enough steps that doubling them changes nothing, and restarts;
# 4. an interval, because the digits are a sample;
# 5. the **sanity checks**: gradients exist; less access finds no more; with the whole box to move in, everything falls.
#
# `evaluate` does all that, and says aloud what makes it doubt its own number. Here it is given the masked model, and an
# attack that is blind to it; it does not believe what it sees.

# %%
from sparring import evaluate

fooled = evaluate(masked, (x, y), Linf(0.15), plan=PGD(20))
print(
    f"PGD alone: {fooled.robust_accuracy:.1%} on the masked model, and the doubts:"
)
for doubt in fooled.doubts:
    print(f"- {doubt.name}: {doubt.meaning}")
assert "gradients exist" in [doubt.name for doubt in fooled.doubts]
assert len(fooled.doubts) >= 1

# %% [markdown]
# ## What to keep
#
# 1. Project to the nearest point of ball *and* box; step, look, repeat.
# 2. Rate and steps belong together. Double the steps; if the number moves, you had too few.
# 3. Change the loss, the target, the start: variety finds more than patience.
# 4. If an attacker who sees less finds more, the gradient lies.
# 5. Never one attack, never without checks, never without an interval.
#
# ## Exercises
#
# 1. *The whole box.* What must PGD find at $\varepsilon = 1$ against the hardened network, and why?
# 2. *Pass straight through.* Repair the gradient of `Rounded` by pretending, in the backward pass, that rounding does
#    nothing (Athalye and others 2018 call it BPDA). Does PGD recover?
# 3. *Same seed, same answer.* Attack the first ten digits alone, and as part of the batch. Must the results agree?
#
# Solutions follow.

# %% tags=["hide-cell"]
# Solution 1: everything. Any image is reachable, an even grey too; a model that stands here is masked.
everything = stands(PGD(100, loss=margin), eps=1.0)
print(f"at eps = 1: {everything:.1%} stand")
assert everything < 0.02


# %% tags=["hide-cell"]
# Solution 2: it does. The value is the rounded one, the slope that of the identity.
class Straight(nn.Module):
    """Rounds forwards, and does nothing backwards."""

    def forward(self, x):
        return model(x + (torch.round(x * 7) / 7 - x).detach())


assert torch.allclose(Straight()(x), masked(x), atol=1e-4)
assert stands(PGD(20), Straight(), 0.15) < 0.1

# %% tags=["hide-cell"]
# Solution 3: they must, but for rounding: draws belong to the sample, not to the batch.
whole = PGD(5).perturb(robust, x, y, Linf(eps), seed=0)[:10]
alone = PGD(5).perturb(robust, x[:10], y[:10], Linf(eps), seed=0)
assert share((whole - alone).abs() < 1e-4) > 0.99

# %% [markdown]
# ## Further reading
#
# - A. Mądry, A. Makelov, L. Schmidt, D. Tsipras, A. Vladu, *Towards deep learning models resistant to adversarial
#   attacks*, ICLR 2018, [arXiv:1706.06083](https://arxiv.org/abs/1706.06083).
# - Y. Dong, F. Liao, T. Pang, H. Su, J. Zhu, X. Hu, J. Li, *Boosting adversarial attacks with momentum*, CVPR 2018,
#   [arXiv:1710.06081](https://arxiv.org/abs/1710.06081). MI-FGSM.
# - A. Athalye, N. Carlini, D. Wagner, *Obfuscated gradients give a false sense of security*, ICML 2018,
#   [arXiv:1802.00420](https://arxiv.org/abs/1802.00420). Masked gradients, and BPDA.
# - F. Croce, M. Hein, *Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
#   attacks*, ICML 2020, [arXiv:2003.01690](https://arxiv.org/abs/2003.01690). APGD and DLR.
# - M. Andriushchenko, F. Croce, N. Flammarion, M. Hein, *Square attack: a query-efficient black-box adversarial attack
#   via random search*, ECCV 2020, [arXiv:1912.00049](https://arxiv.org/abs/1912.00049).
# - N. Carlini and others, *On evaluating adversarial robustness*, 2019,
#   [arXiv:1902.06705](https://arxiv.org/abs/1902.06705). The checklist behind the last section.
