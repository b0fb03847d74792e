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
# # 6. The black box: scores, decisions, and what a query is worth
#
# So far the attacker held the model. The one to fear most does not: it has an address, a price for each question, and a
# limit. This chapter takes the gradient away, then the scores, then the questions themselves. Here you
#
# - estimate a gradient from nothing but scores, and see what each direction costs;
# - search without any gradient, and draw success against queries, which is how black boxes are compared;
# - find the boundary from the winner's name alone;
# - attack with no question at all, on a copy that was trained on the victim's answers;
# - meet a defence that a white box calls perfect and a black box walks through;
# - measure what an endpoint gains by saying less.
#
# It runs in about a minute: `python docs/course/06_black_box.py`.

# %% tags=["hide-input"]

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from sparring.explain.course import chapter

# FAST: fewer samples, for the tests; keep: saves the current figure under a name
FAST, keep = chapter(globals().get("__file__", ""))

# %% [markdown]
# ## What may be seen
#
# | access | the answer to a question | who |
# |---|---|---|
# | gradients | everything: weights, slopes | you, testing your own model; a thief of the weights |
# | scores | a number for each class | a customer of an interface that shows confidences |
# | decisions | the winner's name | a customer of an interface that does not; a door with a camera |
# | nothing | – | who prepares an attack elsewhere, and comes once |
#
# In the library this is a part of the question, not of the attack. A threat model grants an access and a number of
# `queries` a sample; an attack that needs more is refused before it has asked anything, and the bill is kept by the
# library, never by the attack.

# %%
from sparring.attacks import PGD, Square
from sparring.errors import AccessError
from sparring.samples import digit_classifier, digits
from sparring.spaces import L2, Linf
from sparring.threat import Access, ThreatModel

model = digit_classifier()
train_x, train_y, test_x, test_y = digits()
n = 30 if FAST else 100
eps = 0.1
right = (model(test_x).argmax(1) == test_y).nonzero()[:, 0][:n]
x, y = test_x[right], test_y[right]


def share(these):
    """How many of them, from 0 to 1."""
    return these.float().mean().item()


scores = ThreatModel(Linf(eps), access=Access.SCORES, queries=1000)
try:
    PGD()(model, x, y, scores)
    refused = False
except AccessError as refusal:
    print(refusal)
    refused = True
assert refused

open_box = PGD(20)(model, x, y, Linf(eps))
print(
    f"with gradients: {share(open_box.success):.0%} of {n} digits at {eps}, ",
    end="",
)
print(f"after {open_box.forwards.float().median():.0f} forward passes (median)")
assert share(open_box.success) > 0.8

# %% [markdown]
# ## A gradient, bought by the piece
#
# A slope is a difference of two values. Ask about $x + \sigma u$ and $x - \sigma u$ for a random direction $u$, and
#
# $$ g = \frac{1}{m} \sum_{i=1}^{m} \frac{L(x + \sigma u_i) - L(x - \sigma u_i)}{2 \sigma} \, u_i $$
#
# is an estimate of $\nabla L$. It is right on average, and any single one is poor: $m$ directions show $m$ of the $d$
# components of a gradient, so that the cosine between the two is about $\sqrt{m / (d + m)}$. Digits have 784 pixels.


# %%
def margin(images, labels):
    """The true class's lead in logits; the attacker wants it below 0."""
    with torch.no_grad():
        out = model(images)
    own = out.gather(1, labels[:, None])[:, 0]
    return own - out.scatter(1, labels[:, None], -torch.inf).amax(1)


def estimated(image, label, m, draw, sigma=0.01):
    """The gradient of the margin, from 2 · m questions about one image."""
    u = torch.randn(m, *image.shape, generator=draw)
    labels = label.expand(m)
    rise = margin(image + sigma * u, labels) - margin(image - sigma * u, labels)
    return (rise[:, None, None, None] / (2 * sigma) * u).mean(0)


def true_gradient(image, label):
    """What the white box sees."""
    v = image[None].clone().requires_grad_()
    out = model(v)[0]
    others = torch.cat([out[:label], out[label + 1 :]])
    return torch.autograd.grad(out[label] - others.max(), v)[0][0]


draw = torch.Generator().manual_seed(0)
counts = [5, 20, 80, 320, 1280]
cosines = []
for m in counts:
    pairs = [
        F.cosine_similarity(
            estimated(x[i], y[i], m, draw).flatten(),
            true_gradient(x[i], y[i]).flatten(),
            dim=0,
        )
        for i in range(6)
    ]
    cosines.append(torch.stack(pairs).mean().item())
predicted = [(m / (784 + m)) ** 0.5 for m in counts]
for m, got, law in zip(counts, cosines, predicted, strict=True):
    print(f"{2 * m:5} questions: cosine {got:.2f} (law {law:.2f})")
assert all(abs(a - b) < 0.12 for a, b in zip(cosines, predicted, strict=True))
assert cosines[0] < 0.2
assert cosines[-1] > 0.6

# %% [markdown]
# A cosine of 0.2 is not nothing: a step along it still goes down. Many poor steps beat few good ones, and that is NES,
# SPSA and ZO-signSGD: PGD with the estimate in the gradient's place. What helps is to spend questions where gradients
# *are*: in low frequencies, along the last step (`Bandits`), or along the gradient of a model of one's own (`PRGF`).
#
# ## Or no gradient at all
#
# Nobody says that one must estimate a slope. Change something; if the score got worse for the model, keep it; else try
# something else. In $L_\infty$ the best points lie at corners of the ball, so that the question is only *which pixels
# go up and which down*. **Square** (Andriushchenko and others 2020) flips random squares, **SignHunter** halves of the
# picture and halves of halves, **Parsimonious** the block that promised most.
#
# Black-box attacks are compared by a curve: the share of samples broken after so many questions.

# %%
from sparring.attacks import NES, Parsimonious, SignHunter, SimBA
from sparring.explain import figures

limit = 300 if FAST else 1000
threat = ThreatModel(Linf(eps), access=Access.SCORES, queries=limit)
contenders = {
    "Square": Square(limit, rescale=True),
    "SignHunter": SignHunter(limit),
    "Parsimonious": Parsimonious(limit),
    "NES": NES(limit, draws=20),
    "SimBA": SimBA(limit),
}
asked = {}
for name, attack in contenders.items():
    found = attack(model, x, y, threat)
    asked[name] = found.forwards.float().where(found.success, torch.inf)
    within = ", ".join(
        f"{share(asked[name] <= q):.0%}" for q in (30, 100, 300, limit)
    )
    print(f"{name:>12}: broken within 30, 100, 300, {limit} questions: {within}")
    assert (found.forwards <= limit).all()
best = max(share(first.isfinite()) for first in asked.values())
assert best > share(open_box.success) - 0.3
assert share(asked["Square"] <= 300) > share(asked["SimBA"] <= 300)

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 3.8))
for (name, first), colour in zip(asked.items(), figures.PALETTE, strict=False):
    at = first.sort().values
    ax.step(at, (torch.arange(n) + 1) / n, where="post", label=name, color=colour)
ax.axhline(share(open_box.success), color="#999999", linewidth=0.8)
ax.set(xscale="log", xlim=(2, limit), ylim=(0, 1), xlabel="questions about a digit")
ax.set(ylabel="broken", title="scores only; grey: with gradients")
ax.legend(frameon=False, fontsize=8)
keep("06_queries")

# %% [markdown]
# Given a few hundred questions, the search by scores is not far from the white box. The missing gradient is a *price*,
# and for most models not a high one: hiding it is no defence.
#
# ## Only the winner's name
#
# Without scores a candidate is either adversarial or not, and almost everywhere nothing can be learned. Except on the
# **boundary**: there, which side a small step falls on tells where the boundary's normal points. So decision attacks
# begin far away, at anything that is read as another class (noise will do), walk in a straight line to the boundary,
# and then along it, always on the far side, ever nearer. They minimise the distance, and the bill buys nearness.

# %%
from sparring.attacks import DeepFool, HopSkipJump, SurFree

few = 12 if FAST else 30
budgets = [100, 300, 1000] if FAST else [100, 300, 1000, 3000]
nearness = {}
for name, attack in (("HopSkipJump", HopSkipJump()), ("SurFree", SurFree())):
    sizes = []
    for budget in budgets:
        blind = ThreatModel(L2(), access=Access.DECISIONS, queries=budget)
        sizes.append(
            attack(model, x[:few], y[:few], blind).distance.median().item()
        )
    nearness[name] = sizes
    print(f"{name:>12}:", ", ".join(f"{size:.2f}" for size in sizes))
nearest = DeepFool()(model, x[:few], y[:few], L2()).distance.median().item()
print(f"with gradients (DeepFool): {nearest:.2f}")
assert nearness["HopSkipJump"][-1] < 0.7 * nearness["HopSkipJump"][0]
assert min(sizes[-1] for sizes in nearness.values()) < 3 * nearest

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 3.4))
for (name, sizes), colour in zip(nearness.items(), figures.PALETTE, strict=False):
    ax.plot(budgets, sizes, "o-", label=name, color=colour)
ax.axhline(nearest, color="#999999", linewidth=0.8)
ax.set(xscale="log", xlabel="questions about a digit", ylabel="distance ($L_2$)")
ax.set(title="the winner's name alone; grey: with gradients")
ax.legend(frameon=False)
keep("06_decisions")

# %% [markdown]
# ## No question at all
#
# Networks that learn the same task share directions (chapter 5). An attacker who has a network of its own attacks that
# one, and hands over the result: **transfer**. The victim is asked once, and that is the attempt itself.
#
# Where does the network come from? From the victim: ask it about images, and train on its answers. That is paid once,
# for all later victims of the attack together. Two ways to choose the questions:
#
# - **Substitute** (Papernot and others 2017): begin with a few images, and make more of each, by steps along the copy's
#   own gradient. For an attacker who has hardly any data.
# - **Knockoff** (Orekondy and others 2019): ask about as many images as one can find, whatever they show.

# %%
from sparring.attacks import MIFGSM, Transfer, fit_knockoff, fit_substitute


@torch.no_grad()
def endpoint(images):
    """All that the victim says: one name an image."""
    return model(images).argmax(1)


def blank(seed=1):
    """A network that knows nothing yet."""
    torch.manual_seed(seed)
    first, second = (
        nn.Conv2d(a, b, 5, stride=2, padding=2) for a, b in ((1, 16), (16, 32))
    )
    return nn.Sequential(
        first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(1568, 10)
    )


budget = 1200 if FAST else 2400
how = {"budget": budget, "epochs": 5 if FAST else 8, "rate": 2e-3}
copies = {
    "substitute of 300": fit_substitute(
        endpoint, train_x[:300], blank(), rounds=4, step=0.2, **how
    ),
    "knockoff": fit_knockoff(endpoint, train_x, blank(), **how),
}
once = ThreatModel(Linf(0.2), access=Access.DECISIONS)
carried = {"untrained": Transfer(blank(2), attack=MIFGSM())(model, x, y, once)}
for name, copy in copies.items():
    agree = share(copy.network(test_x).argmax(1) == endpoint(test_x))
    carried[name] = Transfer(copy.network, attack=MIFGSM())(model, x, y, once)
    print(f"{name:>17}: {copy.queries} questions, agrees on {agree:.0%}", end=", ")
    print(f"{share(carried[name].success):.0%} transferred at 0.2")
    assert copy.queries <= budget
    assert agree > 0.6
    assert (carried[name].forwards <= 2).all()  # the clean digit, and the attempt
    assert share(carried[name].success) > share(carried["untrained"].success) + 0.1

# %% [markdown]
# On this victim the made-up images add little to what three hundred real ones teach, and more real images add much: an
# attacker who can find data does better to use them. Either way, the attempt itself is a single question.
#
# Transfer and search add up. A transferred point that fails is often nearer to success than the clean digit: begin the
# search there.

# %%
from sparring.attacks import Cascade

own = copies["knockoff"].network
hybrid = Cascade(
    (Transfer(own, attack=MIFGSM()), Square(limit, rescale=True, warm=True))
)
both = hybrid(model, x, y, threat)
first = both.forwards.float().where(both.success, torch.inf)
print(f"median questions: Square {asked['Square'].median():.0f}", end="; ")
print(f"transfer, then Square {first.median():.0f}")
assert share(both.success) > share(asked["Square"].isfinite()) - 0.1
assert (both.forwards <= limit).all()

# %% [markdown]
# ## When less sight sees more
#
# An attack that is given less can, in principle, do no better: whoever has the gradient can ignore it. So when a black
# box *does* do better, something is wrong with the gradient, and the white-box number is worth nothing. Here is such a
# model: it rounds its inputs to nine shades before it reads them. Rounding has slope zero.


# %%
class Rounded(nn.Module):
    """Reads a digit in nine shades."""

    def forward(self, images):
        return model((8 * images).round() / 8)


masked = Rounded()
white = PGD(20)(masked, x, y, Linf(eps))
black = Square(limit, rescale=True)(masked, x, y, threat)
print(f"PGD breaks {share(white.success):.0%}, Square {share(black.success):.0%}")
assert share(black.success) > share(white.success) + 0.1

# %% [markdown]
# `evaluate` looks for exactly this in every plan: an attack that saw less and broke what those that saw more did not is
# named, and the verdict says that the gradients are masked.

# %%
from sparring import evaluate

verdict = evaluate(
    masked, (x[:20], y[:20]), Linf(eps), plan="standard", curve=False
)
failed = [check for check in verdict.checks if check.passed is False]
for check in failed:
    print(f"- {check.name}: {check.meaning}")
assert any("gradient" in check.meaning + check.name for check in failed)

# %% [markdown]
# ## What an endpoint should answer
#
# Now from the other side of the counter. An endpoint may say all scores, scores of two digits, or a name. What does
# saying less buy?


# %%
class Says(nn.Module):
    """The model behind an interface."""

    def __init__(self, places):
        super().__init__()
        self.places = places

    def forward(self, images):
        probabilities = model(images).softmax(1)
        rounded = (probabilities * 10**self.places).round() / 10**self.places
        return (rounded + 1e-9).log()


def median_questions(victim, attack, seen):
    """How many questions half of the digits cost, and how many digits fell."""
    asks = ThreatModel(Linf(eps), access=seen, queries=limit)
    found = attack(victim, x, y, asks)
    return found.forwards.float().where(found.success, torch.inf)


from sparring.attacks import RayS

square = Square(limit, rescale=True)
interfaces = {
    "all digits of all scores": (model, square, Access.SCORES),
    "probabilities, 4 places": (Says(4), square, Access.SCORES),
    "probabilities, 2 places": (Says(2), square, Access.SCORES),
    "the winner's name": (model, RayS(), Access.DECISIONS),
}
prices = {name: median_questions(*how) for name, how in interfaces.items()}
for name, price in prices.items():
    print(f"{name:>26}: {share(price.isfinite()):4.0%} broken", end=", ")
    print(f"median {price.median():.0f} questions")
told = list(prices.values())
assert share(told[0].isfinite()) >= share(told[2].isfinite())
assert share(told[3].isfinite()) > 0.4

# %% [markdown]
# Four places change nothing. Two places spare some digits: where the model is sure, a small change shows in no digit of
# the answer. And the winner's name alone hardly spares more, because with RayS there is an attack that is made for it.
# Saying less may raise the price; it does not close the door. What follows for whoever runs an endpoint:
#
# - **Answer what the customer needs.** Usually a name, sometimes a coarse confidence; never logits.
# - **Count.** A limit for each customer makes attacks that need a thousand questions about one image expensive. And
#   questions of an attack lie close together: hundreds of near-equal images are a sign that no honest customer gives.
#   But a copy needs no such questions, and an attacker may have many accounts.
# - **Do not count on it.** The copy in this chapter was trained on names alone. An interface is a price, and
#   robustness is a property of the model. Test the model with the box open, and the endpoint as it is sold.
#
# `sparring serve MODEL --labels-only` puts any model behind a real interface on this machine, and `sparring evaluate
# http://…` attacks it there; `docs/endpoints.md` tells how.
#
# ## What to keep
#
# 1. Scores give a gradient at a price: with $m$ questions, a cosine of about $\sqrt{m/d}$ while $m$ is small.
# 2. Search needs no gradient, and with a few hundred questions comes near the white box.
# 3. A name alone gives the boundary, and its normal; the bill buys nearness.
# 4. A copy costs questions once, and then none.
# 5. Whoever sees less and does better has found a masked gradient.
#
# ## Exercises
#
# 1. *Where to look.* Estimate the gradient in low frequencies only (`LowFrequency()`). Does NES need fewer questions?
# 2. *What a score adds.* Fit the knockoff to scores in place of names. Does it transfer better?
# 3. *Few pixels.* Let `SparseRS` change twenty pixels. How many questions does it need?
#
# Solutions follow.

# %% tags=["hide-cell"]
# Solution 1: digits are smooth, and so are the directions that move them.
from sparring.attacks import LowFrequency

smooth = NES(limit, draws=20, directions=LowFrequency())(model, x, y, threat)
half = smooth.forwards.float().where(smooth.success, torch.inf).median()
print(f"NES, low frequencies: {share(smooth.success):.0%}, median {half:.0f}")
assert half <= asked["NES"].median()

# %% tags=["hide-cell"]
# Solution 2: an answer says more, and the copy learns more from each.
told_more = fit_knockoff(
    lambda images: model(images).detach(), train_x, blank(), **how
)
better = Transfer(told_more.network, attack=MIFGSM())(model, x, y, once)
print(f"from names {share(carried['knockoff'].success):.0%}", end=", ")
print(f"from scores {share(better.success):.0%}")
assert told_more.queries == budget
assert share(better.success) > share(carried["untrained"].success)

# %% tags=["hide-cell"]
# Solution 3: twenty of 784 pixels are enough for most digits.
from sparring.attacks import SparseRS
from sparring.spaces import L0

dots = SparseRS(limit)(model, x, y, ThreatModel(L0(20), access=Access.SCORES))
print(
    f"ten pixels: {share(dots.success):.0%}, median {dots.forwards.median()} questions"
)
assert share(dots.success) > 0.5

# %% [markdown]
# ## Further reading
#
# - A. Ilyas, L. Engstrom, A. Athalye, J. Lin, *Black-box adversarial attacks with limited queries and information*,
#   ICML 2018, [arXiv:1804.08598](https://arxiv.org/abs/1804.08598). NES, and what a limit does.
# - M. Andriushchenko, F. Croce, N. Flammarion, M. Hein, *Square Attack*, ECCV 2020,
#   [arXiv:1912.00049](https://arxiv.org/abs/1912.00049).
# - J. Chen, M. I. Jordan, M. J. Wainwright, *HopSkipJumpAttack*, S&P 2020,
#   [arXiv:1904.02144](https://arxiv.org/abs/1904.02144). From the winner's name alone.
# - N. Papernot, P. McDaniel, I. Goodfellow, S. Jha, Z. B. Celik, A. Swami, *Practical black-box attacks against machine
#   learning*, AsiaCCS 2017, [arXiv:1602.02697](https://arxiv.org/abs/1602.02697). The substitute.
# - T. Orekondy, B. Schiele, M. Fritz, *Knockoff nets: stealing functionality of black-box models*, CVPR 2019,
#   [arXiv:1812.02766](https://arxiv.org/abs/1812.02766).
# - A. Athalye, N. Carlini, D. Wagner, *Obfuscated gradients give a false sense of security*, ICML 2018,
#   [arXiv:1802.00420](https://arxiv.org/abs/1802.00420). Why less sight sometimes sees more.
