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
# # 1. Adversarial examples
#
# You can train a network in PyTorch. In this chapter you break one, and then find out why it broke. At the end you
# will know
#
# - what an adversarial example is, from one that you make yourself;
# - the problem behind it, written down: a smallest change, inside a box;
# - the four rulers that measure a change ($L_0$, $L_1$, $L_2$, $L_\infty$), and how different the same size looks in
#   each;
# - why a gradient finds what thousands of random tries do not, and what the number of pixels has to do with it;
# - how a network that fits its training labels too hard brings its own boundary near;
# - what an attacker may see, and why that belongs in the question and not in the answer.
#
# Every figure is drawn by the code above it, and every claim that could be wrong is followed by an `assert`. The
# whole file runs in about a minute: `python docs/course/01_adversarial_examples.py`.

# %% tags=["hide-input"]
import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import Polygon, Rectangle
from torch import nn

from sparring.explain.course import chapter

# FAST: fewer samples, for the tests; keep: saves the current figure under a name
FAST, keep = chapter(globals().get("__file__", ""))

# %% [markdown]
# ## A first one, in ten lines
#
# We take a small convolutional network that reads handwritten digits. It was trained in the usual way, it is right on
# 98 % of digits that it has never seen, and it comes with the package. Then we ask PyTorch a question that training
# never asks. Training wants to know how the loss changes with each *weight*. We want to know how it changes with each
# *pixel*.

# %%
from sparring.samples import digit_classifier, digits

model = digit_classifier()
train_x, train_y, test_x, test_y = digits()
chosen = [7, 5, 4, 8]
x, y = test_x[chosen], test_y[chosen]

pixels = x.clone().requires_grad_()
F.cross_entropy(model(pixels), y, reduction="sum").backward()
step = 0.1 * pixels.grad.sign()  # up or down, by a tenth of black to white
x_adv = (x + step).clamp(0, 1)  # and no blacker than black, no whiter than white

print("labels      ", y.tolist())
print("clean       ", model(x).argmax(1).tolist())
print("perturbed   ", model(x_adv).argmax(1).tolist())
assert (model(x).argmax(1) == y).all()
assert (model(x_adv).argmax(1) != y).all()

# %%
from sparring.explain import figures


def verdicts(x):
    """What the model reads, and how sure it says it is."""
    sure, label = model(x).softmax(1).max(1)
    pairs = zip(label.tolist(), sure.tolist(), strict=True)
    return [f"reads {c}, {100 * p:.0f} % sure" for c, p in pairs]


canvas = plt.figure(figsize=(5.4, 7.6))
figures.triptych(canvas, x, x_adv, before=verdicts(x), after=verdicts(x_adv))
keep("01_first")

# %% [markdown]
# (In the difference, orange is brighter and blue is darker.) Look at the middle column. You would read those digits
# without hesitation, a little grey dirt and all. The network reads something else, and says that it is sure. That is
# an **adversarial example**: an input that someone has changed *on purpose*, too little to change what it shows, and
# enough to change what the model says.
#
# Your first objection should be: noise is noise, any dirt would have done that. So let us throw dirt. The same size,
# one tenth up or down at every pixel, with the signs drawn at random, a thousand times for each digit.

# %%
generator = torch.Generator().manual_seed(0)


def random_signs(like):
    """Plus or minus one at every pixel."""
    return torch.randint(0, 2, like.shape, generator=generator).to(like) * 2 - 1


def share(these):
    """How many of them, from 0 to 1."""
    return these.float().mean().item()


tries = 200 if FAST else 1000
for digit, label in zip(x, y, strict=True):
    many = digit.expand(tries, -1, -1, -1)
    dirty = (many + 0.1 * random_signs(many)).clamp(0, 1)
    fooled = int((model(dirty).argmax(1) != label).sum())
    print(f"the {label}: {fooled} of {tries} random tries fool the network")
    assert fooled == 0

# %% [markdown]
# Not one. What fools the network is not the size of the change but its **direction**, and the gradient knows the
# direction. This is the first thing to keep: *robustness to noise says nothing about robustness to an adversary*. Here
# is the same on many digits.

# %%
n = 300 if FAST else 1000
X, Y = test_x[:n], test_y[:n]


def accuracy(model, x, y):
    """The share that the model reads rightly."""
    with torch.no_grad():
        return share(model(x).argmax(1) == y)


pixels = X.clone().requires_grad_()
F.cross_entropy(model(pixels), Y, reduction="sum").backward()
sign = pixels.grad.sign()
clean = accuracy(model, X, Y)
noisy = accuracy(model, (X + 0.1 * random_signs(X)).clamp(0, 1), Y)
attacked = accuracy(model, (X + 0.1 * sign).clamp(0, 1), Y)
print(f"accuracy on {n} digits, clean:       {clean:.1%}")
print(f"after 0.1 with random signs:     {noisy:.1%}")
print(f"after 0.1 with gradient's signs: {attacked:.1%}")
assert clean > 0.97
assert noisy > 0.93
assert attacked < 0.4

# %% [markdown]
# ## The problem, written down
#
# Let $f$ map an image $x \in [0,1]^d$ to logits $z = f(x)$, one a class, and let $y$ be the true class. We look for a
# perturbation $\delta$. As Szegedy and others first wrote it in 2013, we want the smallest one that works:
#
# $$
# \min\limits_{\delta} \ \|\delta\| \qquad \text{such that} \qquad
# \underbrace{\operatorname{argmax}_j f_j(x+\delta) \neq y}_{\text{the model is wrong}}
# \qquad \text{and} \qquad \underbrace{x+\delta \in [0,1]^d}_{\text{it is still an image}} .
# $$
#
# The last condition is the **box**. A pixel has a blackest black and a whitest white; an "image" with a pixel at 1.1
# cannot be stored, sent or seen, and an attack that needs one has proved nothing.
#
# Often the size is fixed beforehand, and we ask whether it is enough. With a loss $L$ that is high where the model is
# wrong:
#
# $$
# \max\limits_{\delta} \ L\big(f(x+\delta),\, y\big) \qquad \text{such that} \qquad
# \|\delta\| \le \varepsilon \quad\text{and}\quad x+\delta \in [0,1]^d .
# $$
#
# The first question has a *distance* as its answer, the second a *yes or no*. They are two views of one thing: the
# smallest $\varepsilon$ for which the second answers yes is the answer of the first.
#
# How wrong is the model? We read that from the **margin**, the lead of the true class over the best other one,
#
# $$ m(x) = z_y - \max\limits_{j \neq y} z_j , $$
#
# which is negative exactly when the model is wrong. The set where it is zero is the **decision boundary**.
#
# In this library a question is a *space*, such as `Linf(0.1)`, and an attack is something that you call on a model, a
# batch and a question. The answer comes back as a `Result`, one row a sample, and its `success` is not what the attack
# believes, but what the model said when it was asked once more.

# %%
from sparring.attacks import PGD
from sparring.goals import lead
from sparring.spaces import L0, L1, L2, Linf

result = PGD(steps=20)(model, X[:200], Y[:200], Linf(0.1), seed=0)
right = model(X[:200]).argmax(1) == Y[:200]
print(f"{share(right):.1%} right before, {share(~result.success):.1%} after")

assert result.x.min() >= 0  # in the box
assert result.x.max() <= 1
assert (result.distance[result.success] <= 0.1 * (1 + 1e-6)).all()  # in the ball
lost = lead(model(result.x), Y[:200]) < 0
assert lost[result.success].all()  # wrong, by the model's own word
assert share(~result.success) < attacked  # twenty steps do more than one: chapter 2

# %% [markdown]
# What does the box cost the attacker? Most of a digit is perfectly black, and a sign that points below black buys
# nothing there.

# %%
outside = accuracy(model, X + 0.1 * sign, Y)
beyond = (X + 0.1 * sign < 0) | (X + 0.1 * sign > 1)
print(f"{share(beyond):.0%} of all pixel changes leave the box")
print(f"accuracy {outside:.1%} if they might, {attacked:.1%} if they may not")
assert share(beyond) > 0.2
assert outside < attacked

# %% [markdown]
# To answer the first question, for the smallest change, we can bisect on the second: halve the interval that the
# answer lies in. An `eps` may hold one number for each sample, so that every digit has an interval of its own and all
# move together. (Chapters to come have attacks that go straight for the smallest change. Bisection is enough for now.)


# %%
def smallest(model, x, y, space, highest, attack, rounds=9):
    """The least eps at which the attack succeeds, and the input it found there."""
    low, high = torch.zeros(len(x)), torch.full((len(x),), highest)
    best = x.clone()
    for _ in range(rounds):
        eps = (low + high) / 2
        result = attack(model, x, y, space(eps))
        won = result.success
        best = torch.where(won[:, None, None, None], result.x, best)
        low, high = torch.where(won, low, eps), torch.where(won, eps, high)
    return high, best


from sparring.losses import margin

search = PGD(steps=20, loss=margin, random_start=False)
few = slice(0, 60 if FAST else 200)
radius, nearest = smallest(model, X[few], Y[few], Linf, 0.5, search)
print(f"half of all digits are misread within {radius.median():.3f} (Linf)")
assert 0.05 < radius.median() < 0.1

# %% [markdown]
# ## Four rulers
#
# "Small" needs a ruler. Four are in use, and each is a different idea of what a small change is.
#
# | | formula | in words | small means |
# |---|---|---|---|
# | $L_0$ | $\#\{i : \delta_i \neq 0\}$ | how many pixels change | a few pixels, by any amount |
# | $L_1$ | $\sum_i \lvert\delta_i\rvert$ | all changes added up | little ink in all |
# | $L_2$ | $\sqrt{\sum_i \delta_i^2}$ | the straight-line length | little energy |
# | $L_\infty$ | $\max_i \lvert\delta_i\rvert$ | the largest single change | every pixel nearly as it was |
#
# (Strictly, $L_0$ is no norm: doubling $\delta$ does not double it. Everyone calls it one.) In a colour image the
# $L_0$ of this library counts *pixels*: a place whose red, green and blue all change counts once.
#
# By hand, for a picture of four pixels with $\delta = (0.3, -0.4, 0, 0)$: two pixels change; $0.3 + 0.4 = 0.7$;
# $\sqrt{0.09 + 0.16} = 0.5$; the largest is $0.4$.

# %%
from sparring.geometry import norm

hand = torch.tensor([[0.3, -0.4, 0.0, 0.0]])
for p, expected in ((0, 2.0), (1, 0.7), (2, 0.5), (math.inf, 0.4)):
    assert math.isclose(norm(hand, p).item(), expected, rel_tol=1e-6)

# %% [markdown]
# A ruler is best understood by its **ball**: all changes of size at most $\varepsilon$. In two dimensions, with two
# pixels on the axes, one can draw them. The grey square is the box, seen from a point $x$ that lies near a corner of
# it: what the attacker may really use is the coloured part *inside* the grey.

# %% tags=["hide-input"]
spot, eps = np.array([0.3, 0.62]), 0.5
turn = np.linspace(0, 2 * math.pi, 200)
shapes = {
    "$L_0 \\leq 1$": None,
    "$L_1 \\leq 0.5$": np.array([[1, 0], [0, 1], [-1, 0], [0, -1]]),
    "$L_2 \\leq 0.5$": np.stack([np.cos(turn), np.sin(turn)], 1),
    "$L_\\infty \\leq 0.5$": np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]),
}
figure, axes = plt.subplots(1, 4, figsize=(10.5, 3.2), sharey=True)
colours = [figures.PALETTE[i] for i in (0, 1, 2, 4)]
for ax, (name, corners), colour in zip(axes, shapes.items(), colours, strict=True):
    box = ax.add_patch(Rectangle((0, 0), 1, 1, fc="#e9eaed", ec="#9aa0a8"))
    if corners is None:
        wide = [-0.3, 1.3]
        for across, up in ((wide, [spot[1]] * 2), ([spot[0]] * 2, wide)):
            ax.plot(across, up, color=colour, alpha=0.35, linewidth=3)
            ax.plot(
                np.clip(across, 0, 1), np.clip(up, 0, 1), color=colour, linewidth=3
            )
    else:
        corners = spot + eps * corners
        ax.add_patch(Polygon(corners, fc="none", ec=colour, linestyle="--"))
        inside = ax.add_patch(Polygon(corners, facecolor=colour, alpha=0.75))
        inside.set_clip_path(box)
    ax.plot(*spot, "o", color="black", markersize=5)
    ax.annotate("$x$", spot, (5, 5), textcoords="offset points", fontsize=12)
    ax.set(title=name, xlim=(-0.35, 1.35), ylim=(-0.35, 1.35), aspect="equal")
    ax.set(xticks=[0, 1], yticks=[0, 1], xlabel="first pixel")
    figures.bare(ax)
axes[0].set_ylabel("second pixel")
keep("01_balls")

# %% [markdown]
# The diamond lies in the circle and the circle in the square, always:
#
# $$
# \|\delta\|_\infty \le \|\delta\|_2 \le \|\delta\|_1 \le \sqrt{d}\,\|\delta\|_2 \le d\,\|\delta\|_\infty .
# $$
#
# In the plane they look alike. In $d = 784$ dimensions they do not: the corner of the square is $\sqrt{784} = 28$ times
# as far from the centre as the middle of its side. So a number such as "0.1" means nothing without its ruler. Here is
# the one perturbation that we made of the seven, in all four:

# %%
delta = (x_adv - x)[:1]
for name, p in (("L0", 0), ("L1", 1), ("L2", 2), ("Linf", math.inf)):
    print(f"{name:>4} of the same change: {norm(delta, p).item():8.2f}")
sizes = [norm(delta, p).item() for p in (math.inf, 2, 1)]
d = delta.numel()
assert sizes[0] <= sizes[1] <= sizes[2] <= math.sqrt(d) * sizes[1] <= d * sizes[0]

# %% [markdown]
# And here is the same seven, attacked four times, each time with the smallest change that we can find *by that ruler*.
# Read the table under the figure by rows. Each attack is small by its own ruler, and large by some other.

# %%
rulers = {
    "L0": (L0, 0, 100.0),
    "L1": (L1, 1, 60.0),
    "L2": (L2, 2, 6.0),
    "Linf": (Linf, math.inf, 0.5),
}
seven, label = x[:1], y[:1]
slow = PGD(steps=20 if FAST else 40, loss=margin, random_start=False)
figure, axes = plt.subplots(2, 4, figsize=(8.6, 4.9))
table = {}
for column, (name, (space, p, highest)) in zip(axes.T, rulers.items(), strict=True):
    _, found = smallest(model, seven, label, space, highest, slow, rounds=12)
    delta = found - seven
    table[name] = [norm(delta, q).item() for _, q, _ in rulers.values()]
    size = f"{name} = {norm(delta, p).item():.3g}"
    told = verdicts(found)[0]
    figures.picture(column[0], found[0], f"smallest {name}", below=told)
    figures.difference(column[1], delta[0], below=size)
    assert model(found).argmax(1) != label
keep("01_four_rulers")

print("attack       " + "".join(f"{name:>9}" for name in rulers))
for name, row in table.items():
    print(f"smallest {name:<4}" + "".join(f"{value:9.3f}" for value in row))
for i, name in enumerate(rulers):  # each wins by its own ruler
    assert table[name][i] == min(row[i] for row in table.values())

# %% [markdown]
# Which ruler is the right one? That depends on what you want to keep the same. $L_\infty$ is the usual stand-in for
# "no one would notice", $L_0$ fits scratches and stuck pixels, $L_2$ is what noise and compression do. None of them is
# what a person sees. Move every digit one pixel to the right, and the change is huge by all four rulers; no person
# minds, and neither does the network.

# %%
moved = torch.roll(X, 1, dims=-1)
far = norm(moved - X, 2).median()
print(f"L2 {far:.1f} (median), accuracy {accuracy(model, moved, Y):.1%}")
assert far > 3 * table["L2"][2]
assert accuracy(model, moved, Y) > 0.95

# %% [markdown]
# The rulers are a floor, not a ceiling: a model that fails inside a tiny ball is not robust by anyone's measure, and
# one that does not may still fail outside.
#
# ## Why small changes are enough: add up many
#
# Take the simplest model there is, a linear score $s(x) = w^\top x + b$. A change moves it by $w^\top \delta$. If no
# pixel may move by more than $\varepsilon$, the best that an attacker can do is to give every pixel the sign that
# counts against the score:
#
# $$
# \delta = -\varepsilon\,\operatorname{sign}(w)
# \qquad\Longrightarrow\qquad
# \Delta = w^\top\delta = -\varepsilon \sum_i |w_i| = -\varepsilon\,\|w\|_1 .
# $$
#
# The random change $\delta = \varepsilon r$ with $r_i = \pm 1$ moves it as well, but its terms have random signs, and
# cancel: the sum has mean zero and standard deviation $\varepsilon \|w\|_2$. Now count. If the weights are alike in
# size, then
#
# $$
# \frac{\text{worst change}}{\text{random change}} \approx \frac{\|w\|_1}{\|w\|_2} \approx \sqrt{\tfrac{2}{\pi} d} ,
# $$
#
# (the factor $2/\pi$ is that of Gaussian weights). **The attacker's advantage over noise grows with the square root of
# the number of pixels.** With 784 of them it is about 22, with the 150,528 numbers of an ImageNet image about 310.
# Every single pixel changes by an amount too small to see; all of them agree; and that is what a random change does
# not do. This is the linear explanation of Goodfellow, Shlens and Szegedy (2015).
#
# We measure it twice. On the left, random weights, drawn so that the score of a typical image keeps its size in every
# dimension. On the right the real thing: a linear classifier trained on the same digits at 7 × 7, 14 × 14, 28 × 28 and
# 56 × 56 pixels, and by how much its margin falls.

# %%
eps, dimensions = 0.1, [16, 64, 256, 1024, 4096, 16384]
worst, random = [], []
for d in dimensions:
    w = torch.randn(100, d, generator=generator) / math.sqrt(d)
    worst.append(eps * w.abs().sum(1).mean().item())
    random.append((eps * (w * random_signs(w)).sum(1)).std().item())
for d, a, b in zip(dimensions, worst, random, strict=True):
    assert math.isclose(a / b, math.sqrt(2 * d / math.pi), rel_tol=0.25)


def train(build, x, y, steps, *, rate=2e-3, batch=64):
    """Plain training of a fresh network, some number of steps."""
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    for _ in range(steps):
        rows = torch.randperm(len(x))[:batch]
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def resized(x, side):
    """Averages of pixels below 28, repeated pixels above."""
    return F.interpolate(x, (side, side), mode="area" if side <= 28 else "nearest")


def flat(side):
    """A linear classifier of square images."""
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, 10))


sides = [7, 14, 28] if FAST else [7, 14, 28, 56]
seen = train_x[: 2000 if FAST else None]
fall, noise, start = [], [], []
for side in sides:
    small = resized(X, side)
    steps = 200 if FAST else 900
    linear = train(partial(flat, side), resized(seen, side), train_y, steps)
    pixels = small.clone().requires_grad_()
    before = lead(linear(pixels), Y)
    (gradient,) = torch.autograd.grad(before.sum(), pixels)
    worse = lead(linear(small - eps * gradient.sign()), Y)
    other = lead(linear(small + eps * random_signs(small)), Y)
    start.append(before.mean().item())
    fall.append((before - worse).mean().item())
    noise.append((before - other).abs().mean().item())
    told = f"margin {start[-1]:.2f}, fall {fall[-1]:.2f}, by noise {noise[-1]:.2f}"
    print(f"{side:2} × {side:2}: {accuracy(linear, small, Y):.0%} right, {told}")

advantage = [a / b for a, b in zip(fall, noise, strict=True)]
assert all(b > 1.4 * a for a, b in pairwise(advantage))  # grows with every doubling
assert max(noise) < 2 * min(noise)  # noise does no more harm to large images

# %% tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9))
theory = [eps * math.sqrt(2 * d / math.pi) for d in dimensions]
red, blue = figures.PALETTE[2], figures.PALETTE[0]
left.plot(dimensions, theory, "--", color="black", linewidth=1, label="ε√(2d/π)")
left.plot(dimensions, worst, "o", color=red, label="worst change, ε‖w‖₁")
left.plot(dimensions, random, "s", color=blue, label="random change")
left.set(xlabel="number of pixels d", ylabel="change of the score")
left.set_title("random linear scores, ε = 0.1")
areas = [side * side for side in sides]
right.plot(areas, fall, "o-", color=red, label="fall, gradient's signs")
right.plot(areas, noise, "s-", color=blue, label="fall, random signs")
right.plot(areas, start, "^-", color="#555555", label="clean margin")
right.set(xlabel="number of pixels d", ylabel="logits")
right.set_title("linear classifiers of digits: how far the margin falls, ε = 0.1")
for ax in (left, right):
    ax.set(xscale="log", yscale="log")
    ax.legend(frameon=False)
    figures.bare(ax)
right.set_xticks(areas, [f"{side}²" for side in sides])
right.set_xticks([], minor=True)
keep("01_dimension")

# %% [markdown]
# The attacker's fall doubles, roughly, each time the side doubles, while random noise does as little harm at 56 × 56
# as at 7 × 7. Look at the grey line too, because it keeps us honest: the clean margin of these classifiers grows as
# well. Whether a *trained* model becomes easier to fool with more pixels depends on how both grow, and people have
# argued about it (Simon-Gabriel and others 2019 prove that usual networks do at the start of training, and measure that
# they still do at its end; Shafahi and others 2019 ask what geometry alone forces). What nobody disputes is the gap
# between the red line and the blue one.
#
# ## And networks? The same, to first order
#
# A network is not linear, but near $x$ it nearly is. With the gradient of the margin $g = \nabla_x m(x)$,
#
# $$ m(x+\delta) \approx m(x) + g^\top\delta , \qquad\text{so the sign step takes away about } \varepsilon\,\|g\|_1 . $$
#
# Is that a good guess? Here is the guess and the truth, for our convolutional network. `saliency` is the gradient of
# the margin in the input, as the library names it.

# %%
from sparring.explain import line, orthogonal, plane, saliency

gradient = saliency(model, X, Y)
truth, guess = {}, {}
for eps in (0.01, 0.05):
    guess[eps] = eps * gradient.flatten(1).abs().sum(1)
    truth[eps] = lead(model(X), Y) - lead(model(X - eps * gradient.sign()), Y)
    agreement = torch.corrcoef(torch.stack([guess[eps], truth[eps]]))[0, 1].item()
    medians = f"guess {guess[eps].median():.2f}, truth {truth[eps].median():.2f}"
    print(f"eps {eps}: {medians} (medians), correlation {agreement:.2f}")
assert abs(truth[0.01].median() / guess[0.01].median() - 1) < 0.1
assert truth[0.05].median() < guess[0.05].median()

downhill = line(model, X[few], -gradient.sign()[few], reach=(0, 0.2))
sideways = line(model, X[few], random_signs(X[few]), reach=(0, 0.2))
for name, walk in (("gradient's signs", downhill), ("random signs", sideways)):
    print(f"{name}: {share(walk.crossing(Y[few]).isfinite()):.0%} cross within 0.2")
assert share(downhill.crossing(Y[few]).isfinite()) > 0.9
assert share(sideways.crossing(Y[few]).isfinite()) < 0.2

# %% tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9))
for eps, colour, marker in ((0.01, blue, "o"), (0.05, red, "s")):
    style = {"color": colour, "marker": marker, "label": f"ε = {eps}"}
    left.scatter(
        guess[eps][:300], truth[eps][:300], 12, alpha=0.6, linewidths=0, **style
    )
reach = float(left.get_xlim()[1])
left.plot([0, reach], [0, reach], "--", color="black", linewidth=1)
left.set(xlabel="first-order guess ε‖g‖₁ (logits)", ylabel="true fall")
left.set_title("fall of the margin: guess and truth")
figures.profile(
    right, downhill, Y[few], name="against the gradient's signs", colour=red
)
figures.profile(right, sideways, Y[few], name="random signs", colour=blue)
right.axhline(0, color="black", linewidth=1)
right.annotate(
    "boundary", (0.2, 0), (-4, 4), textcoords="offset points", ha="right"
)
right.set(xlabel="ε", ylabel="margin (logits)")
right.set_title("margin along two directions; the band holds half of all digits")
for ax in (left, right):
    ax.legend(frameon=False)
    figures.bare(ax)
keep("01_first_order")

# %% [markdown]
# For small steps the guess is nearly exact, for larger ones a little too hopeful: the margin bends. On the right, two
# walks away from the same digits, each step as large as the other in $L_\infty$. One meets the boundary soon; the other
# could go on for long. From here on you should never think of "the distance to the boundary" without "in which
# direction".
#
# We can look at that landscape directly. Take the plane through the seven that is spanned by the adversarial direction
# (to the right; 1 is the adversarial input) and a random one of the same length at a right angle to it (upwards), and
# ask the network about every point.

# %%
towards = x_adv[:1] - x[:1]
across = orthogonal(towards, seed=1)
extent, points = (-1.5, 2.5, -2, 2), 41 if FAST else 61
view = plane(model, x[:1], towards, across, extent=extent, resolution=points)

clean_column = view.across.abs().argmin()
assert (view.winner()[0, :, clean_column] == 7).all()  # up and down: always a seven
assert view.winner()[0, points // 2, -1] != 7  # to the right: something else

# %% tags=["hide-input"]
figure = plt.figure(figsize=(12, 3.9))
grid = figure.add_gridspec(1, 3, width_ratios=[1, 1.25, 1.35])
left, middle = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
figures.regions(left, view)
figures.loss_map(middle, view, y[:1])
left.set_title("what the network reads")
middle.set_title("loss of the true label, 7")
for ax in (left, middle):
    ax.plot(0, 0, "o", color="black")
    ax.annotate("clean", (0, 0), (0, 7), textcoords="offset points", ha="center")
    ax.plot(1, 0, "X", color="black", markersize=7)
    ax.annotate("adversarial", (1, 0), (7, -4), textcoords="offset points")
    ax.set(xlabel="adversarial direction", ylabel="random direction")
right = figure.add_subplot(grid[2], projection="3d")
figures.loss_surface(right, view, y[:1])
right.set(xlabel="adversarial", ylabel="random", zlabel="")
right.set_title("the same, as a landscape")
keep("01_landscape")

# %% [markdown]
# Straight up and down, as far as we drew, the seven stays a seven. To the right it soon turns into a three, and from
# there the loss climbs like a wall. The boundary is close, it is nearly straight, and random directions run alongside.
#
# ## Fitting too hard brings the boundary near
#
# The boundary is where training put it. How does training put it so close to the data? We look where one can look: at
# points in the plane, two classes that bend around each other, and a small network that is far larger than the task
# needs. Three networks, same architecture:
#
# - one that saw **many** points;
# - one that saw **few**, and fits them all;
# - one that saw few, of which **a tenth carry a wrong label**, and was trained until it fits those too.


# %%
from sparring.explain import boundary_2d


def moons(n, seed, wrong=0.0):
    """Two half circles, one in the other's arm; some labels are wrong."""
    draw = torch.Generator().manual_seed(seed)
    angle, y = math.pi * torch.rand(n, generator=draw), torch.arange(n) % 2
    side = 1 - 2 * y
    across, up = angle.cos() * side + y - 0.5, angle.sin() * side + 0.5 * y - 0.25
    x = torch.stack([across, up], 1) + 0.12 * torch.randn(n, 2, generator=draw)
    return x, torch.where(torch.rand(n, generator=draw) < wrong, 1 - y, y)


def toy():
    """Two inputs, two classes, 15,000 weights between them."""
    first, second, last = nn.Linear(2, 120), nn.Linear(120, 120), nn.Linear(120, 2)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)


cases = {
    "many points": (moons(800, 1), 400),
    "few points": (moons(14, 1), 400),
    "few, a tenth mislabelled": (moons(120, 5, wrong=0.1), 1500),
}
new_x, new_y = moons(1000, 9)
views, scores, toy_distance = {}, {}, {}
for name, ((points, labels), steps) in cases.items():
    network = train(toy, points, labels, steps, rate=1e-2, batch=128)
    view = boundary_2d(network, (-2, 2, -1.4, 1.4), resolution=101 if FAST else 161)
    places = torch.cartesian_prod(view.up, view.across).flip(1)
    misread = view.winner()[0].flatten()[None] != new_y[:, None]
    far = torch.cdist(new_x, places)  # from each new point to each of the grid
    toy_distance[name] = far.where(misread, torch.inf).amin(1)
    views[name] = view
    own, new = accuracy(network, points, labels), accuracy(network, new_x, new_y)
    scores[name] = own, new
    middle, close = toy_distance[name].median(), share(toy_distance[name] < 0.1)
    print(f"{name:>25}: median distance {middle:.2f}, closer than 0.1: {close:.0%}")
    assert scores[name][0] > 0.97

near = [share(distance < 0.1) for distance in toy_distance.values()]
assert near[0] < near[1] < near[2]

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 3, figsize=(11, 3.3), sharey=True)
for ax, (name, ((points, labels), _)) in zip(axes, cases.items(), strict=True):
    figures.regions(ax, views[name], names=["A", "B"])
    colours = [figures.PALETTE[c] for c in labels.tolist()]
    ax.scatter(*points.T, s=14, c=colours, edgecolors="black", linewidths=0.5)
    own, new = scores[name]
    ax.set_title(f"{name}\n{own:.0%} of its own, {new:.0%} of new points")
    ax.set(xticks=[], yticks=[])
keep("01_toy_boundaries")

# %% [markdown]
# The clean, large sample leaves the network a broad street between the classes, and the boundary runs down the middle.
# With few points the street is wherever chance left room; the median point is as far from it as before, but a fifth of
# the new points lie within 0.1 of the wrong side, or on it. The third network had to make an island for each wrong
# label, and nearly every new point is now close to some island or some spit of land. It is still right on most of
# them! *Accuracy does not see this; distance does.* (Sanyal and others, 2021, prove a version of what you see here.)
#
# The same on digits. One architecture, one thousand digits, three ways of training: stopped early; until it fits every
# label; and just as long when a tenth of the labels is wrong. We measure only digits that the network reads rightly, so
# that no mistake counts as a short distance.

# %%
from sparring.samples import digit_network

count = 500 if FAST else 1000
epoch = -(-count // 64)  # steps that see every digit once
mislabelled = train_y[:count].clone()
draw = torch.Generator().manual_seed(1)
wrong = torch.rand(count, generator=draw) < 0.1
shift = torch.randint(1, 10, (count,), generator=draw)
mislabelled = torch.where(wrong, (mislabelled + shift) % 10, mislabelled)
ways = {
    "stopped early": (train_y[:count], 5 * epoch),
    "fitted": (train_y[:count], 40 * epoch),
    "fitted, a tenth mislabelled": (mislabelled, 40 * epoch),
}
networks, digit_distance = {}, {}
for name, (labels, steps) in ways.items():
    networks[name] = train(digit_network, train_x[:count], labels, steps)
    own = accuracy(networks[name], train_x[:count], labels)
    print(f"{name:>28}: {own:.0%} of its own labels")
networks["carried in the package"] = model

quick = PGD(steps=10, loss=margin, random_start=False)
for name, network in networks.items():
    read = network(X[few]).argmax(1) == Y[few]
    digit_distance[name], _ = smallest(
        network, X[few][read], Y[few][read], L2, 4.0, quick
    )
    new, middle = accuracy(network, X, Y), digit_distance[name].median()
    print(f"{name:>28}: {new:.1%} of new digits, median distance {middle:.2f}")

early, fitted, broken, carried = (d.median() for d in digit_distance.values())
assert fitted < early
assert broken < 0.9 * fitted
assert carried < 1.2 * early

# %% tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.7))
figures.distances(left, toy_distance, unit="Euclidean distance to a misread point")
left.set_title("points in the plane")
figures.distances(right, digit_distance, unit="$L_2$ distance to a misread image")
right.set_title("digits that are read rightly")
keep("01_distances")

# %% [markdown]
# Fitting every label costs some distance even when all labels are right, and a good deal more when a tenth is wrong
# (three other seeds gave the same order). Look at the printed accuracies too: by them, the fitted network is better
# than the one that stopped early. Two warnings go with this picture. *More data alone does not cure it*: the network
# that came with the package saw six times as many digits and is far more accurate, and its boundary
# is as near as ever. *Nor does stopping early*: it moves the boundary a little, and the linear argument above stands as
# it did. What does help is to train against the attack itself, and that is a later chapter.
#
# ## What the attacker sees
#
# All attacks so far read the model's gradient. Whoever does that holds the model: its weights, its code. That is the
# **white box**. Behind a web service one sees only the scores, or only the name of the winner: the **black box**, in
# two shades. What the attacker sees is part of the *question*. An answer to "can it be fooled?" that does not say by
# whom is no answer.
#
# | access | sees | may use |
# |---|---|---|
# | `Access.GRADIENTS` | everything | FGSM, PGD, … |
# | `Access.SCORES` | the logits | search guided by scores |
# | `Access.DECISIONS` | the winner's name | search by trial; transfer from a model of one's own |
#
# A question with all its parts is a `ThreatModel`: where the attacker may move, what it wants, what it sees, how often
# it may ask. The attack is then handed an object that *has no gradient to give*, and one that needs it is refused at
# the door.

# %%
from sparring.attacks import FGSM, Transfer
from sparring.errors import AccessError
from sparring.threat import Access, ThreatModel

black_box = ThreatModel(Linf(0.15), access=Access.DECISIONS, queries=100)
try:
    FGSM()(model, X[few], Y[few], black_box)
except AccessError as refusal:
    print("refused:", refusal)
else:
    raise AssertionError("FGSM must not be allowed to see gradients here")

# %% [markdown]
# What is left to an attacker who sees decisions only? It may guess. An attack of your own is a frozen dataclass with
# one method, which proposes points to the problem `p`; the problem asks the model, counts, and remembers what worked.

# %%
from sparring.attack import DecisionAttack
from sparring.types import rows


@dataclass(frozen=True)
class Guesses(DecisionAttack):
    """Random signs, all of eps, again and again."""

    def search(self, p):
        delta, eps = p.space.zeros(p.x), rows(p.eps, p.x)
        for _ in p.steps(99):
            signs = p.random.signs(*p.x.shape[1:])
            delta = p.space.project(p.x, eps * signs)
            p.observe(delta)
        return delta


# %% [markdown]
# Or it may **transfer**: attack a model of its own, where it sees everything, and hand the result to the victim. Ours
# is the network from above that was fitted to one thousand digits: other weights, other training data, same task.

# %%
surrogate, white_box = networks["fitted"], ThreatModel(Linf(0.15))
contest = {
    "guesses (decisions)": (Guesses(), black_box),
    "transfer, 1 step (decisions)": (Transfer(surrogate, attack=FGSM()), black_box),
    "transfer, 20 steps (decisions)": (
        Transfer(surrogate, attack=PGD(20)),
        black_box,
    ),
    "FGSM (gradients)": (FGSM(), white_box),
    "PGD, 20 steps (gradients)": (PGD(20), white_box),
}
rates = {}
for name, (attack, question) in contest.items():
    result = attack(model, X[few], Y[few], question, seed=0)
    rates[name] = share(result.success)
    asked = result.forwards.float().mean().item()
    print(f"{name:>30}: {rates[name]:6.1%} fooled, {asked:4.1f} questions a digit")
    assert (result.forwards <= 100).all()

guessed, one, many, fgsm, pgd = rates.values()
assert guessed < 0.2
assert guessed < one
assert many > 2 * guessed
assert max(one, many) < fgsm < pgd

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(7.5, 3.1))
names = [name.replace(" (", "\n(") for name in rates]
bars = ax.barh(
    names, list(rates.values()), color=[blue] * 3 + [red] * 2, height=0.65
)
ax.bar_label(bars, [f"{rate:.0%}" for rate in rates.values()], padding=4)
ax.set(xlim=(0, 1.1), xlabel="share of digits misread, L∞ 0.15")
ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
ax.invert_yaxis()
figures.bare(ax)
keep("01_access")

# %% [markdown]
# Guessing gets little for a hundred questions. Transfer gets three times as much for two: one look at the clean digit
# and one at the result. Adversarial examples are not a quirk of one set of weights; two networks that learned the same
# task share many of them. That is why keeping the weights secret is no defence, and why this library reports an attack
# that sees *less* and finds *more* as an alarm: it means that the gradients of the white box are hiding something. How
# they can, and what to do then, is half of the next chapter.
#
# ## What to keep
#
# 1. An adversarial example solves a problem: *least change, still in the box, other answer*.
# 2. A size means nothing without its ruler.
# 3. Noise tests luck, a gradient tests the model: the gap grows like $\sqrt d$.
# 4. The boundary is where training put it; accuracy does not see how near.
# 5. Say what the attacker sees before you say that a model is safe.
#
# ## Exercises
#
# 1. *Tight or not.* In the chain $\|\delta\|_\infty \le \|\delta\|_2 \le \|\delta\|_1 \le \sqrt d \|\delta\|_2 \le
#    d \|\delta\|_\infty$, find a $\delta$ that makes the first two signs equalities, and one that makes the last two
#    equalities.
# 2. *Nine wishes.* Untargeted means "anything but a seven". For each other digit $c$, find the smallest $L_2$ change
#    that makes the seven read as $c$, with `ThreatModel(L2(eps), goal=Targeted(c))`. Which wish is the cheapest? Which
#    relation must hold to the untargeted distance?
# 3. *Guessing harder.* `Guesses` had 99 tries a digit. What would two thousand buy? Measure, for twenty digits, the
#    chance that a single guess succeeds.
#
# Solutions follow.

# %% tags=["hide-cell"]
# Solution 1: a single changed pixel; all pixels changed alike.
single, alike = torch.eye(9)[:1] * 0.5, torch.full((1, 9), 0.5)
assert norm(single, math.inf) == norm(single, 2) == norm(single, 1)
assert torch.isclose(norm(alike, 1), 3 * norm(alike, 2))
assert torch.isclose(norm(alike, 1), 9 * norm(alike, math.inf))

# %% tags=["hide-cell"]
# Solution 2: the untargeted distance is the least of the nine, were the attack perfect.
from sparring.goals import Targeted


def wish(c, eps):
    """Be read as c, within eps."""
    return ThreatModel(L2(eps), goal=Targeted(c))


costs = {}
for c in (0, 1, 2, 3, 4, 5, 6, 8, 9):
    least, _ = smallest(model, seven, label, partial(wish, c), 8.0, search)
    costs[c] = least.item()
print({c: round(cost, 2) for c, cost in costs.items()})
untargeted = smallest(model, seven, label, L2, 8.0, search)[0].item()
assert abs(min(costs.values()) / untargeted - 1) < 0.1

# %% tags=["hide-cell"]
# Solution 3: on most digits not one guess works. Success is the digit's, not patience's.
guesses = 200 if FAST else 2000
chances = []
for digit, own in zip(X[:20], Y[:20], strict=True):
    many = digit.expand(guesses, -1, -1, -1)
    dirty = (many + 0.15 * random_signs(many)).clamp(0, 1)
    chances.append(share(model(dirty).argmax(1) != own))
print("never:", sum(chance == 0 for chance in chances), "of 20 digits; the others:")
print([round(chance, 4) for chance in chances if chance])
assert sum(chance == 0 for chance in chances) >= 10

# %% [markdown]
# ## Further reading
#
# - C. Szegedy, W. Zaremba, I. Sutskever, J. Bruna, D. Erhan, I. Goodfellow, R. Fergus, *Intriguing properties of neural
#   networks*, ICLR 2014, [arXiv:1312.6199](https://arxiv.org/abs/1312.6199). The first paper; its section 4.1 has the
#   box-constrained problem, and its section 4.2 finds transfer.
# - B. Biggio, I. Corona, D. Maiorca, B. Nelson, N. Šrndić, P. Laskov, G. Giacinto, F. Roli, *Evasion attacks against
#   machine learning at test time*, ECML PKDD 2013, [arXiv:1708.06131](https://arxiv.org/abs/1708.06131). Gradient
#   attacks on classifiers a little earlier, with a threat model spelt out.
# - I. Goodfellow, J. Shlens, C. Szegedy, *Explaining and harnessing adversarial examples*, ICLR 2015,
#   [arXiv:1412.6572](https://arxiv.org/abs/1412.6572). Section 3 is the linear explanation.
# - C.-J. Simon-Gabriel, Y. Ollivier, L. Bottou, B. Schölkopf, D. Lopez-Paz, *First-order adversarial vulnerability of
#   neural networks and input dimension*, ICML 2019, [arXiv:1802.01421](https://arxiv.org/abs/1802.01421).
# - A. Shafahi, W. R. Huang, C. Studer, S. Feizi, T. Goldstein, *Are adversarial examples inevitable?*, ICLR 2019,
#   [arXiv:1809.02104](https://arxiv.org/abs/1809.02104).
# - A. Sanyal, P. K. Dokania, V. Kanade, P. H. S. Torr, *How benign is benign overfitting?*, ICLR 2021,
#   [arXiv:2007.04028](https://arxiv.org/abs/2007.04028). Memorised label noise and adversarial error.
# - L. Schmidt, S. Santurkar, D. Tsipras, K. Talwar, A. Mądry, *Adversarially robust generalization requires more data*,
#   NeurIPS 2018, [arXiv:1804.11285](https://arxiv.org/abs/1804.11285).
# - N. Papernot, P. McDaniel, I. Goodfellow, *Transferability in machine learning: from phenomena to black-box attacks
#   using adversarial samples*, 2016, [arXiv:1605.07277](https://arxiv.org/abs/1605.07277).
# - N. Carlini and others, *On evaluating adversarial robustness*, 2019,
#   [arXiv:1902.06705](https://arxiv.org/abs/1902.06705). Read its section 2 before you write down a threat model.
