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
# # 7. Adversarial training
#
# The one defence that has stood for ten years is the plainest: attack the network while it learns, and let it learn
# from what the attack finds. It is a game of two players,
#
# $$
# \min_\theta \; \mathbb{E}_{(x, y)} \; \max_{\delta \in S} \; L \big( f_\theta(x + \delta), y \big) ,
# $$
#
# and the price is plain as well: an attack at every step of training. Here you
#
# - write the loop in a dozen lines, and see what it buys and what it costs;
# - use the library's loop, and look at both accuracies after every epoch;
# - trade one accuracy for the other with TRADES;
# - make the network overfit robustly, hear the alarm, and keep the right epoch;
# - kill a training in the middle, and take it up again to the same weights, bit for bit;
# - end with a verdict, because what training measures is not one.
#
# It runs in about half a minute: `python docs/course/07_adversarial_training.py`.

# %% tags=["hide-input"]
import tempfile

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from sparring.explain.course import chapter

# FAST: fewer samples, for the tests; keep: saves the current figure under a name
FAST, keep = chapter(globals().get("__file__", ""))

# %% [markdown]
# ## The loop, by hand
#
# Handwritten digits, 14 × 14 pixels so that everything is quick, and a network of two layers. The attacker may change
# every pixel by 0.1 of a scale from 0 to 1.

# %%
from sparring import Linf
from sparring.attacks import PGD
from sparring.samples import digits

held = digits()
known = 1000 if FAST else 2000
small = lambda x: F.avg_pool2d(x, 2)
train_x, train_y = small(held.train_x[:known]), held.train_y[:known]
test_x, test_y = small(held.test_x[:300]), held.test_y[:300]
EPS = 0.1
THREAT = Linf(EPS)


def network() -> nn.Sequential:
    """Two layers, with the same first weights every time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(196, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def worst(model, x, y, steps):
    """PGD as chapter 3 had it: the inner maximum, as far as a few steps find it."""
    delta = EPS * (2 * torch.rand_like(x) - 1)
    for _ in range(steps):
        delta.requires_grad_()
        loss = F.cross_entropy(model(x + delta), y)
        (slope,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + 2.5 * EPS / steps * slope.sign()).clamp(-EPS, EPS)
        delta = (x + delta).clamp(0, 1) - x
    return x + delta.detach()


def by_hand(steps, epochs=6):
    """Train against an attack of so many steps; 0 is ordinary training."""
    model = network()
    descent = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(train_x)).split(64):
            x, y = train_x[index], train_y[index]
            if steps:
                x = worst(model, x, y, steps)
            descent.zero_grad()
            F.cross_entropy(model(x), y).backward()
            descent.step()
    return model.eval()


def accuracy(model, attack=None):
    """The share of test digits read rightly, as they are or whatever the attack does to them."""
    if attack is None:
        return (model(test_x).argmax(1) == test_y).double().mean().item()
    return (
        1
        - attack(model, test_x, test_y, THREAT, seed=0)
        .success.double()
        .mean()
        .item()
    )


ordinary, hardened = by_hand(0), by_hand(5)
for name, model in (("ordinary", ordinary), ("hardened", hardened)):
    print(
        f"{name}: {accuracy(model):.1%} right, {accuracy(model, PGD(20)):.1%} under attack"
    )
assert accuracy(ordinary, PGD(20)) < 0.2
assert accuracy(hardened, PGD(20)) > accuracy(ordinary, PGD(20)) + 0.3
assert accuracy(hardened) < accuracy(ordinary)  # the price, beside the time

# %% [markdown]
# A dozen lines turn a network that any attack breaks into one that mostly stands. Two prices were paid. Time: five
# steps of the attack and one of training are six gradients instead of one. And accuracy on digits that nobody touches:
# the network may no longer use features that an attacker of this size can turn over, however well they predict.
#
# ## The library's loop
#
# A **risk** says what is minimised; it is *given* an attack and a threat model. `train` minimises it, and after every
# epoch a **measure** looks at the model: here at held-out digits, as they are and under ten steps.

# %%
from sparring.defend import AdversarialRisk, Holdout, Standard, Trades, train

look = Holdout(test_x, test_y, PGD(10), THREAT)
EPOCHS = 7 if FAST else 10


def course(risk, **settings):
    """A fresh network trained by the risk, and the record of it."""
    model = network()
    given = {
        "epochs": EPOCHS,
        "batch_size": 64,
        "rate": 4e-3,
        "measure": look,
    } | settings
    data = given.pop("data", (train_x, train_y))
    return model, train(model, data, risk, **given)


def curve(record, name="robust"):
    """One figure after each epoch."""
    return [epoch.figures[name] for epoch in record.epochs]


plain_model, plain = course(Standard())
pgd_model, pgd = course(AdversarialRisk(PGD(5), THREAT))
print(
    f"held out, attacked: ordinary {curve(plain)[-1]:.1%}, against PGD {curve(pgd)[-1]:.1%}"
)
assert curve(pgd)[-1] > curve(plain)[-1] + 0.2
assert curve(plain, "clean")[-1] > 0.85

plt.figure(figsize=(6.4, 3))
for record, name, colour in ((plain, "ordinary", "C3"), (pgd, "against PGD", "C0")):
    epochs = range(1, len(record.epochs) + 1)
    plt.plot(
        epochs,
        curve(record, "clean"),
        "--",
        color=colour,
        label=f"{name}, untouched",
    )
    plt.plot(epochs, curve(record), color=colour, label=f"{name}, attacked")
plt.xlabel("epoch")
plt.ylabel("accuracy")
plt.ylim(0, 1)
plt.legend(fontsize=8)
keep("07_courses")

# %% [markdown]
# The network by hand and the library's agree about what can be had, though no draw of theirs is the same.

# %%
assert abs(accuracy(hardened, PGD(20)) - accuracy(pgd_model.eval(), PGD(20))) < 0.15

# %% [markdown]
# ## One accuracy for the other
#
# TRADES (Zhang and others 2019) splits the aim in two: be right on x, and *do not change your mind* around it. The
# weight β between the two is a dial.
#
# $$ L\big(f(x), y\big) \; + \; \beta \max_{\delta \in S} \operatorname{KL}\big( f(x) \,\|\, f(x + \delta) \big) $$

# %%
dial = {}
for beta in (0.5, 6.0):
    model, record = course(Trades(PGD(5), THREAT, beta=beta))
    dial[beta] = record.epochs[-1].figures
    print(
        f"beta {beta:g}: clean {dial[beta]['clean']:.1%}, attacked {dial[beta]['robust']:.1%}"
    )
assert dial[6.0]["robust"] > dial[0.5]["robust"]

# %% [markdown]
# ## Robust overfitting
#
# Ordinary networks may be trained far past the point where they know every training image by heart, and get no worse.
# Hardened ones get worse (Rice, Wong and Kolter 2020). It shows best where data are few: here are 200 digits, for long.
# The measure also looks at training digits under attack, so that the two curves can part.

# %%
from sparring.defend import Alarms, Epoch

few = train_x[:200], train_y[:200]
both = Holdout(test_x, test_y, PGD(10), THREAT, seen=few)
long = 30 if FAST else 60
over_model, over = course(
    AdversarialRisk(PGD(5), THREAT),
    data=few,
    measure=both,
    epochs=long,
    rate=5e-3,
    keep="best",
)
seen, unseen = curve(over, "robust on training data"), curve(over)
print(
    f"robust on training digits {seen[-1]:.1%}, on others {unseen[-1]:.1%}, at best {max(unseen):.1%}"
)
print(f"kept: epoch {over.kept} of {len(over.epochs)}")
assert seen[-1] > unseen[-1] + 0.2
assert max(unseen) == unseen[over.kept - 1]
assert over.kept == over.best

plt.figure(figsize=(6.4, 3))
plt.plot(range(1, long + 1), seen, label="digits of the training, attacked")
plt.plot(range(1, long + 1), unseen, label="other digits, attacked")
plt.axvline(over.kept, color="0.6", linestyle=":", label="kept")
plt.xlabel("epoch")
plt.ylabel("accuracy")
plt.legend(fontsize=8)
keep("07_overfitting")

# %% [markdown]
# One curve climbs towards the top, the other stands still, and here falls only a little below its best; on natural
# images it falls by several points. `keep="best"` ends with the weights of the epoch that held best. Where the held-
# out curve stays two points under its best for three epochs while training still improves, the record carries an
# **alarm**; another one tells of **catastrophic overfitting**, when training against an attack of a single step
# suddenly teaches the network to fool that one step, and robust accuracy falls off a cliff within an epoch. Alarms
# look at nothing but the record:

# %%
told = [
    Epoch(loss, 0.1, 1.0, {"robust": value})
    for loss, value in ((2.0, 0.3), (1.5, 0.41), (0.7, 0.02))
]
alarm = Alarms().raised(told)
assert alarm is not None
print(f"{alarm.name}: {alarm.meaning}")
assert alarm.name == "catastrophic overfitting"
assert Alarms().raised(told[:2]) is None

# %% [markdown]
# ## Killed, and taken up again
#
# Hardening takes hours to days, and machines are taken away meanwhile. With a folder, `train` keeps its state there;
# the same call goes on. Nothing random has to be kept, for every draw follows from the seed and the number of the
# step, so the weights at the end are the same *to the bit*.


# %%
class PulledPlugError(Exception):
    pass


def pull(now):
    """A watcher that ends the training in the middle of its second epoch."""
    if now.epoch == 2 and now.done > 1.5 * known:
        raise PulledPlugError


risk = AdversarialRisk(PGD(3), THREAT)
whole, _ = course(risk, epochs=3)
with tempfile.TemporaryDirectory() as folder:
    try:
        course(risk, epochs=3, folder=folder, minutes=0, progress=pull)
    except PulledPlugError:
        print("the plug was pulled")
    resumed, record = course(risk, epochs=3, folder=folder)
for first, second in zip(whole.parameters(), resumed.parameters(), strict=True):
    assert torch.equal(first, second)
assert len(record.epochs) == 3

# %% [markdown]
# ## A verdict
#
# What was measured after each epoch is ten steps of one attack on digits that also chose the epoch. That is a
# thermometer for the training, not a verdict. So: other digits, a plan of several attacks, checks, intervals.

# %%
from sparring import evaluate

fresh = small(held.test_x[300:400]), held.test_y[300:400]
model = pgd_model.eval().requires_grad_(False)
verdict = evaluate(model, fresh, THREAT, plan="quick" if FAST else "standard")
low, high = verdict.interval
print(
    f"clean {verdict.clean_accuracy:.1%}, robust at most {verdict.robust_accuracy:.1%} ({low:.1%} to {high:.1%})"
)
cheap = 1 - PGD(10)(model, *fresh, THREAT, seed=0).success.double().mean().item()
assert verdict.clean_accuracy > verdict.robust_accuracy > 0.2

# %% [markdown]
# The thermometer reads too high, if anything: what ten steps of PGD break, the plan breaks as well.

# %%
print(f"ten steps left {cheap:.1%}, the plan {verdict.robust_accuracy:.1%}")
assert verdict.robust_accuracy <= cheap

# %% [markdown]
# On the command line all of this is one line, which ends with the verdict and a card that says how the model was made:
#
#     sparring train net.py:make --data train.npz --val val.npz --test test.npz -t linf:0.1 --risk trades --set beta=6
#
# The hardened model is then `net.py:make@sparring-training/weights.safetensors`, for every other command.
#
# ## To try
#
# 1. Train against `FGSM()` at a larger eps, for long, and plot the held-out curve under PGD. When does it fall? Which
#    of `NFGSM` and `GradAlign` keeps it up?
# 2. Put `AWP(…)` around the risk of the section on overfitting. Do the curves part later?
# 3. Train at eps 0.1 and draw accuracy against eps (`verdict.curve()`). Where does the ordinary network's curve cross
#    it?
