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
# # 9. Certification
#
# An attack that fails proves nothing: a better one may come. A **certificate** proves that none can. Attacks bound the
# accuracy from above, certificates from below, and the truth lies between. Here you
#
# - push a whole box of inputs through a network, and see what intervals lose;
# - win it back with lines instead of boxes (CROWN), and choose the lines by gradient ascent (α-CROWN);
# - train a network for its own certificate;
# - compare with exact distances, where these can be had;
# - certify any network at all by voting under noise, and images against patches by voting over parts;
# - draw both ends of the bracket in one verdict.
#
# It runs in a minute or two: `python docs/course/09_certification.py`.

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
# ## A box goes in, a box comes out
#
# Let every input value lie anywhere in an interval. An affine layer maps the middle of the box as it maps a point, and
# stretches the half widths by the *magnitudes* of its weights; ReLU maps the ends. That is all of **interval bound
# propagation** (Gowal and others 2018):
#
# $$
# \bar z' = W \bar z + b , \qquad r' = |W| \, r .
# $$

# %%
from sparring.bounds import around, bounds, hold, trace, worst_logits
from sparring.bounds.crown import least

toy = nn.Sequential(
    nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 2)
).requires_grad_(False)
point, eps = torch.tensor([[0.4, 0.6]]), 0.15


def intervals(layers, low, high):
    """The ends of every output, by hand."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            middle, spread = (low + high) / 2, (high - low) / 2
            middle, spread = layer(middle), spread @ layer.weight.abs().T
            low, high = middle - spread, middle + spread
        else:
            low, high = layer(low), layer(high)
    return low, high


ours, theirs = (
    intervals(toy, point - eps, point + eps),
    bounds(toy, point - eps, point + eps),
)
assert all(
    torch.allclose(one, other, atol=1e-6)
    for one, other in zip(ours, theirs, strict=True)
)

# %% [markdown]
# The box that comes out holds every answer, and much that is none: an interval forgets that two values moved
# together. Below are the answers to four thousand points of the input box, the box of intervals around them, and,
# dashed, what the next section makes of it.

# %%
cloud = toy(point - eps + 2 * eps * torch.rand(4000, 2))
low, high = ours
assert (cloud >= low - 1e-6).all()
assert (cloud <= high + 1e-6).all()

tape = trace(toy, point)
square = around(point, torch.tensor([eps]), float("inf"), (-9.0, 9.0))
held = hold(tape, square, linear=True)
angles = torch.linspace(0, 2 * torch.pi, 49)[:-1]
normals = torch.stack([angles.cos(), angles.sin()], 1)
depth = least(tape, square, held.ends, tape.last, normals[:, None])[:, 0]
assert (cloud @ normals.T >= depth - 1e-5).all()

figure, axes = plt.subplots(figsize=(5.2, 4))
axes.scatter(*cloud.T, s=1, color="tab:blue", label="answers")
axes.add_patch(
    plt.Rectangle(
        low[0].tolist(), *(high - low)[0].tolist(), fill=False, label="intervals"
    )
)
lines = torch.stack([normals, normals.roll(-1, 0)], 1)
corners = torch.linalg.solve(lines, torch.stack([depth, depth.roll(-1, 0)], 1))
axes.plot(
    *torch.cat([corners, corners[:1]]).T,
    "--",
    color="tab:red",
    label="linear bounds",
)
axes.set(
    xlabel="first logit",
    ylabel="second logit",
    title="What a box of inputs can answer",
)
axes.legend()
keep("09_boxes")

# %% [markdown]
# ## Lines instead of boxes
#
# Where a ReLU may be on or off, its graph over $[l, u]$ lies below the chord and above *any* line through the origin
# with a slope $\alpha$ from 0 to 1. Replace each ReLU by such lines and the whole network lies between two *affine*
# functions of its input, whose least value over a ball is known: $\bar a x + b - \varepsilon \|a\|_q$ (the dual norm
# of chapter 2). Which line a coefficient takes depends on its sign, so that the bound is computed backward from the
# logits. That is **CROWN** (Zhang and others 2018). It takes the $\alpha$ with the smaller area; **α-CROWN** (Xu and
# others 2021) takes any, and climbs.

# %%
l, u = -1.0, 2.0
grid = torch.linspace(l, u, 200)
chord = u * (grid - l) / (u - l)
figure, axes = plt.subplots(figsize=(4.6, 3))
axes.plot(grid, grid.relu(), "k", lw=2, label="ReLU")
axes.plot(grid, chord, color="tab:red", label="chord")
for slope in (0.0, 0.5, 1.0):
    axes.plot(
        grid,
        slope * grid,
        "--",
        color="tab:blue",
        lw=1,
        label="α x" if slope == 0 else None,
    )
    assert (slope * grid <= grid.relu() + 1e-6).all()
assert (chord >= grid.relu() - 1e-6).all()
axes.set(
    xlabel="before", ylabel="after", title="Every dashed line is a sound floor"
)
axes.legend()
keep("09_relu")

# %% [markdown]
# ## What it proves of a network
#
# A network of two hidden layers reads digits. How many are certified at each eps, and how many does PGD leave? The gap
# between is what nobody knows yet.

# %%
from sparring.attacks import PGD
from sparring.certify import Ablated, Smoothed, certify, exact_distance
from sparring.samples import digits
from sparring.spaces import Linf

held_digits = digits()
COUNT, STEPS = (20, 150) if FAST else (60, 400)
x, y = held_digits.test_x[:COUNT], held_digits.test_y[:COUNT]


def network():
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 48),
        nn.ReLU(),
        nn.Linear(48, 48),
        nn.ReLU(),
        nn.Linear(48, 10),
    )


def train(model, loss, steps=STEPS):
    """Adam on whatever loss of a model and a batch; `share` runs from 0 to 1."""
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(steps):
        rows = torch.randint(0, 6000, (64,))
        optimiser.zero_grad()
        loss(
            model,
            held_digits.train_x[rows],
            held_digits.train_y[rows],
            step / steps,
        ).backward()
        optimiser.step()
    return model.eval().requires_grad_(False)


plain = train(network(), lambda model, a, b, share: F.cross_entropy(model(a), b))
METHODS = {"IBP": "ibp", "CROWN": "crown", "α-CROWN": "alpha-crown"}
radii = [0.004, 0.012, 0.02] if FAST else [0.002, 0.006, 0.01, 0.015, 0.02, 0.03]


def shares(model, radii):
    """For each method the share certified at each eps, and what PGD leaves."""
    found = {name: [] for name in (*METHODS, "PGD")}
    for eps in radii:
        fallen = PGD(20)(model, x, y, Linf(eps)).success
        found["PGD"].append(1 - fallen.float().mean().item())
        for name, method in METHODS.items():
            proof = certify(model, (x, y), Linf(eps), method=method, steps=10)
            assert not (proof.certified & fallen).any()  # the law of this chapter
            found[name].append(proof.accuracy)
    return found


brackets = {"plain training": (radii, shares(plain, radii))}
of_plain = brackets["plain training"][1]
order = ["IBP", "CROWN", "α-CROWN", "PGD"]
for below, above in pairwise(order):
    lower, upper = of_plain[below], of_plain[above]
    assert all(a <= b + 1e-6 for a, b in zip(lower, upper, strict=True))

# %% [markdown]
# ## Training for the certificate
#
# The worst logits that intervals allow are a function of the weights like any other, so cross-entropy at *them* can be
# descended. Eps climbs slowly from nothing, or training never starts. The result is a network on which even plain
# intervals prove much, at an eps where the first network is helpless.


# %%
def certified_loss(model, a, b, share, eps=0.1):
    """Half the loss of the clean logits, half that of the worst."""
    reach = eps * min(1, 1.5 * share)
    clean, worst = worst_logits(
        model, a, b, (a - reach).clamp(0, 1), (a + reach).clamp(0, 1)
    )
    return (F.cross_entropy(clean, b) + F.cross_entropy(worst, b)) / 2


provable = train(network(), certified_loss, 2 * STEPS)
wide = [0.02, 0.1] if FAST else [0.01, 0.03, 0.05, 0.07, 0.1, 0.13]
brackets["trained by intervals"] = (wide, shares(provable, wide))

figure, panels = plt.subplots(1, 2, figsize=(8.4, 3.4), sharey=True)
for axes, (title, (sizes, found)) in zip(panels, brackets.items(), strict=True):
    for name, values in found.items():
        axes.plot(sizes, values, "o-" if name != "PGD" else "s-k", ms=3, label=name)
    axes.fill_between(
        sizes, found["α-CROWN"], found["PGD"], color="0.9", label="unknown"
    )
    axes.set(xlabel="eps (L∞)", title=title, ylim=(-0.03, 1.03))
panels[0].set_ylabel("share still right")
panels[0].legend(fontsize=8)
keep("09_bracket")

by_intervals = certify(provable, (x, y), Linf(0.05), method="ibp").accuracy
by_lines = certify(plain, (x, y), Linf(0.05), method="crown").accuracy
print(
    f"at eps 0.05: {by_intervals:.2f} by intervals, trained for them; {by_lines:.2f} by CROWN otherwise"
)
assert by_intervals > by_lines + 0.2

# %% [markdown]
# ## The exact answer, where there is one
#
# With one hidden layer of few units the least distance is a mixed-integer program: which units are on is a choice of
# bits. It is exact, and no bound may pass it. Certificates end below, attacks above.

# %%
small = nn.Sequential(nn.Flatten(), nn.Linear(49, 10), nn.ReLU(), nn.Linear(10, 10))
rough = F.avg_pool2d(held_digits.train_x, 4)
train(
    small,
    lambda model, a, b, share: F.cross_entropy(model(F.avg_pool2d(a, 4)), b),
    300,
)
few, label = F.avg_pool2d(x[:6], 4), y[:6]
exact = exact_distance(small, few, label, Linf())
right = exact > 0
for share in (0.3, 0.9, 0.999):
    proof = certify(small, (few, label), Linf((share * exact).clamp_min(1e-6)))
    print(
        f"eps = {share:g} × the exact distance: {int(proof.certified.sum())} of {int(right.sum())} certified"
    )
beyond = Linf((1.001 * exact).clamp_min(1e-6))
assert not certify(small, (few, label), beyond).certified.any()
assert (
    certify(small, (few, label), Linf((0.3 * exact).clamp_min(1e-6)))
    .certified[right]
    .any()
)

# %% [markdown]
# ## Any network, by voting under noise
#
# Bounds look inside, and fail on networks that are deep and were not trained for it. **Randomized smoothing** (Cohen
# and others 2019) looks from outside: name the class that a network names most often for $x + \mathcal N(0, \sigma^2
# I)$. If its share is at least $p$, no $\delta$ with $\|\delta\|_2 < \sigma \Phi^{-1}(p)$ changes the winner. The
# share is only *estimated*, so that $p$ is a lower confidence bound, and the certificate may be false with a chance
# $\alpha$. And it is a certificate of the *smoothed* network, which costs hundreds of passes an answer.

# %%
noisy = {}
for sigma in (0.25, 0.5):
    model = train(
        network(),
        lambda m, a, b, share, s=sigma: F.cross_entropy(
            m(a + s * torch.randn_like(a)), b
        ),
    )
    noisy[sigma] = Smoothed(model, sigma).certify(x, n0=50, n=300 if FAST else 1000)
figure, axes = plt.subplots(figsize=(5, 3.2))
sizes = torch.linspace(0, 1.6, 60)
for sigma, found in noisy.items():
    axes.step(
        sizes,
        [found.accuracy(y, size) for size in sizes.tolist()],
        label=f"σ = {sigma:g}",
    )
axes.set(
    xlabel="radius (L2)",
    ylabel="certified",
    title="More noise: farther, and less often",
    ylim=(0, 1.03),
)
axes.legend()
keep("09_smoothing")
assert noisy[0.25].accuracy(y) > 0.5
assert noisy[0.5].radius.max() > noisy[0.25].radius.max()

# %% [markdown]
# How often is it wrong? Of a half space the smoothed radius is known: the distance to its plane. At $\alpha$ = 5 % a
# radius beyond that must come up in no more than one case in twenty.


# %%
class HalfSpace(nn.Module):
    def forward(self, v):
        return torch.stack([-v[:, 0], v[:, 0]], 1)


trials = torch.full((400, 2), 0.3)
claims = Smoothed(HalfSpace(), 0.5).certify(trials, n0=10, n=100, alpha=0.05)
false = (claims.radius > 0.3).float().mean().item()
print(f"false certificates: {100 * false:.1f} % at α = 5 %")
assert false < 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5

# %% [markdown]
# ## Patches, by voting over parts
#
# Let a network see one band of columns at a time, and vote over all bands. A patch two pixels wide meets at most
# $2 + s - 1$ bands of $s$ columns; a vote won by more than twice that many stands, whatever the patch shows (Levine and
# Feizi 2020). No sampling, no chance: exact, and cheap.

# %%
reader = nn.Sequential(
    nn.Flatten(), nn.Linear(2 * 784, 128), nn.ReLU(), nn.Linear(128, 10)
)
bands = Ablated(reader, 6, threshold=0.3)
masks = bands.masks(28, 28)


def on_a_band(model, a, b, share):
    """Each digit through a band of its own."""
    chosen = masks[torch.randint(0, 28, (len(a),))][:, None]
    return F.cross_entropy(model(bands.seen(a, chosen)), b)


train(reader, on_a_band, 2 * STEPS)
many, labels = held_digits.test_x[:200], held_digits.test_y[:200]
proofs = {size: bands.certify(many, labels, size) for size in (1, 2, 5)}
for size, proof in proofs.items():
    print(f"{size} × {size} patch: {100 * proof.accuracy:.0f} % of 200 certified")
assert bands.met(2, 28, 28) == 7
assert proofs[5].accuracy <= proofs[2].accuracy <= proofs[1].accuracy
assert proofs[2].accuracy > 0.05

# %% [markdown]
# ## Both ends in one verdict
#
# `evaluate(…, certify="auto")`, or `sparring certify` on the folder of an evaluation, puts the bracket into the
# report: certified ≤ true ≤ attacked, sample by sample. A sample that is certified *and* broken is a bug of ours, and
# shown as a failed check.

# %%
from sparring import evaluate

verdict = evaluate(
    provable, (x, y), Linf(0.05), plan="quick", curve=False, certify="auto"
)
print(
    f"certified {100 * verdict.certified_accuracy:.1f} %, attacked {100 * verdict.robust_accuracy:.1f} %"
)
assert verdict.certified_accuracy <= verdict.robust_accuracy + 1e-9
assert not (verdict.bracket.certified & verdict.tally.broken).any()

# %% [markdown]
# ## What to take along
#
# - An attack says what breaks, a certificate what holds; report both, and the gap.
# - Intervals are cheap and loose; linear bounds are tight on networks that are small or were trained for it.
# - A certificate by smoothing is of another model, in another norm, and but for a chance: say which.
# - A certificate counts only for its threat. It says nothing about a rotation.
