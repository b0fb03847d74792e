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
# # 5. Attacks that are learned: universal perturbations and AdvGAN
#
# Every attack so far searched anew for every image. This chapter moves the work to an earlier time: **fit** something
# once, to a model and to many images, and afterwards attack new images for next to nothing. Here you
#
# - fit one single perturbation that fools most digits, and see how much less noise of the same size does;
# - build the same by hand, from the steps of DeepFool, as it was first found;
# - steer it: to one class of your choice, or with one perturbation for each class;
# - train **AdvGAN**, a network that draws a perturbation for each image in one forward pass;
# - measure what such an attack is worth: its speed, and the gap to a real search;
# - and do it without the model's gradients, on a copy distilled from its answers.
#
# It runs in about a minute: `python docs/course/05_learned_attacks.py`.

# %% tags=["hide-input"]
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from sparring.explain.course import chapter

# FAST: fewer samples, for the tests; keep: saves the current figure under a name
FAST, keep = chapter(globals().get("__file__", ""))

# %% [markdown]
# ## One perturbation for all
#
# Chapter 1 asked for a $\delta$ that fools the model on one image. Ask for more: one $\delta$ that fools it on *most*
# images, those that nobody has shown us included. That is a **universal perturbation**:
#
# $$ \max\limits_{\|\delta\|_\infty \le \varepsilon} \ \mathbb E_{(x, y)} \, L\big(f(x + \delta), y\big) . $$
#
# Read the formula as training: an expected loss, an unknown that all samples share, and a constraint. So we do what one
# does in training, stochastic gradient steps over batches, and after each step go back into the ball (Shafahi and
# others 2020). One thing is different. A loss that may grow without end lets a few samples that are long since fooled
# take all of the gradient; so each sample's loss is clipped, and those that are well lost leave the floor to the
# others.

# %%
from sparring.samples import digit_classifier, digits

model = digit_classifier()
train_x, train_y, test_x, test_y = digits()
n = 300 if FAST else 1000
x, y = test_x[:n], test_y[:n]
known = 1200 if FAST else 3000
data = train_x[:known], train_y[:known]
eps = 0.2


def share(these):
    """How many of them, from 0 to 1."""
    return these.float().mean().item()


def fooled(image, label):
    """The share of digits that the model misreads."""
    with torch.no_grad():
        return share(model(image.clamp(0, 1)).argmax(1) != label)


def universal(model, x, y, eps, *, epochs=5, rate=0.1, clip=9.0):
    """One perturbation for all, in the ball, by steps of signed gradients."""
    delta = torch.zeros_like(x[:1])
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(128):
            v = delta.clone().requires_grad_()
            out = model((x[rows] + v).clamp(0, 1))
            loss = F.cross_entropy(out, y[rows], reduction="none").clamp_max(clip)
            (g,) = torch.autograd.grad(loss.mean(), v)
            delta = (delta + rate * eps * g.sign()).clamp(-eps, eps)
    return delta


torch.manual_seed(0)
by_hand = universal(model, *data, eps)
noise = eps * torch.randn_like(by_hand).sign()
clean, noisy, lost = (fooled(x + d, y) for d in (0 * noise, noise, by_hand))
print(f"misread: clean {clean:.1%}, random signs {noisy:.1%}, universal {lost:.1%}")
assert noisy < 0.3
assert lost > noisy + 0.3

# %% [markdown]
# The digits counted here are test digits; the perturbation has seen none of them. It is not a list of tricks for known
# images but something about the *model*: a direction in which its boundaries lie near, whatever the digit.
#
# The library's `fit_universal` is the same loop, with a momentum, a checkpoint and a progress display. What it returns
# is an attack like every other: it is called with a model, data and a threat model, is confirmed by the model, and
# pays its bill. What the *fit* cost is not on that bill, as little as the training of a model is on the bill of its
# use.

# %%
from sparring.attacks import PGD, fit_universal
from sparring.spaces import Linf

attack = fit_universal(model, data, Linf(eps), epochs=5, seed=0)
result = attack(model, x, y, Linf(eps))
right = model(x).argmax(1) == y
print(f"{attack}: {share(result.success):.1%} of unseen digits are misread")
print(
    "passes a digit:",
    result.forwards.max().item(),
    "+",
    result.backwards.max().item(),
)
assert share(result.success) > lost - 0.15
assert (result.forwards[right] == 2).all()  # clean, and with the perturbation
assert (result.backwards == 0).all()

# %%
from sparring.explain import figures


def said(images):
    """What the model reads."""
    return [f"reads {c}" for c in model(images).argmax(1).tolist()]


shown = [7, 5, 4, 8, 1]
figure, axes = plt.subplots(1, 1 + len(shown), figsize=(9.2, 1.9))
largest = attack.delta.abs().max().item()
axes[0].imshow(
    attack.delta[0, 0].numpy(), cmap="PuOr_r", vmin=-largest, vmax=largest
)
axes[0].set(xticks=[], yticks=[], title="the perturbation")
for ax, image, words in zip(
    axes[1:], result.x[shown], said(result.x[shown]), strict=True
):
    figures.picture(ax, image, below=words)
keep("05_universal")

# %% [markdown]
# ## Where do they all go?
#
# An attack without a target leaves the choice to the model. Count what the fooled digits are read as.

# %%
now = model(result.x).argmax(1)[right & result.success]
counts = torch.bincount(now, minlength=10)
top = counts.topk(2)
print("read as:", {c: int(k) for c, k in enumerate(counts) if k})
print(f"the two favourites take {share((now[:, None] == top.indices).any(1)):.0%}")
assert share((now[:, None] == top.indices).any(1)) > 0.5

# %% [markdown]
# A few classes swallow nearly all. Moosavi-Dezfooli and others (2017) saw the same on ImageNet, and named them
# **dominant labels**. It suggests a question: can we choose which? A targeted threat model is the same fit with another
# goal.

# %%
from sparring.goals import Targeted
from sparring.threat import ThreatModel

reached = {}
for target in (3, 8, 1):
    threat = ThreatModel(Linf(0.3), goal=Targeted(target))
    other = y != target
    push = fit_universal(model, data, threat, epochs=3, seed=0)
    reached[target] = share(push(model, x[other], y[other], threat).success)
    print(f"all to {target} at 0.3: {reached[target]:.1%} of the other digits")
assert max(reached.values()) > 0.5
assert max(reached.values()) > min(reached.values())  # some classes attract

# %% [markdown]
# And the other way round: if the label of the image is known, there may be one perturbation for each class (Benz and
# others 2021). Each has an easier task, and together they are stronger.

# %%
classwise = fit_universal(model, data, Linf(eps), epochs=5, classes=10, seed=0)
each = classwise(model, x, y, Linf(eps)).success
print(f"one for all {share(result.success):.1%}, one a class {share(each):.1%}")
assert share(each) > share(result.success)

# %% tags=["hide-input"]
figure, axes = plt.subplots(2, 5, figsize=(7.2, 3.2))
for label, ax in enumerate(axes.flat):
    ax.imshow(classwise.delta[label, 0].numpy(), cmap="PuOr_r", vmin=-eps, vmax=eps)
    ax.set(xticks=[], yticks=[], title=f"against every {label}")
keep("05_classwise")

# %% [markdown]
# Brown brightens, purple darkens. Against the sevens it paints a two: the same stroke, with a foot.
#
# ## As it was first found
#
# The first universal perturbations were not trained. Moosavi-Dezfooli and others went from image to image: is this one
# fooled already? If not, ask DeepFool for the shortest step that would fool it *from where the perturbation is now*,
# add that step, and go back into the ball. The inner attack is a part that can be exchanged, so `fit_uap` is given one.

# %%
from sparring.attacks import DeepFool, fit_uap

few = 60 if FAST else 150
gathered = fit_uap(
    model,
    (train_x[:few], train_y[:few]),
    Linf(eps),
    DeepFool(),
    epochs=1,
    batch_size=5,
    seed=0,
)
old = share(gathered(model, x, y, Linf(eps)).success)
print(f"from {few} digits and DeepFool: {old:.1%} of unseen digits")
assert old > noisy

# %% [markdown]
# A few dozen images are enough for a perturbation that carries over to a thousand others. But the sum of shortest steps
# is not what maximises the expected loss, and the stochastic form, which works on just that, is stronger at less cost.
#
# ## AdvGAN: a network that draws
#
# One perturbation for all cannot look at the image. Let a network look: a **generator** $G$ reads $x$ and answers with
# $G(x)$, and the attacked image is $x + G(x)$. AdvGAN (Xiao and others 2018) trains it on three wishes at once,
#
# $$
# \mathcal L = \mathcal L_{\text{adv}} + \alpha\, \mathcal L_{\text{GAN}} + \beta\, \mathcal L_{\text{hinge}} .
# $$
#
# - $\mathcal L_{\text{adv}}$: **fool the classifier.** Carlini and Wagner's margin of the true class over the best
#   other one, until it is negative: $\max(0, f_y - \max_{j \ne y} f_j)$.
# - $\mathcal L_{\text{GAN}}$: **look like the data.** A second network, the **discriminator** $D$, learns to tell
#   digits from attacked digits, $(D(x) - 1)^2 + D(x + G(x))^2$, and the generator is paid for deceiving it,
#   $(D(x + G(x)) - 1)^2$. These are the losses of least-squares GANs.
# - $\mathcal L_{\text{hinge}}$: **stay small.** $\max(0, \|G(x)\|_2 - c)$: up to a length $c$ the perturbation is
#   free.
#
# The bound of the threat model is not left to the loss: a tanh at the end of $G$, scaled by $\varepsilon$, keeps every
# pixel within it. The classifier is frozen. Its gradient passes through it on the way to $G$, and needs nothing else of
# it: the paper calls this setting *semi-white-box*, because the classifier is needed for the fit and not for the
# attack.

# %%
from sparring.attacks import fit_advgan

losses = []
began = time.perf_counter()
gan = fit_advgan(
    model,
    data,
    Linf(eps),
    epochs=2 if FAST else 4,
    batch_size=64,
    rate=2e-3,
    seed=0,
    progress=lambda now: losses.append(now.loss),
)
print(f"fitted in {time.perf_counter() - began:.0f} s to {known} digits")
print(
    "fooled in each epoch:", ", ".join(f"{part:.0%}" for part in gan.record.fooled)
)
assert gan.record.fooled[-1] > gan.record.fooled[0]

# %% [markdown]
# Now attack digits that the generator has not seen, and hold it against the universal perturbation and against a real
# search.

# %%
timed = {}
for name, one in (
    ("universal", attack),
    ("AdvGAN", gan),
    ("PGD, 40 steps", PGD(40)),
):
    began = time.perf_counter()
    found = one(model, x, y, Linf(eps))
    timed[name] = share(found.success), time.perf_counter() - began, found
    cost = f"{found.forwards.max()} + {found.backwards.max()} passes"
    print(f"{name:>14}: {timed[name][0]:6.1%}, {cost}, {timed[name][1]:.2f} s")
drawn = timed["AdvGAN"][2]
assert timed["AdvGAN"][0] > timed["universal"][0] - 0.1
assert timed["PGD, 40 steps"][0] >= timed["AdvGAN"][0]
assert (drawn.forwards <= 2).all()

# %% tags=["hide-input"]
canvas = plt.figure(figsize=(5.4, 7.6))
four = [7, 5, 4, 8]
figures.triptych(
    canvas, x[four], drawn.x[four], before=said(x[four]), after=said(drawn.x[four])
)
keep("05_advgan")

# %% [markdown]
# Two things to read from the table.
#
# **What it is good for.** At attack time there is no gradient and no loop: the classifier is asked once what it thinks
# of the result. Where thousands of adversarial images are wanted at once (for training, for a test of a filter behind
# the model, on a device) nothing is cheaper.
#
# **What it is not good for.** The search finds more. The generator must spend its few weights on all images together,
# and pays a gap on each of them. The *robust accuracy* of a model is never what a learned attack leaves standing: it is
# an upper bound, and a loose one.
#
# ## How strong is it at another eps?
#
# A generator is fitted for one $\varepsilon$. It makes as much of another as that one allows, which costs nothing to
# try.

# %%
radii = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
curves = {}
for name, one in (
    ("universal", attack),
    ("AdvGAN", gan),
    ("PGD, 10 steps", PGD(10)),
):
    curves[name] = [1 - share(one(model, x, y, Linf(r)).success) for r in radii]
    print(f"{name:>14}:", " ".join(f"{left:6.1%}" for left in curves[name]))
for name, left in curves.items():
    assert left[-1] < left[0], name

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 3.8))
for (name, left), colour, marker in zip(
    curves.items(), (figures.PALETTE[i] for i in (1, 2, 0)), "osD", strict=True
):
    figures.accuracy_curve(ax, radii, left, name=name, colour=colour, marker=marker)
ax.axvline(eps, color="#999999", linewidth=0.8)
ax.set(
    xlabel="ε ($L_\\infty$); fitted at the grey line", title="accuracy that is left"
)
ax.legend(frameon=False)
keep("05_curves")

# %% [markdown]
# ## Without the gradients
#
# Suppose the classifier answers with scores and shows nothing else. AdvGAN then trains on a **surrogate**: a network of
# the attacker's own that is **distilled** from the answers. Once, on clean images, is not enough, since a copy that
# agrees on digits need not agree on attacked digits. So the two take turns (the paper's *dynamic distillation*): the
# surrogate learns the model's answers on images *and on what the generator makes of them now*, the generator learns to
# fool the surrogate as it is now. The threat model says what may be seen, and the fit is held to it.

# %%
from sparring.errors import AccessError
from sparring.models import mnist_mlp
from sparring.threat import Access

scores = ThreatModel(Linf(0.3), access=Access.SCORES)
try:
    fit_advgan(model, data, scores)
except AccessError as refusal:
    print(refusal)
    refused = True
assert refused

copy = mnist_mlp(seed=1)
how = {"epochs": 3, "batch_size": 64, "rate": 2e-3, "width": 4, "seed": 0}
blind = fit_advgan(
    lambda images: model(images).detach(), data, scores, surrogate=copy, **how
)
agree = share(copy.eval()(x).argmax(1) == model(x).argmax(1))
black_box = share(blind(model, x, y, Linf(0.3)).success)
print(f"the copy agrees on {agree:.1%} of clean digits; fooled {black_box:.1%}")
assert agree > 0.7
assert black_box > fooled(x + 0.3 * torch.randn_like(x[:1]).sign(), y) - 0.1

# %% [markdown]
# ## Keep what was learned
#
# A fit is worth keeping. `save` writes one safetensors file with the settings as JSON in its header: no pickle, nothing
# that is run when it is read. While a fit runs, `folder=…` keeps a checkpoint; a fit that was stopped, or killed, goes
# on from there, and ends with the very same numbers.

# %%
from sparring.attacks import Generated

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "advgan.safetensors"
    gan.save(path)
    again = Generated.load(path)
    print(
        f"{path.stat().st_size / 1024:.0f} KiB, {sum(w.numel() for w in again.weights.values()):,} weights"
    )
assert again == gan
assert torch.equal(again(model, x, y, Linf(eps)).x, drawn.x)

# %% [markdown]
# ## What to keep
#
# 1. There are perturbations that fool a model on most inputs at once; they say something of the model, not of an image.
# 2. A universal perturbation is trained like a model: expected loss, batches, a constraint, a clipped loss.
# 3. AdvGAN moves the search into the weights of a network: slow once, then one forward pass an image.
# 4. Learned attacks are for speed and for scale. For a verdict, search.
#
# ## Exercises
#
# 1. *How few?* Fit a universal perturbation to 10, 100 and 1000 digits. How much does each fool of the unseen ones?
# 2. *Which wish costs?* Fit the generator by the classifier's loss alone (`fit_gap`, of Poursaeed and others 2018): no
#    discriminator, no hinge. Is it stronger? Are its perturbations longer?
# 3. *Another victim.* Does the universal perturbation fool a network that it was not fitted to? Use `Transfer`'s idea
#    by hand: train a small network, and call the attack on it.
#
# Solutions follow.

# %% tags=["hide-cell"]
# Solution 1: the fewer it has seen, the more it is about those: the gap between seen and unseen closes.
gaps = []
for count in (10, 100, 1000):
    part = train_x[:count], train_y[:count]
    epochs = 120 // -(-count // 128)  # as many steps for each
    small = fit_universal(model, part, Linf(eps), epochs=epochs, seed=0)
    seen = share(small(model, *part, Linf(eps)).success)
    unseen = share(small(model, x, y, Linf(eps)).success)
    gaps.append(seen - unseen)
    print(f"from {count:4} digits: {seen:.0%} of them, {unseen:.0%} of the unseen")
assert gaps[0] > gaps[-1]

# %% tags=["hide-cell"]
# Solution 2: without the wish to look like a digit, and to stay small, the whole ball is used.
from sparring.attacks import fit_gap

bare = fit_gap(
    model, data, Linf(eps), epochs=2, batch_size=64, width=8, rate=2e-3, seed=0
)
free = bare(model, x, y, Linf(eps))
lengths = [
    found.delta.flatten(1).norm(dim=1).median().item() for found in (drawn, free)
]
print(f"AdvGAN {share(drawn.success):.1%}, length {lengths[0]:.2f}", end="; ")
print(f"GAP {share(free.success):.1%}, length {lengths[1]:.2f}")
assert share(free.success) > clean + 0.2

# %% tags=["hide-cell"]
# Solution 3: part of it does. Networks that learn the same task from the same digits share directions.
torch.manual_seed(1)
victim = nn.Sequential(
    nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)
)
optimizer = torch.optim.Adam(victim.parameters(), 2e-3)
for rows in torch.randperm(len(train_x)).split(64):
    optimizer.zero_grad()
    F.cross_entropy(victim(train_x[rows]), train_y[rows]).backward()
    optimizer.step()
victim.eval().requires_grad_(False)
before = share(victim(x).argmax(1) != y)
carried = share(attack(victim, x, y, Linf(eps)).success)
print(f"another network misreads {before:.1%}, with the perturbation {carried:.1%}")
assert carried > before

# %% [markdown]
# ## Further reading
#
# - S.-M. Moosavi-Dezfooli, A. Fawzi, O. Fawzi, P. Frossard, *Universal adversarial perturbations*, CVPR 2017,
#   [arXiv:1610.08401](https://arxiv.org/abs/1610.08401).
# - A. Shafahi, M. Najibi, Z. Xu, J. Dickerson, L. Davis, T. Goldstein, *Universal adversarial training*, AAAI 2020,
#   [arXiv:1811.11304](https://arxiv.org/abs/1811.11304). The stochastic form, and how to train against it.
# - P. Benz, C. Zhang, A. Karjauv, I. S. Kweon, *Universal adversarial training with class-wise perturbations*,
#   ICME 2021, [arXiv:2104.03000](https://arxiv.org/abs/2104.03000).
# - C. Xiao, B. Li, J.-Y. Zhu, W. He, M. Liu, D. Song, *Generating adversarial examples with adversarial networks*,
#   IJCAI 2018, [arXiv:1801.02610](https://arxiv.org/abs/1801.02610). AdvGAN.
# - S. Jandial, P. Mangla, S. Varshney, V. Balasubramanian, *AdvGAN++: harnessing latent layers for adversary
#   generation*, ICCV workshops 2019, [arXiv:1908.00706](https://arxiv.org/abs/1908.00706). `fit_advgan_plus`.
# - O. Poursaeed, I. Katsman, B. Gao, S. Belongie, *Generative adversarial perturbations*, CVPR 2018,
#   [arXiv:1712.02328](https://arxiv.org/abs/1712.02328).
