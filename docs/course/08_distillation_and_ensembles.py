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
# # 8. Two defences that sound right: distillation and ensembles
#
# In 2016 a defence cut the success of the known attacks from 95 % to 0.5 %, and cost one more training. A year later it
# was broken completely, by a change of one line in the attack. This chapter builds it, watches it hold, finds out
# *why*, and breaks it. Here you
#
# - train a teacher and a student at a high temperature (Papernot and others 2016);
# - see attacks stand still before the student, and measure what stopped them;
# - take the one step that Carlini and Wagner took, and see the defence vanish;
# - let the library's report judge the student without being told what it is;
# - use distillation for what it can do: hand a robust model's knowledge to another one;
# - build ensembles, see what they stop and what they do not, and train members to differ.
#
# It runs in about two minutes: `python docs/course/08_distillation_and_ensembles.py`.

# %% tags=["hide-input"]

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from sparring.explain.course import chapter

# FAST: fewer samples, for the tests; keep: saves the current figure under a name
FAST, keep = chapter(globals().get("__file__", ""))

# %% [markdown]
# ## A teacher, a student, and a temperature
#
# Divide a network's logits by a **temperature** $T$ before the softmax, and its probabilities become softer:
# $p_k = \exp(z_k / T) \big/ \sum_j \exp(z_j / T)$. Defensive distillation has three steps.
#
# 1. Train a **teacher** with the softmax at temperature $T$.
# 2. Train a **student** of the same form, also at $T$, not on the labels but on the teacher's probabilities.
# 3. Use the student at temperature 1.
#
# The hope: soft labels say which classes are near each other, so the student becomes smooth, and a smooth network has
# small gradients. In the library a way of training is a **risk**: an object that weighs a model's answers. `train` is
# the loop that minimises it. `Tempered` is step 1, `Distilled` is step 2.

# %%
from sparring.defend import Distilled, Standard, Tempered, train
from sparring.explain import figures
from sparring.models.small import mnist_mlp
from sparring.samples import digits

held = digits()
known = 2000 if FAST else 3000
data = held.train_x[:known], held.train_y[:known]
count = 150 if FAST else 300
x, y = held.test_x[:count], held.test_y[:count]
EPOCHS = 8 if FAST else 10


def share(mask):
    """The mean of zeros and ones, as a number."""
    return mask.double().mean().item()


def fitted(risk, model=None, rate=3e-3, epochs=EPOCHS):
    """A small network, trained by a risk."""
    model = mnist_mlp(64) if model is None else model
    train(model, data, risk, epochs=epochs, batch_size=50, rate=rate, seed=0)
    return model.eval().requires_grad_(False)


T = 50
usual = fitted(Standard())
teacher = fitted(Tempered(T), rate=2e-2)
student = fitted(Distilled(teacher, T), rate=2e-2)
for name, model in (("usual", usual), ("teacher", teacher), ("student", student)):
    print(f"{name:>8}: {share(model(x).argmax(1) == y):.1%} right")
    assert share(model(x).argmax(1) == y) > 0.85

# %% [markdown]
# ## It holds
#
# Attack both with what everyone had then: steps along the gradient of the cross-entropy.

# %%
from sparring import Linf
from sparring.attacks import FGSM, PGD
from sparring.losses import cross_entropy, dlr, margin, scaled_cross_entropy


def stands(model, attack, eps=0.1):
    """The share of digits that the attack leaves rightly read."""
    return 1 - share(attack(model, x, y, Linf(eps), seed=0).success)


before = {"FGSM": FGSM(), "PGD, 20 steps": PGD(20), "PGD, 100 steps": PGD(100)}
for name, attack in before.items():
    print(
        f"{name:>15}: usual {stands(usual, attack):6.1%} stand, student {stands(student, attack):6.1%}"
    )
assert stands(usual, PGD(20)) < 0.25
assert stands(student, PGD(20)) > 0.5
assert (
    stands(student, PGD(100)) > 0.5
)  # it has levelled off: more steps change nothing

# %% [markdown]
# From a few percent to most digits, for one more training. And a hundred steps find no more than twenty: by the rule of
# chapter 3 the search has converged. Would you publish?
#
# ## Why it holds
#
# Look at what an attacker's first step sees: the loss at the clean digit, and the length of its gradient.

# %%
gradients = {}
for name, model in (("usual", usual), ("student", student)):
    v = x.clone().requires_grad_()
    losses = F.cross_entropy(model(v), y, reduction="none")
    slopes = torch.autograd.grad(losses.sum(), v)[0].flatten(1).abs().amax(1)
    two = model(x).topk(2, 1).values
    leads = two[:, 0] - two[:, 1]
    gradients[name] = leads, slopes
    print(
        f"{name:>8}: median lead {leads.median():6.1f} logits, gradient exactly zero for {share(slopes == 0):.0%}"
    )
assert share(gradients["usual"][1] == 0) < 0.05
assert share(gradients["student"][1] == 0) > 0.4
assert gradients["student"][0].median() > 10 * gradients["usual"][0].median()

# %% tags=["hide-input"]
blue, orange, red = figures.PALETTE[:3]
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4))
for (name, (leads, slopes)), colour in zip(
    gradients.items(), (blue, orange), strict=True
):
    left.hist(leads.clamp_min(0.1).log10(), 30, color=colour, alpha=0.7, label=name)
    right.hist(
        slopes.clamp_min(1e-48).log10().clamp_min(-20),
        30,
        color=colour,
        alpha=0.7,
        label=name,
    )
left.set(
    xlabel="log₁₀ of the lead of the best logit over the second", ylabel="digits"
)
right.set(xlabel="log₁₀ of the largest entry of the gradient (-20: zero)")
left.legend(frameon=False)
for ax in (left, right):
    figures.bare(ax)
keep("08_saturated")

# %% [markdown]
# To be as sure *at temperature 50* as a usual network is at 1, logits must be fifty times as large. At temperature 1
# they then differ by hundreds. Softmax turns that into probabilities of exactly 1 and 0 (in 32-bit floats $e^{-104}$ is
# zero), the cross-entropy is zero, and so is its gradient. The student did not become smooth. It became *loud*, and the
# attack's loss went deaf. Nothing about the boundary between classes has changed:

# %%
quiet = student(x) / T
assert torch.equal(quiet.argmax(1), student(x).argmax(1))  # the same decisions


class Quiet(nn.Module):
    """The student, with its logits divided by T: the same decisions for every input."""

    def forward(self, x):
        return student(x) / T


print(f"PGD on the student          : {stands(student, PGD(20)):.1%} stand")
print(f"PGD on the student, logits/T: {stands(Quiet(), PGD(20)):.1%} stand")
assert stands(Quiet(), PGD(20)) < 0.25

# %% [markdown]
# ## The change of one line
#
# The attacker need not even know $T$. Carlini and Wagner (2017) simply read the **logits**: descend the margin
# $z_y - \max_{j \ne y} z_j$, which no softmax has squeezed. The other losses of chapter 3 that do not care for scale do
# as well.

# %%
aware = {
    "cross-entropy": cross_entropy,
    "margin": margin,
    "DLR": dlr,
    "scaled cross-entropy": scaled_cross_entropy,
}
by_loss = {
    name: [stands(model, PGD(20, loss=loss)) for model in (usual, student)]
    for name, loss in aware.items()
}
for name, (one, other) in by_loss.items():
    print(f"{name:>21}: usual {one:6.1%} stand, student {other:6.1%}")
assert by_loss["cross-entropy"][1] > 0.5
assert max(by_loss[name][1] for name in list(aware)[1:]) < 0.25

# %% tags=["hide-input"]
radii = [0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2]
if FAST:
    radii = [0.0, 0.04, 0.1, 0.2]


def curve(model, loss):
    """What stands at each eps."""
    clean = share(model(x).argmax(1) == y)
    return [
        clean if eps == 0 else stands(model, PGD(20, loss=loss), eps)
        for eps in radii
    ]


figure, ax = plt.subplots(figsize=(6.4, 3.6))
ax.plot(
    radii,
    curve(student, cross_entropy),
    "o-",
    color=orange,
    label="student, cross-entropy",
)
ax.plot(radii, curve(student, margin), "s-", color=red, label="student, margin")
ax.plot(
    radii, curve(usual, margin), "--", color=blue, label="usual network, margin"
)
ax.set(xlabel="ε (L∞)", ylabel="accuracy that is left", ylim=(0, 1))
ax.legend(frameon=False)
figures.bare(ax)
keep("08_fallen")

# %% [markdown]
# The red curve lies on the dashed one: distilled or not, it is the same network to an attacker who looks at the right
# number. All of the orange curve's height was arithmetic.
#
# ## What a report should say
#
# Give the student to `evaluate`, with the blind attack as the whole plan, and say nothing about temperature.

# %%
from sparring import evaluate

fooled = evaluate(student, (x, y), Linf(0.1), plan=PGD(20))
print(f"what the verdict says: {fooled.robust_accuracy:.1%}, with these doubts:")
for doubt in fooled.doubts:
    print(f"- {doubt.name}: {doubt.meaning}")
honest = evaluate(student, (x, y), Linf(0.1), plan="standard")
print(
    f"the plan 'standard': {honest.robust_accuracy:.1%}, doubts: {len(honest.doubts)}"
)
assert "the curve agrees with the plan" in [doubt.name for doubt in fooled.doubts]
assert fooled.robust_accuracy < stands(student, PGD(20)) - 0.3
assert honest.robust_accuracy < min(0.25, fooled.robust_accuracy)
assert not honest.doubts

# %% [markdown]
# Its checks looked for the smallest perturbations, with a loss on the logits, and found them well inside the ball: the
# plan had stopped too early, and the verdict counts what the check broke. A doubted verdict is no verdict, and what
# it says is too high: the plan `standard`, which looks with several losses, breaks the student and leaves no doubt.
#
# ## Distillation that does something
#
# Soft labels *can* carry robustness, if there is some to carry and if the student is trained where the attacker will
# be. The teacher is now an adversarially trained network (chapter 7). **RSLAD** (Zi and others 2021) makes the
# teacher's clean probabilities the label of both $x$ and $x'$, and lets the attack lead away from just these; no true
# label is used. `Growing` raises $\varepsilon$ during the first half, so that the small network learns to read before
# it learns to defend.

# %%
from sparring.defend import RSLAD, AdversarialRisk, Growing

ball = Linf(0.1)
robust = fitted(Growing(AdversarialRisk(PGD(5), ball)), mnist_mlp(128))
taught = fitted(Growing(RSLAD(PGD(5), ball, robust)), mnist_mlp(32))
small = {
    "small, usual": fitted(Standard(), mnist_mlp(32)),
    "small, taught by RSLAD": taught,
    "its teacher, four times as wide": robust,
}
judged = {
    name: stands(model, PGD(20, loss=margin)) for name, model in small.items()
}
for name, left_over in judged.items():
    print(f"{name:>32}: {left_over:.1%} stand")
assert judged["small, taught by RSLAD"] > judged["small, usual"] + 0.3

# %% [markdown]
# ## Ensembles
#
# Another thought that everybody has: an attack must fool *one* network; let it fool three at once. Train three from
# different first weights. `Ensemble` is a module that answers with their mean logits (or probabilities, or votes).

# %%
from sparring.attack import Transfer
from sparring.models import Ensemble


def trio():
    """Three networks that differ in their first weights alone."""
    return Ensemble([mnist_mlp(32, seed=seed) for seed in range(3)])


plain = fitted(Standard(), trio())
member = plain.modules_held[0]
alone = stands(member, PGD(20))
moved = stands(plain, Transfer(member, attack=PGD(20)))
whole = stands(plain, PGD(20))
print(f"one member, attacked             : {alone:.1%} stand")
print(f"all three, one of them attacked  : {moved:.1%} stand")
print(f"all three, attacked as a whole   : {whole:.1%} stand")
assert moved > alone + 0.1
assert whole < moved - 0.1

# %% [markdown]
# The middle line is the number that sells ensembles, and it is the answer to a question nobody asked: what can an
# attacker do who knows *one third* of the model? An ensemble is a model like any other. Its gradient is the mean of
# the members' gradients, and PGD follows it. Votes have no gradient; a stand-in for the backward pass (here each
# member's softmax, chapter 3's exercise once more) is enough.

# %%
from sparring.models.adaptive import Votes

voting = Votes(list(plain.modules_held))
hidden = stands(Ensemble(list(plain.modules_held), "probabilities"), PGD(20))
voted = stands(voting, PGD(20))
print(f"mean of probabilities: {hidden:.1%} stand, votes: {voted:.1%}")
assert max(hidden, voted) < moved

# %% [markdown]
# ## Members that differ
#
# If members shared fewer adversarial inputs, the whole would gain. So *train* for it:
#
# - **ADP** (Pang and others 2019) spreads what members say about the *wrong* classes;
# - **GAL** (Kariyappa and Qureshi 2019) turns their input gradients away from each other;
# - **TRS** (Yang and others 2021) does so, and makes each gradient short: two smooth functions with gradients at right
#   angles cannot share many adversarial inputs;
# - **DVERGE** (Yang and others 2020) hides one member's features in an image, and teaches the others not to fall for
#   them.

# %%
from sparring.defend import DVERGE, GAL, TRS

several = {
    "side by side": plain,
    "GAL": fitted(GAL(), trio()),
    "TRS": fitted(TRS(PGD(3), ball), trio()),
    "DVERGE": fitted(DVERGE(PGD(5), ball, layers=("1", "3")), trio()),
}


def carried(ensemble):
    """How often what fools one member fools another: a 3 × 3 table."""
    members = ensemble.modules_held
    table = torch.empty(3, 3)
    for i, source in enumerate(members):
        near = PGD(10).perturb(source, x, y, Linf(0.1))
        for j, victim in enumerate(members):
            table[i, j] = share(victim(near).argmax(1) != y)
    return table


tables = {name: carried(ensemble) for name, ensemble in several.items()}
apart = ~torch.eye(3, dtype=torch.bool)
shared = {name: table[apart].mean().item() for name, table in tables.items()}
wholes = {name: stands(model, PGD(20)) for name, model in several.items()}
for name in several:
    print(
        f"{name:>12}: carries over {shared[name]:.0%}, as a whole {wholes[name]:.1%} stand"
    )
assert (
    max(shared["GAL"], shared["TRS"], shared["DVERGE"])
    < shared["side by side"] - 0.1
)
assert max(wholes.values()) < stands(robust, PGD(20))

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), sharey=True)
for ax, (name, table) in zip(axes, tables.items(), strict=True):
    ax.imshow(table.numpy(), vmin=0, vmax=1, cmap="Blues")
    for i in range(3):
        for j in range(3):
            ink = "white" if table[i, j] > 0.5 else "black"
            ax.text(j, i, f"{table[i, j]:.0%}", ha="center", va="center", color=ink)
    ax.set(
        title=f"{name}\nwhole: {wholes[name]:.0%} stand",
        xlabel="victim",
        xticks=range(3),
        yticks=range(3),
    )
axes[0].set_ylabel("attacked member")
keep("08_transfer")

# %% [markdown]
# Off the diagonal the tables turn pale: transfer between members falls, just as promised. The line above each table is
# what counts, though, and it moves less. Diversity training is a defence against an attacker who holds *another*
# model. Against one who holds yours, no trio here reaches one adversarially trained network; the authors of DVERGE say
# as much, and combine it with adversarial training.
#
# ## What to keep
#
# 1. A defence that makes the *attack* fail need not make the *model* hold. Ask what stopped the search.
# 2. Zero gradients, loud logits, votes: each has a loss or a stand-in that looks past it. Adapt, then measure.
# 3. "More steps find no more" proves that a search has ended, not that it has succeeded.
# 4. Soft labels carry robustness only from a robust teacher, and only where the student meets attacks in training.
# 5. An ensemble is one model. Attack it as one; transfer from a member is another threat model.
#
# ## Exercises
#
# 1. *How hot?* Distil at $T = 1, 5, 20$. From which temperature on does plain PGD stand still, and why there?
# 2. *Targets.* Does aiming PGD's cross-entropy at a class (`AllTargets`) see through the saturation? Think first.
# 3. *No gradient at all.* How does `Square`, which sees scores only, fare against the student?
#
# Solutions follow.

# %% tags=["hide-cell"]
# Solution 1: where T times the lead that a usual network has passes 104, beyond which a 32-bit probability is 0.
for heat in (1, 5, 20):
    hot = fitted(Tempered(heat), rate=min(2e-2, 3e-3 * heat), epochs=4)
    pupil = fitted(Distilled(hot, heat), rate=min(2e-2, 3e-3 * heat), epochs=4)
    v = x.clone().requires_grad_()
    loss = F.cross_entropy(pupil(v), y, reduction="sum")
    zeros = share(torch.autograd.grad(loss, v)[0].flatten(1).abs().amax(1) == 0)
    print(
        f"T = {heat:2}: gradient exactly 0 for {zeros:.0%}, {stands(pupil, PGD(20)):.1%} stand"
    )
    assert heat > 1 or zeros < 0.05

# %% tags=["hide-cell"]
# Solution 2: it does. Towards a class that has probability 0, the cross-entropy is large, and its gradient is not zero.
from sparring.attacks import AllTargets

aimed = stands(student, AllTargets(PGD(20), 4))
print(f"aimed at four classes: {aimed:.1%} stand")
assert aimed < stands(student, PGD(20)) - 0.3

# %% tags=["hide-cell"]
# Solution 3: it descends the margin of logits, and does not notice that there was a defence.
from sparring.attacks import Square

searched = stands(student, Square(300)), stands(usual, Square(300))
print(f"Square: student {searched[0]:.1%}, usual {searched[1]:.1%} stand")
assert searched[0] < stands(
    student, PGD(20)
)  # sees less, finds more: chapter 3's sign

# %% [markdown]
# ## Further reading
#
# - N. Papernot, P. McDaniel, X. Wu, S. Jha, A. Swami, *Distillation as a defense to adversarial perturbations against
#   deep neural networks*, IEEE S&P 2016, [arXiv:1511.04508](https://arxiv.org/abs/1511.04508).
# - N. Carlini, D. Wagner, *Towards evaluating the robustness of neural networks*, IEEE S&P 2017,
#   [arXiv:1608.04644](https://arxiv.org/abs/1608.04644). The attack that ended it.
# - M. Goldblum, L. Fowl, S. Feizi, T. Goldstein, *Adversarially robust distillation*, AAAI 2020,
#   [arXiv:1905.09747](https://arxiv.org/abs/1905.09747).
# - B. Zi, S. Zhao, X. Ma, Y.-G. Jiang, *Revisiting adversarial robustness distillation: robust soft labels make student
#   better*, ICCV 2021, [arXiv:2108.07969](https://arxiv.org/abs/2108.07969). RSLAD.
# - T. Pang, K. Xu, C. Du, N. Chen, J. Zhu, *Improving adversarial robustness via promoting ensemble diversity*, ICML
#   2019, [arXiv:1901.08846](https://arxiv.org/abs/1901.08846). ADP.
# - S. Kariyappa, M. K. Qureshi, *Improving adversarial robustness of ensembles with diversity training*, 2019,
#   [arXiv:1901.09981](https://arxiv.org/abs/1901.09981). GAL.
# - H. Yang and others, *DVERGE: diversifying vulnerabilities for enhanced robust generation of ensembles*, NeurIPS
#   2020, [arXiv:2009.14720](https://arxiv.org/abs/2009.14720).
# - Z. Yang and others, *TRS: transferability reduced ensemble via promoting gradient diversity and model smoothness*,
#   NeurIPS 2021, [arXiv:2104.00671](https://arxiv.org/abs/2104.00671).
# - W. He, J. Wei, X. Chen, N. Carlini, D. Song, *Adversarial example defenses: ensembles of weak defenses are not
#   strong*, WOOT 2017, [arXiv:1706.04701](https://arxiv.org/abs/1706.04701).
