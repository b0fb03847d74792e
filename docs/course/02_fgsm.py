# ---
# jupytext:
#   text_representation:
#     extension: .py
#     format_name: percent
# kernelspec:
#   display_name: Python 3
#   language: python
#   name: python3
# ---

# %% [markdown]
# # 2. The fast gradient sign method
#
# The first attack of the last chapter was three lines: take the gradient, take its signs, take a step. It has a name,
# the **fast gradient sign method** (FGSM, Goodfellow, Shlens and Szegedy 2015). It is the weakest gradient attack there
# is, and worth a chapter: every stronger one repeats its step, and every way in which it fails will return in a more
# expensive form. Here you
#
# - derive the step, for any ruler, from one line of calculus and one inequality;
# - write it in ten lines of PyTorch and hold it against the library's;
# - draw the curve that a robustness claim should come with, with its interval;
# - see it **leak the label** that it was told to hide;
# - see it **fail**, in two ways that look like a robust model and are not;
# - and take the step from one step to many.
#
# It runs in about a minute: `python docs/course/02_fgsm.py`.

# %% tags=["hide-input"]
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Polygon
from scipy.stats import binomtest
from torch import nn

from sparring.explain.course import chapter

# FAST: fewer samples, for the tests; keep: saves the current figure under a name
FAST, keep = chapter(globals().get("__file__", ""))
torch.manual_seed(0)

# %% [markdown]
# ## One line of calculus, one inequality
#
# We want the perturbation within $\varepsilon$ that raises the loss $L$ most. Near $x$ the loss is nearly linear, with
# $g = \nabla_x L(f(x), y)$:
#
# $$ L(x + \delta) \approx L(x) + g^\top \delta . $$
#
# So we solve, in place of the hard problem, the easy one
#
# $$ \max\limits_{\|\delta\|_p \le \varepsilon} \ g^\top \delta . $$
#
# Hölder's inequality says what the best value is: $g^\top\delta \le \|g\|_q\,\|\delta\|_p$ where
# $\tfrac1p + \tfrac1q = 1$. The $q$-norm is the **dual** of the $p$-norm, and the most that $\varepsilon$ can buy is
# $\varepsilon\,\|g\|_q$. It remains to find the $\delta$ that buys it:
#
# | ruler of $\delta$ | best value, $\varepsilon\lVert g\rVert_q$ | best $\delta$ | in words |
# |---|---|---|---|
# | $L_\infty$ | $\varepsilon \sum_i \lvert g_i\rvert$ | $\varepsilon \operatorname{sign}(g)$ | every pixel, fully |
# | $L_2$ | $\varepsilon \sqrt{\sum_i g_i^2}$ | $\varepsilon\, g / \lVert g\rVert_2$ | along the gradient |
# | $L_1$ | $\varepsilon \max_i \lvert g_i\rvert$ | $\varepsilon\operatorname{sign}(g_k)\,e_k$ | all on one pixel |
#
# where $k$ is the pixel of the steepest slope, $|g_k| = \max_i |g_i|$, and $e_k$ changes it alone.
#
# Check the first row yourself: with every $|\delta_i| \le \varepsilon$, each term $g_i\delta_i$ is at most
# $\varepsilon|g_i|$, and the sign reaches that in all terms at once. **The sign in FGSM is not a trick. It is the
# gradient, as the ruler $L_\infty$ sees it**: Goodfellow's step is the exact answer to the linear problem.
#
# In the plane one can see it. The arrow is $g$; the grey lines join points where the linear loss is the same. Push a
# line outwards until it touches the ball for the last time: a corner of the square, the tip of the circle's arrow, a
# corner of the diamond.

# %% tags=["hide-input"]
from sparring.explain import figures
from sparring.geometry import dual, norm
from sparring.spaces import L1, L2, Linf

g = torch.tensor([[0.9, 0.45]])
best = {
    "$L_\\infty$": (math.inf, g.sign()),
    "$L_2$": (2.0, g / g.norm()),
    "$L_1$": (1.0, torch.tensor([[1.0, 0.0]])),
}
turn = np.linspace(0, 2 * math.pi, 200)
balls = [
    np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]),
    np.stack([np.cos(turn), np.sin(turn)], 1),
    np.array([[1, 0], [0, 1], [-1, 0], [0, -1]]),
]
red, blue, orange = (figures.PALETTE[i] for i in (2, 0, 1))
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True)
for ax, (name, (p, delta)), ball in zip(axes, best.items(), balls, strict=True):
    bought = (g * delta).sum()
    assert torch.isclose(bought, norm(g, dual(p))[0])  # Hölder, with equality
    for level in np.arange(-2.1, 2.4, 0.3):  # where g₁x + g₂y has this value
        ax.axline((0, level / 0.45), slope=-2, color="#c9ccd2", linewidth=0.8)
    ax.axline((0, bought.item() / 0.45), slope=-2, color=red, linewidth=1.6)
    ax.add_patch(Polygon(ball, facecolor=blue, alpha=0.35))
    arrow = {"arrowstyle": "-|>", "linewidth": 1.5}
    ax.annotate("", g[0].tolist(), (0, 0), arrowprops=arrow)
    ax.annotate("$g$", (0.36, 0.3), fontsize=12)
    ax.plot(*delta[0].tolist(), "o", color=red, markersize=8, zorder=3)
    spot = (delta[0] + 0.07).tolist()
    ax.annotate("best $\\delta$", spot, color=red)
    ax.set(
        xlim=(-1.25, 1.85), ylim=(-1.25, 1.45), aspect="equal", xticks=[], yticks=[]
    )
    ax.set_title(f"{name}: buys {bought:.2f} for ε = 1")
keep("02_dual")

# %% [markdown]
# The table is in the library, as the method `steepest` of each space: the step of length one that *lowers* a loss
# fastest. (The library's attacks always descend; what they descend is the loss seen from the attacker's side.) Nobody
# should take our word for "best". Here are a hundred thousand random steps of length one in 20 dimensions; none beats
# the table.

# %%
gradient = torch.randn(1, 20, generator=torch.Generator().manual_seed(1))
middle = torch.full_like(gradient, 0.5)
shots = torch.randn(100_000, 20, generator=torch.Generator().manual_seed(2))
for space in (Linf(1.0), L2(1.0), L1(1.0)):
    steepest = -space.steepest(middle, torch.zeros_like(middle), gradient)
    raises, promised = (gradient * steepest).sum(), norm(gradient, dual(space.p))[0]
    luckiest = (gradient * shots / norm(shots, space.p)[:, None]).sum(1).max()
    name = type(space).__name__
    print(f"{name:>4}: steepest {raises:6.3f}, dual norm {promised:6.3f}", end=", ")
    print(f"luckiest random step {luckiest:6.3f}")
    assert torch.isclose(raises, promised)
    assert luckiest < raises

# %% [markdown]
# ## In ten lines, and from the library

# %%
from sparring.samples import digit_classifier, digit_network, digits

model = digit_classifier()
train_x, train_y, test_x, test_y = digits()
n = 120 if FAST else 500
x, y = test_x[:n], test_y[:n]


def fgsm(model, x, y, eps):
    """One step of the fast gradient sign method, and back into the box."""
    x = x.clone().requires_grad_()
    loss = F.cross_entropy(model(x), y, reduction="sum")
    (g,) = torch.autograd.grad(loss, x)
    return (x + eps * g.sign()).clamp(0, 1).detach()


def share(these):
    """How many of them, from 0 to 1."""
    return these.float().mean().item()


@torch.no_grad()
def accuracy(model, x, y):
    """The share that the model reads rightly."""
    return share(model(x).argmax(1) == y)


attacked = fgsm(model, x, y, 0.1)
print(f"clean {accuracy(model, x, y):.1%}, ", end="")
print(f"after one step of 0.1 {accuracy(model, attacked, y):.1%}")

# %% [markdown]
# Three choices in these lines deserve a word. `reduction="sum"`, not the mean: each sample's gradient is its own, and
# the mean would shrink it with the size of the batch (harmless for a sign, not for what follows). `autograd.grad`, not
# `.backward()`: we want the gradient of the input, and no gradients left behind in the weights. And the clamp at the
# end: the box.
#
# The library's `FGSM()` is the same step behind the same door as every other attack. `perturb` gives the raw last
# point, which we can compare number by number; calling it gives a `Result` that the model has confirmed, and leaves
# alone what was misread from the start.

# %%
from sparring.attacks import BIM, FGSM, PGD, RFGSM

theirs = FGSM().perturb(model, x, y, Linf(0.1))
print("largest difference in any pixel:", (attacked - theirs).abs().max().item())
assert torch.allclose(attacked, theirs, atol=1e-6)

result = FGSM()(model, x, y, "linf:0.1")  # a question may be written as text
misread = model(x).argmax(1) != y
fooled = model(attacked).argmax(1) != y
assert share(result.success == fooled) > 0.99
assert (result.distance[misread] == 0).all()  # wrong from the start: nothing to do

forwards, backwards = result.forwards[~misread], result.backwards[~misread]
print(f"a digit costs {forwards.max()} forwards and {backwards.max()} backward")
assert (backwards == 1).all()  # one gradient: that is what "fast" means
assert (forwards == 3).all()  # clean, for the gradient, and a look at the result

# %% [markdown]
# The same attack with another ruler is the same line with another space. `PGD(steps=1)` with a rate of one *is* FGSM,
# and in $L_2$ and $L_1$ the space hands out the other rows of the table. The three budgets below are chosen so that the
# linear problem promises about the same loss.

# %%
pixels = x.clone().requires_grad_()
loss = F.cross_entropy(model(pixels), y, reduction="sum")
(g,) = torch.autograd.grad(loss, pixels)
promise = 0.1 * norm(g, 1)  # what 0.1 in Linf buys, to first order
moved = {}
for space in (Linf, L2, L1):
    eps = (promise / norm(g, dual(space.p))).median().item()
    name = f"{space.__name__}({eps:.3g})"
    moved[name] = FGSM().perturb(model, x, y, space(eps))
    used = norm(moved[name] - x, space.p).median()
    print(f"{name:>9}: accuracy {accuracy(model, moved[name], y):.1%}", end=", ")
    print(f"size after the box {used:.2f} (median)")

# %% tags=["hide-input"]
figure, axes = plt.subplots(3, 4, figsize=(6.4, 5.6))
for row, (name, images) in zip(axes, moved.items(), strict=True):
    for ax, image in zip(row, images[[7, 5, 4, 8]], strict=True):
        figures.picture(
            ax, image, below=f"reads {model(image[None]).argmax().item()}"
        )
    row[0].set_ylabel(name, fontsize=11)
keep("02_three_steps")

# %% [markdown]
# In $L_1$ the step is one pixel, and the box stops it at once: a pixel has room for a change of at most one, and the
# budget is many times that. The linear problem forgot the box. One step is a poor attack in $L_1$, and chapter 1 had to
# take many. The lesson is general: *an attack must be made for its space*, box included.
#
# ## The curve, with its interval
#
# "The accuracy at $\varepsilon = 0.1$ is 32 %" is one point. A claim should come as a curve, because the shape tells
# what a point cannot: whether the model breaks at once or late, and whether the attack is sane (below). And it should
# come with its uncertainty. With $k$ of $n$ digits still right, $k$ is binomial, and the exact interval of Clopper and
# Pearson (1934) holds the true share at least 95 times in a hundred.

# %%
radii = [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3]


def standing(model, attack, eps):
    """How many digits are still read rightly."""
    if eps == 0:
        return int((model(x).argmax(1) == y).sum())
    return int((~attack(model, x, y, Linf(eps), seed=0).success).sum())


def interval(kept):
    """The exact 95 % interval of each share, after Clopper and Pearson."""
    ends = [binomtest(k, n).proportion_ci(0.95, method="exact") for k in kept]
    return np.array(ends).T


one = [standing(model, FGSM(), eps) for eps in radii]
twenty = [standing(model, PGD(20), eps) for eps in radii]
for i, eps in enumerate(radii):
    low, high = interval(one)[:, i]
    fgsm_share, pgd_share = one[i] / n, twenty[i] / n
    told = f"FGSM {fgsm_share:6.1%}  [{low:.1%}, {high:.1%}]"
    print(f"eps {eps:4.2f}: {told:28}  PGD {pgd_share:6.1%}")

assert all(
    later <= now + 0.01 * n for now, later in pairwise(one)
)  # falls with eps
assert all(many <= few for few, many in zip(one, twenty, strict=True))
assert one[-1] < 0.05 * n
assert twenty[-1] == 0

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.8, 4))
for kept, name, colour, marker in (
    (one, "FGSM, one step", red, "o"),
    (twenty, "PGD, 20 steps", blue, "s"),
):
    style = {"name": name, "colour": colour, "marker": marker}
    band = tuple(interval(kept))
    figures.accuracy_curve(ax, radii, np.array(kept) / n, interval=band, **style)
ax.set(
    xlabel="ε ($L_\\infty$)", title=f"accuracy of {n} digits, with 95 % intervals"
)
ax.legend(frameon=False)
keep("02_curve")

# %% [markdown]
# Read it like this. Both curves fall and end near zero: with room enough, *any* model must break, and one that does not
# is hiding something. Between 0.05 and 0.15 the two differ by far more than the intervals: the accuracy "under attack"
# is a property of the model **and of the attack**, an upper bound for what an attacker can do to it, and the weaker
# attack flatters. The curve of FGSM is never the robustness of a model. At best it is a quick way to see that there is
# none.
#
# ## Label leaking
#
# FGSM is told the true label, and uses it: it steps away from *this* class. Does the step give away which? Let us ask a
# very weak model, trained on sixty digits, for its FGSM steps on digits that it has never seen. Then we train a reader,
# one linear layer, to name the digit from **the step alone**, all pixels $\pm 1$, the image itself withheld.


# %%
def train(model, x, y, steps, *, rate=2e-3, batch=64, seed=0):
    """Plain training, some number of steps."""
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        rows = torch.randperm(len(x), generator=draw)[:batch]
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def signs(model, x, label):
    """The direction of FGSM for these labels: plus one, minus one, or zero."""
    x = x.clone().requires_grad_()
    loss = F.cross_entropy(model(x), label, reduction="sum")
    return torch.autograd.grad(loss, x)[0].sign()


def reads(seen, label, new):
    """How many test digits a linear reader names, when it is shown steps alone."""
    reader = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    train(reader, seen, label, 300, rate=1e-3, batch=128)
    return accuracy(reader, new, test_y)


weak = train(digit_network(), train_x[:60], train_y[:60], 120)
other_x, other_y = train_x[4000:], train_y[4000:]  # digits that it has not seen
shown, asked = signs(weak, other_x, other_y), signs(weak, test_x, test_y)
told = reads(shown, other_y, asked)
guess, test_guess = weak(other_x).argmax(1), weak(test_x).argmax(1)
shown, asked = signs(weak, other_x, guess), signs(weak, test_x, test_guess)
untold = reads(shown, other_y, asked)
knows = accuracy(weak, test_x, test_y)
print(f"the weak model, from the image:              {knows:.1%}")
print(f"the reader, from steps with the true label:  {told:.1%}")
print(f"the reader, from steps with the model's own: {untold:.1%}")
assert knows < 0.75
assert told > 0.95
assert untold < knows + 0.05

# %% [markdown]
# The weak model reads six digits of ten. Its FGSM steps, made with the true label, can be read almost without error:
# the perturbation *is* the label, written in pixels. Made with the model's own guess, they tell no more than the model
# knew.
#
# Why care? Train a model on such examples, and it may learn to read the perturbation rather than the digit. Kurakin,
# Goodfellow and Bengio (2017) saw models with a *higher* accuracy on FGSM examples than on clean images, and named it
# **label leaking**. The remedies: make training examples with the model's own guess, or with a random target class, or,
# better, with an attack whose steps are not such a simple function of the label.
#
# ## Failure one: the gradient that is exactly zero
#
# Take our network and multiply its logits by a thousand. Not one decision changes, so not one adversarial example
# appears or disappears. Now attack.


# %%
class Scaled(nn.Module):
    """The same decisions, with louder logits."""

    def __init__(self, model, factor):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x):
        return self.factor * self.model(x)


loud = Scaled(model, 1000.0)
assert torch.equal(loud(x).argmax(1), model(x).argmax(1))
for name, network in (("the network", model), ("times 1000", loud)):
    print(f"{name}: {standing(network, FGSM(), 0.15) / n:.1%} stand against FGSM")

# %% [markdown]
# A miraculous defence. Look at the formula. The gradient of the cross-entropy in the logits is
#
# $$ \frac{\partial L}{\partial z_j} = \operatorname{softmax}(z)_j - [j = y] , $$
#
# and with a lead of several thousand the softmax is, in 32-bit numbers, *exactly* one for the true class and *exactly*
# zero for the rest: $e^{-104}$ is less than the smallest positive number there is. The gradient is not small, it is
# $0$, its sign is $0$, and FGSM stands still.
#
# The trouble starts long before that. Numbers just below one are $6 \cdot 10^{-8}$ apart, so a lead of 18 is enough for
# $\operatorname{softmax}(z)_y$ to round to one. Then the true class drops out of the gradient, $1 - 1 = 0$, while the
# rest is still there, as small as it likes (a sign does not care). FGSM goes on and pushes the other classes up, half
# blind: it has forgotten which one to push down.
#
# The cure is to ask for something that does not saturate. The **margin** is a difference of logits, with no exponential
# in it. Or keep the cross-entropy, and divide the logits by their own lead first, as Yu and Xu (2023) propose:
# `scaled_cross_entropy`. Both are a word to the attack.

# %%
from sparring.explain import line, saliency
from sparring.losses import cross_entropy, margin, scaled_cross_entropy

factors = [1, 3, 10, 30, 100, 300, 1000]
ask = {
    "cross-entropy": cross_entropy,
    "scaled cross-entropy": scaled_cross_entropy,
    "margin": margin,
}
stands, dead, blind = {name: [] for name in ask}, [], []
for factor in factors:
    scaled = Scaled(model, factor)
    slope = saliency(scaled, x, y, cross_entropy)
    sure = scaled(x).softmax(1).gather(1, y[:, None])
    dead.append(share((slope.flatten(1) == 0).all(1)))
    blind.append(share(sure == 1))
    for name, loss in ask.items():
        stands[name].append(standing(scaled, FGSM(loss), 0.15) / n)

assert dead[0] == dead[1] == 0
assert blind[1] > blind[0] + 0.5  # a factor of three: no zeros yet, but half blind
assert stands["cross-entropy"][1] > stands["cross-entropy"][0] + 0.1
assert dead[-1] > 0.9
assert stands["cross-entropy"][-1] > 0.9
for name in ("margin", "scaled cross-entropy"):  # these do not notice the factor
    assert max(stands[name]) - min(stands[name]) < 0.05

# %% tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.7))
grey, purple = figures.PALETTE[8], figures.PALETTE[4]
left.plot(factors, blind, "v--", color=grey, label="the true class has dropped out")
left.plot(factors, dead, "o-", color=red, label="every pixel's gradient is zero")
left.set(ylabel="share of digits", title="what rounding does to the gradient")
styles = ((red, "o"), (blue, "s"), (purple, "^"))
for (name, shares), (colour, marker) in zip(stands.items(), styles, strict=True):
    right.plot(factors, shares, color=colour, marker=marker, label=name)
right.set(
    ylabel="accuracy under FGSM", title="same decisions, three losses, ε = 0.15"
)
for ax in (left, right):
    ax.set(xscale="log", ylim=(-0.03, 1.03), xlabel="factor on the logits")
    ax.legend(frameon=False)
    figures.bare(ax)
keep("02_saturated")

# %% [markdown]
# This is the simplest case of **gradient masking**: the model is as weak as ever, and the attack's instrument is
# broken. Nobody multiplies by a thousand on purpose, but training does something like it (a confident network is one
# with loud logits), and so do temperatures, distillation and low precision. The check costs one backward pass: count
# the inputs whose gradient is exactly zero, *before* you believe any accuracy. This library does so in every
# evaluation.
#
# ## Failure two: the gradient that points the wrong way
#
# The second failure is subtler, because no number is zero. We train a network *against FGSM*: to every batch we
# add its own FGSM examples. That is adversarial training in its oldest form, and quick to write.

# %%
eps = 0.3


def harden(model, steps):
    """Train on clean digits and on their FGSM examples, half and half."""
    draw = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(steps):
        rows = torch.randint(0, len(train_x), (64,), generator=draw)
        clean, label = train_x[rows], train_y[rows]
        both = torch.cat([clean, fgsm(model, clean, label, eps)])
        optimizer.zero_grad()
        F.cross_entropy(model(both), label.repeat(2)).backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


hardened = harden(digit_classifier().requires_grad_(), 500 if FAST else 800)
attacks = {
    "FGSM": FGSM(),
    "R-FGSM": RFGSM(),
    "BIM, 10 steps": BIM(10),
    "PGD, 20 steps": PGD(20),
}
networks = {"usual training": model, "trained against FGSM": hardened}
stood, walks = {}, {}
for who, network in networks.items():
    stood[who] = {"clean": accuracy(network, x, y)}
    for name, attack in attacks.items():
        last = attack.perturb(network, x, y, Linf(eps), seed=0)
        stood[who][name] = accuracy(network, last, y)
    print(f"{who}:", ", ".join(f"{a} {s:.0%}" for a, s in stood[who].items()))
    direction = signs(network, x, y)
    walks[who] = line(network, x, direction, reach=(0, eps), box=(0, 1))

usual, trained = stood.values()
assert trained["clean"] > 0.93
assert trained["FGSM"] > usual["FGSM"] + 0.4  # a great success …
assert trained["R-FGSM"] < trained["FGSM"] - 0.3  # … until a random step
assert trained["PGD, 20 steps"] < 0.05  # … or many small steps
down, back = (walk.margin(y).median(0).values for walk in walks.values())
assert down.min() == down[-1]  # the usual margin goes down and stays down
assert back.min() < back[-1] - 0.1  # the trained one comes back up

# %% tags=["hide-input"]
figure, (left, right) = plt.subplots(
    1, 2, figsize=(10.5, 3.8), width_ratios=[1.1, 1]
)
places = np.arange(len(usual))
for who, colour, offset in zip(networks, (blue, orange), (-0.2, 0.2), strict=True):
    heights = list(stood[who].values())
    bars = left.bar(places + offset, heights, width=0.38, color=colour, label=who)
    left.bar_label(bars, [f"{100 * h:.0f}" for h in heights], fontsize=8, padding=2)
    figures.profile(right, walks[who], y, name=who, colour=colour)
left.set_xticks(places, [name.replace(", ", "\n") for name in usual], fontsize=9)
left.set(ylabel="accuracy", ylim=(0, 1.22), yticks=[0, 0.5, 1])
left.set_title(f"digits read rightly at ε = {eps}")
left.legend(frameon=False, ncols=2, loc="upper right")
right.axhline(0, color="black", linewidth=1)
right.set(xlabel="length of the FGSM step", ylabel="margin (logits)")
right.set_title("margin along the step: median and middle half")
right.legend(frameon=False)
for ax in (left, right):
    figures.bare(ax)
keep("02_masked")

# %% [markdown]
# On the left, orange: against the attack that it was trained on, the network looks strong. One random step before the
# gradient step, and it falls; twenty small steps, and nothing is left. On the right is how it did that. Walk along the
# FGSM direction: the margin of the usual network (blue) falls and stays down. The margin of the trained one (orange)
# falls at first as well, and comes back up before the step ends. Training was asked to make the loss small at one
# point, at distance 0.3 in the gradient's direction, and it found the cheapest way: **bend the loss near the data**, so
# that the gradient at $x$ says nothing about the end of the step. The adversarial examples are all still
# there. Wong, Rice and Kolter (2020) call this collapse *catastrophic overfitting*.
#
# ## A random step first
#
# If the trouble is a bend right at $x$, do not take the gradient at $x$. **R-FGSM** (Tramèr and others 2018) moves to a
# random corner of a smaller ball, and takes what is left of $\varepsilon$ as a gradient step from there:
#
# $$
# x' = x + \alpha \operatorname{sign}(\mathcal N(0, I)), \qquad
# x'' = x' + (\varepsilon - \alpha)\operatorname{sign}\big(\nabla_{x'} L(f(x'), y)\big) ,
# \qquad \alpha = \varepsilon/2 .
# $$
#
# For an honest model it is the weaker attack, because half the budget went on a random direction, and you know from
# chapter 1 what that is worth. For a masked one it is much the stronger. That difference is itself an instrument:
# *when the weaker attack wins, suspect the gradient.*

# %%
honest = {
    name: accuracy(model, attack.perturb(model, x, y, Linf(0.1), seed=0), y)
    for name, attack in attacks.items()
}
for who, left_over in (("honest, ε = 0.1", honest), ("masked, ε = 0.3", trained)):
    print(f"{who}: FGSM leaves {left_over['FGSM']:.1%}", end=", ")
    print(f"R-FGSM {left_over['R-FGSM']:.1%}")
assert honest["R-FGSM"] > honest["FGSM"]
assert trained["R-FGSM"] < trained["FGSM"]

# %% [markdown]
# ## From one step to many
#
# The linear picture holds near the point where the gradient was taken. So take a short step, look again, and repeat;
# after each step go back into the ball and the box. From the clean image that is the **basic iterative method** (BIM,
# Kurakin, Goodfellow and Bengio 2016); from a random point of the ball it is **projected gradient descent** (PGD, Mądry
# and others 2018), the attack of the next chapter. The loop is short:
#
# $$
# \delta_{t+1} = \Pi_{\|\delta\| \le \varepsilon,\ x + \delta \in [0,1]^d}
# \big( \delta_t + \alpha \operatorname{sign} \nabla_\delta L(f(x + \delta_t), y) \big) .
# $$

# %%
counts = [1, 2, 3, 5, 10, 20]


def after(network, steps, eps):
    """The accuracy after that many steps from the clean image."""
    return standing(network, BIM(steps, rate=1.0 if steps == 1 else 2.5), eps) / n


runs = {
    "usual training, ε = 0.1": [after(model, steps, 0.1) for steps in counts],
    "trained against FGSM, ε = 0.3": [
        after(hardened, steps, 0.3) for steps in counts
    ],
}
for who, shares in runs.items():
    told = (
        f"{steps}: {share:.0%}" for steps, share in zip(counts, shares, strict=True)
    )
    print(f"{who}, accuracy after steps", ", ".join(told))
    assert shares[-1] < shares[0] - 0.15

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 3.8))
for (who, shares), colour, marker in zip(
    runs.items(), (blue, orange), "os", strict=True
):
    ax.plot(counts, shares, color=colour, marker=marker, label=who)
ax.set(xscale="log", ylim=(-0.02, 1.02), ylabel="accuracy")
ax.set(xlabel="gradient steps (each costs one forward and one backward)")
ax.set_title("the same budget, more looks at the gradient")
ax.set_xticks(counts, counts)
ax.set_xticks([], minor=True)
ax.legend(frameon=False)
figures.bare(ax)
keep("02_steps")

# %% [markdown]
# ## What to keep
#
# 1. FGSM is the exact answer to the linearised problem; the sign is what $L_\infty$ makes of a gradient.
# 2. Accuracy under attack is an upper bound on robustness. Show a curve, with an interval, and more than one attack.
# 3. The perturbation carries the label it was made with.
# 4. A model that FGSM cannot break may be robust, or saturated, or bent. Count zero gradients; compare with a random
#    start; take more steps.
#
# ## Exercises
#
# 1. *Wrong way round.* Make FGSM **targeted**: step so that the loss of a chosen class falls. How many digits can you
#    turn into a 3 at $\varepsilon = 0.2$ in one step, and how many in twenty? Use `Targeted(3)`.
# 2. *No label, no leak.* Attack with the model's own guess instead of the true label. On which digits can the result
#    differ, and why does it not matter for the attack's success?
# 3. *Your own masking.* Round the input to a few grey levels inside a model: `torch.round(x * 7) / 7`. What does
#    FGSM report, and which of the instruments of this chapter gives it away?
#
# Solutions follow.

# %% tags=["hide-cell"]
# Solution 1: harder than "anything else"; twenty steps do better than one.
from sparring.goals import Targeted
from sparring.threat import ThreatModel

three = ThreatModel(Linf(0.2), goal=Targeted(3))
rest = y != 3
once = share(FGSM()(model, x[rest], y[rest], three).success)
often = share(PGD(20)(model, x[rest], y[rest], three).success)
print(f"turned into a 3: {once:.1%} in one step, {often:.1%} in twenty")
assert once < share(FGSM()(model, x[rest], y[rest], Linf(0.2)).success)
assert once < often

# %% tags=["hide-cell"]
# Solution 2: they differ only where the guess is wrong, and there nothing is left to do.
guess = model(x).argmax(1)
borrowed = fgsm(model, x, guess, 0.1)
assert torch.equal(attacked[guess == y], borrowed[guess == y])


# %% tags=["hide-cell"]
# Solution 3: rounding has a gradient of zero everywhere, and the zero count says so at once. The adversarial examples
# of the network without the rounding still work on the rounded one: the defence hid the gradient, not the examples.
class Rounded(nn.Module):
    """Eight grey levels, then the network."""

    def forward(self, x):
        return model(torch.round(x * 7) / 7)


rounded = Rounded()
zero = share((saliency(rounded, x, y).flatten(1) == 0).all(1))
direct = accuracy(rounded, fgsm(rounded, x, y, 0.15), y)
borrowed = accuracy(rounded, fgsm(model, x, y, 0.15), y)
print(f"zero gradients: {zero:.0%}; FGSM leaves {direct:.1%}", end=", ")
print(f"FGSM of the network inside leaves {borrowed:.1%}")
assert zero == 1
assert direct > 0.9
assert borrowed < 0.4

# %% [markdown]
# ## Further reading
#
# - I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and harnessing adversarial examples*, ICLR 2015,
#   [arXiv:1412.6572](https://arxiv.org/abs/1412.6572). Section 4 is FGSM.
# - A. Kurakin, I. Goodfellow, S. Bengio, *Adversarial examples in the physical world*, 2016,
#   [arXiv:1607.02533](https://arxiv.org/abs/1607.02533). Section 2.2 is BIM.
# - A. Kurakin, I. Goodfellow, S. Bengio, *Adversarial machine learning at scale*, ICLR 2017,
#   [arXiv:1611.01236](https://arxiv.org/abs/1611.01236). Label leaking, and one-step training at scale.
# - F. Tramèr, A. Kurakin, N. Papernot, I. Goodfellow, D. Boneh, P. McDaniel, *Ensemble adversarial training: attacks
#   and defenses*, ICLR 2018, [arXiv:1705.07204](https://arxiv.org/abs/1705.07204). Why one-step training degenerates;
#   R-FGSM.
# - A. Mądry, A. Makelov, L. Schmidt, D. Tsipras, A. Vladu, *Towards deep learning models resistant to adversarial
#   attacks*, ICLR 2018, [arXiv:1706.06083](https://arxiv.org/abs/1706.06083). PGD.
# - A. Athalye, N. Carlini, D. Wagner, *Obfuscated gradients give a false sense of security*, ICML 2018,
#   [arXiv:1802.00420](https://arxiv.org/abs/1802.00420). The field guide to masked gradients.
# - E. Wong, L. Rice, J. Z. Kolter, *Fast is better than free: revisiting adversarial training*, ICLR 2020,
#   [arXiv:2001.03994](https://arxiv.org/abs/2001.03994). Catastrophic overfitting, and how a random start delays it.
# - M. Andriushchenko, N. Flammarion, *Understanding and improving fast adversarial training*, NeurIPS 2020,
#   [arXiv:2007.02617](https://arxiv.org/abs/2007.02617).
# - Y. Yu, C.-Z. Xu, *Efficient loss function by minimizing the detrimental effect of floating-point errors on
#   gradient-based attacks*, CVPR 2023.
# - C. J. Clopper, E. S. Pearson, *The use of confidence or fiducial limits illustrated in the case of the binomial*,
#   Biometrika 26(4), 1934.
