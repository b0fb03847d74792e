"""The training loop: kept, killed and taken up again; shared by processes; averaged, augmented, told of and stopped."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from sparring import InputError, Linf, StoreError
from sparring.attacks import FGSM, PGD
from sparring.defend import (
    EMA,
    SWA,
    AdversarialRisk,
    Alarms,
    Crop,
    CutMix,
    Cutout,
    Epoch,
    Flip,
    FreeAT,
    Hardware,
    Holdout,
    Mixup,
    MultiStep,
    Risk,
    Standard,
    Step,
    Trades,
    TrainingRecord,
    constant,
    half_cosine,
    train,
)
from sparring.defend.loop import groups
from sparring.defend.risk import places
from sparring.defend.tracking import MLflow, TensorBoard
from sparring.errors import MissingExtraError, ModelError
from sparring.random import Random
from trained import THREAT, flat, fragile, network, trained

HERE = Path(__file__).parent


class KilledError(Exception):
    pass


def until(batches: int):
    """A watcher that kills the training at its so many-th look."""
    left = [batches]

    def watch(now: Step) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KilledError

    return watch


def spawned(*words: str, folder: Path, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, *launcher, str(HERE / "trained.py"), str(folder), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)


# Checkpoints


@pytest.mark.parametrize("killed_at", [1, 5, 8, 12])
def test_a_killed_training_goes_on_to_the_same_weights_to_the_bit(killed_at: int, tmp_path: Path):
    model, again = network(), network()
    record = trained(model, None)
    with pytest.raises(KilledError):
        trained(network(), tmp_path, progress=until(killed_at), minutes=0)
    resumed = trained(again, tmp_path)
    assert torch.equal(flat(model), flat(again))
    assert [epoch.loss for epoch in resumed.epochs] == [epoch.loss for epoch in record.epochs]
    assert [epoch.figures for epoch in resumed.epochs] == [epoch.figures for epoch in record.epochs]


@pytest.mark.slow
@pytest.mark.timeout(900)  # each process imports torch, which takes long where many do it at once
@pytest.mark.parametrize("killed_at", [17])
def test_a_training_that_the_system_kills_goes_on_to_the_same_weights_to_the_bit(killed_at: int, tmp_path: Path):
    assert spawned("normalised", str(killed_at), folder=tmp_path).returncode == -signal.SIGKILL
    assert not (tmp_path / "out.json").exists()
    done = spawned("normalised", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    whole = network()
    trained(whole, None)
    assert json.loads((tmp_path / "out.json").read_text())["weights"] == flat(whole).tolist()


@pytest.mark.parametrize(
    "risk", [Trades(PGD(2), THREAT), FreeAT(THREAT, 3), Standard()], ids=lambda risk: type(risk).__name__
)
def test_a_risk_with_a_memory_is_taken_up_with_it(risk: Risk, tmp_path: Path):
    model, again = network(), network()
    trained(model, None, risk=risk, average=SWA(0.3))
    with pytest.raises(KilledError):
        trained(network(), tmp_path, risk=risk, average=SWA(0.3), progress=until(12), minutes=0)
    trained(again, tmp_path, risk=risk, average=SWA(0.3))
    assert torch.equal(flat(model), flat(again))


def test_an_interrupt_waits_for_the_step_and_keeps_everything(tmp_path: Path):
    seen: list[Step] = []

    def watch(now: Step) -> None:
        seen.append(now)
        if len(seen) == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="the same call goes on"):
        trained(network(), tmp_path, progress=watch, minutes=60)
    assert len(seen) == 5
    model, again = network(), network()
    trained(model, None)
    trained(again, tmp_path, progress=seen.append)
    assert seen[5].done == 6 * 31
    assert seen[5].begun == 5 * 31
    assert torch.equal(flat(model), flat(again))


def test_a_finished_training_is_not_done_again(tmp_path: Path):
    model, again = network(), network()
    seen: list[Step] = []
    record = trained(model, tmp_path)
    assert trained(again, tmp_path, progress=seen.append) == record
    assert torch.equal(flat(model), flat(again))
    assert seen == []


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"seed": 1}, "seed"),
        ({"rate": 0.1}, "rate"),
        ({"risk": AdversarialRisk(PGD(3), THREAT)}, "risk"),
        ({"optimizer": partial(torch.optim.SGD, momentum=0.9)}, "optimizer"),
        ({"average": EMA(0.5), "epochs": 5}, "epochs and other average"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_in_a_sentence(
    settings: dict[str, object], what: str, tmp_path: Path
):
    with pytest.raises(KilledError):
        trained(network(), tmp_path, progress=until(3), minutes=0)
    with pytest.raises(StoreError, match=f"holds a training with other {what}; give another folder, or delete"):
        trained(network(), tmp_path, **settings)


def test_a_checkpoint_of_another_model_or_other_data_is_refused(tmp_path: Path):
    with pytest.raises(KilledError):
        trained(network(), tmp_path, progress=until(3), minutes=0)
    other = network()
    with torch.no_grad():
        other[0].bias[0] += 1
    with pytest.raises(StoreError, match="other weights to start from;"):
        trained(other, tmp_path)
    with pytest.raises(StoreError, match="other data"):
        train(network(), fragile(100), Standard(), folder=tmp_path)


def test_a_damaged_checkpoint_is_named_and_never_run(tmp_path: Path):
    (tmp_path / "checkpoint.pt").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    with pytest.raises(StoreError, match=r"checkpoint\.pt is damaged"):
        trained(network(), tmp_path)


def test_the_folder_holds_the_last_and_the_best_weights_and_the_record(tmp_path: Path):
    robust = iter([0.2, 0.7, 0.4, 0.5])
    after: list[dict[str, Tensor]] = []

    def measure(model: nn.Module) -> dict[str, float]:
        after.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"clean": 0.9, "robust": next(robust)}

    model = network()
    record = trained(model, tmp_path, measure=measure)
    assert (record.best, record.kept) == (2, 4)
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.pt",
        "weights.safetensors",
        "best.safetensors",
        "training.json",
    }
    for name, expected in (("best", after[1]), ("weights", after[3])):
        held = load_file(tmp_path / f"{name}.safetensors")
        assert all(torch.equal(held[key], value) for key, value in expected.items() if value.is_floating_point())
    assert json.loads((tmp_path / "training.json").read_text())["epochs"][1]["figures"]["robust"] == 0.7
    best = network()
    assert trained(best, tmp_path, measure=measure, keep="best").kept == 2
    assert torch.equal(best[0].weight, after[1]["0.weight"])


def test_the_best_cannot_be_kept_without_a_measure():
    with pytest.raises(InputError, match="give one, such as a Holdout"):
        trained(network(), None, measure=None, keep="best")


# Processes


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_as_one(tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    single = spawned("plain", folder=one)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    double = spawned("plain", folder=two, launcher=launcher)
    assert (single.returncode, double.returncode) == (0, 0), double.stderr
    first, second = (json.loads((folder / "out.json").read_text()) for folder in (one, two))
    assert first["losses"] == pytest.approx(second["losses"], abs=1e-4)
    assert first["weights"] == pytest.approx(second["weights"], abs=1e-4)
    assert first["losses"][-1] < first["losses"][0] - 0.03


def test_a_risk_is_told_the_places_of_its_samples_only_where_a_batch_is_shared(monkeypatch: pytest.MonkeyPatch):
    told: list[Tensor | None] = []

    @dataclass(frozen=True)
    class Listening(Risk):
        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
            told.append(places(seed))
            return F.cross_entropy(model(x), y)

    trained(network(), None, risk=Listening(), epochs=1)
    assert told == [None] * 7


# Averages, schedules, the optimizer


def test_a_stochastic_average_is_the_mean_of_the_weights_after_its_start():
    after: list[Tensor] = []
    model = network(normalised=False)

    def watch(now: Step) -> None:
        if not now.finished:
            after.append(flat(model))

    trained(model, None, epochs=2, average=SWA(0.5), augment=(), measure=None, progress=watch)
    mean = torch.stack(after[7:]).mean(0)
    torch.testing.assert_close(flat(model), mean, atol=1e-6, rtol=0)


def test_an_exponential_average_keeps_its_share_and_warms_up():
    average = EMA(0.99)
    assert average.share(0, 100) == 0.9
    assert average.share(10**6, 10**7) == pytest.approx(0.01)


def test_what_is_measured_is_the_average_and_the_training_goes_on_beside_it():
    plain, averaged = network(), network()
    measured: list[Tensor] = []

    def measure(model: nn.Module) -> dict[str, float]:
        measured.append(flat(model))
        return {"clean": 0.0}

    one = trained(plain, None, average=None, measure=None)
    other = trained(averaged, None, average=EMA(0.9), measure=measure)
    losses = [[epoch.loss for epoch in record.epochs] for record in (one, other)]
    assert losses[0] == losses[1]
    assert torch.equal(measured[-1], flat(averaged))
    assert not torch.equal(flat(plain), flat(averaged))


def test_schedules_begin_and_end_where_they_say():
    steps = MultiStep((0.5, 0.75), 0.1)
    assert [steps(t, 100) for t in (0, 49, 50, 74, 75, 99)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert (half_cosine(0, 11), half_cosine(5, 11), half_cosine(10, 11)) == pytest.approx((1, 0.5, 0))
    assert constant(7, 10) == 1
    with pytest.raises(InputError, match="shares between 0 and 1"):
        MultiStep((30.0,))


def test_weights_decay_and_biases_and_normalisation_do_not():
    decayed, spared = groups(network(), 0.1)
    assert [tuple(weight.shape) for weight in decayed["params"]] == [(16, 24), (2, 16)]
    assert [tuple(weight.shape) for weight in spared["params"]] == [(16,), (16,), (16,), (2,)]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


def test_a_gradient_is_clipped_to_the_norm_that_is_asked_for():
    model = network(normalised=False)
    before = flat(model)
    settings = {"optimizer": torch.optim.SGD, "schedule": constant, "rate": 1.0}
    train(model, fragile(31), Standard(), epochs=1, clip=0.01, **settings)
    assert (flat(model) - before).norm().item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_training_in_half_precision_learns(precision: str):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(24, 2)
    measure = Holdout(*fragile(64), PGD(5), THREAT)
    risk, hardware = AdversarialRisk(PGD(3), THREAT), Hardware(precision)
    record = train(model, fragile(), risk, epochs=8, batch_size=64, rate=0.1, measure=measure, hardware=hardware)
    assert model.weight.dtype == torch.float32
    assert record.epochs[-1].figures["robust"] > 0.9


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="give auto, float32, bfloat16, float16"):
        trained(network(), None, hardware=Hardware("half"))


def test_images_lie_channels_last_where_the_model_can_take_it():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.last = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Linear(144, 2)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.layers(x)
            return self.last(hidden.view(len(x), -1))

    x = torch.rand(2, 3, 8, 8)
    flattening = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    assert Hardware().lies_last(flattening, x)
    assert not Hardware().lies_last(Views(), x)
    assert not Hardware().lies_last(nn.Flatten(), x)
    assert not Hardware(channels_last=False).lies_last(flattening, x)


def test_a_batch_is_replayed_as_often_as_the_risk_wants():
    calls: list[int] = []

    @dataclass(frozen=True)
    class Thrice(Risk):
        @property
        def replays(self) -> int:
            return 3

        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
            calls.append(int(seed))
            return F.cross_entropy(model(x), y)

    record = trained(network(), None, risk=Thrice(), epochs=1)
    assert len(calls) == len(set(calls)) == 21
    assert len(record.epochs) == 1


def test_a_risk_knows_how_much_of_the_training_is_behind():
    shares: list[float] = []

    @dataclass(frozen=True)
    class Growing(Risk):
        def at(self, share: float) -> Risk:
            shares.append(share)
            return self

        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
            return F.cross_entropy(model(x), y)

    trained(network(), None, risk=Growing(), epochs=2)
    assert shares == pytest.approx([t / 14 for t in range(14)])


def test_samples_fetched_ahead_train_the_same_model():
    x, y = fragile(100)
    models = network(), network()
    for model, workers in zip(models, (0, 1), strict=True):
        train(model, TensorDataset(x, y), Standard(), epochs=1, hardware=Hardware(workers=workers))
    assert torch.equal(flat(models[0]), flat(models[1]))


# Augmentations


def images(n: int = 12) -> tuple[Tensor, Tensor]:
    return torch.rand(n, 3, 9, 10, generator=torch.Generator().manual_seed(0)), torch.arange(n)


def augmented(augment, ids: Tensor, epoch: int = 0) -> tuple[Tensor, Tensor]:
    x, y = images()
    others = lambda draws: tuple(part[(draws * len(x)).long()] for part in (x, y))
    return augment(x[ids], y[ids], Random(0, ids, stream=epoch), others)


@pytest.mark.parametrize("augment", [Flip(), Crop(2), Cutout(4), Mixup(), Mixup(0.3), CutMix()], ids=repr)
def test_what_an_augmentation_does_to_a_sample_depends_on_no_other(augment):
    ids = torch.arange(12)
    whole, labels = augmented(augment, ids)
    some, few = augmented(augment, ids[[7, 2]])
    assert torch.equal(whole[[7, 2]], some)
    assert torch.equal(labels[[7, 2]], few)
    assert not torch.equal(whole, augmented(augment, ids, epoch=1)[0])
    assert whole.shape == images()[0].shape
    assert 0 <= whole.min() <= whole.max() <= 1


def test_a_flip_mirrors_about_half_of_the_images():
    x, ids = images()[0], torch.arange(12)
    flipped = augmented(Flip(), ids)[0]
    same, mirrored = ((flipped == other).flatten(1).all(1) for other in (x, x.flip(-1)))
    assert (same | mirrored).all()
    assert 2 < mirrored.sum() < 10


def test_a_crop_is_a_window_of_the_padded_image():
    x = images()[0]
    cropped = augmented(Crop(2), torch.arange(12))[0]
    wide = F.pad(x, (2, 2, 2, 2))
    windows = [wide[:, :, a : a + 9, b : b + 10] for a in range(5) for b in range(5)]
    found = torch.stack([(window == cropped).flatten(1).all(1) for window in windows])
    assert found.any(0).all()
    assert found.float().argmax(0).unique().numel() > 4


def test_a_cutout_blackens_a_square_that_the_edge_may_cut():
    x = images()[0]
    black = (augmented(Cutout(4), torch.arange(12))[0] != x).any(1).flatten(1).sum(1)
    assert 4 <= black.min() <= black.max() == 16


@pytest.mark.parametrize("mix", [Mixup(), CutMix()], ids=repr)
def test_a_mixed_label_is_drawn_by_what_is_seen_of_either_image(mix):
    n = 4000
    x, y = torch.zeros(n, 1, 8, 8), torch.zeros(n, dtype=torch.long)
    others = lambda draws: (torch.ones(n, 1, 8, 8), torch.ones(n, dtype=torch.long))
    mixed, labels = mix(x, y, Random(0, torch.arange(n)), others)
    foreign = mixed.flatten(1).mean(1)
    middle = (foreign > 0.4) & (foreign < 0.6)
    assert labels[middle].double().mean().item() == pytest.approx(0.5, abs=0.06)
    assert labels.double().mean().item() == pytest.approx(foreign.double().mean().item(), abs=0.03)


# Alarms


def course(*robust: float, falling: bool = True) -> list[Epoch]:
    return [Epoch(1 / (t + 1) if falling else 1.0 + t, 0.1, 1.0, {"robust": value}) for t, value in enumerate(robust)]


def alarm_of(epochs: list[Epoch]) -> str:
    alarm = Alarms().raised(epochs)
    return alarm.name if alarm is not None else ""


def test_alarms_tell_collapse_and_overfitting_from_ordinary_courses():
    assert alarm_of(course(0.3, 0.41, 0.02)) == "catastrophic overfitting"
    assert alarm_of(course(0.3, 0.41, 0.38)) == ""
    assert alarm_of(course(0.06, 0.01)) == ""
    assert alarm_of(course(0.5, 0.47, 0.46, 0.45)) == "robust overfitting"
    assert alarm_of(course(0.5, 0.47, 0.49, 0.45)) == ""
    assert alarm_of(course(0.5, 0.47, 0.46, 0.45, falling=False)) == ""
    assert alarm_of(course(0.3)) == ""
    assert Alarms().raised([Epoch(1.0, 0.1, 1.0), Epoch(0.5, 0.1, 1.0)]) is None


def test_robust_overfitting_is_told_by_training_data_where_they_are_measured():
    epochs = course(0.5, 0.47, 0.46, 0.45, falling=False)
    seen = [replace(one, figures=one.figures | {"robust on training data": 0.1 * t}) for t, one in enumerate(epochs)]
    assert alarm_of(seen) == "robust overfitting"
    assert alarm_of([replace(one, figures=one.figures | {"robust on training data": 0.5}) for one in epochs]) == ""


def test_a_collapsed_training_stops_with_the_weights_from_before(tmp_path: Path):
    robust = iter([0.2, 0.5, 0.01, 0.3])
    after: list[Tensor] = []
    heard: list[Step] = []
    model = network()
    record = trained(
        model,
        tmp_path,
        measure=lambda model: after.append(flat(model)) or {"robust": next(robust)},
        alarms=Alarms(stop=True),
        progress=heard.append,
    )
    assert [alarm.name for alarm in record.alarms] == ["catastrophic overfitting"]
    assert len(record.epochs) == 3
    assert record.kept == record.best == 2
    assert torch.equal(flat(model), after[1])
    assert "fell from 50.0 % to 1.0 % within epoch 3" in heard[-1].alarm
    assert trained(network(), tmp_path, measure=lambda model: {}, alarms=Alarms(stop=True)) == record


def mislabelled(n: int, seed: int, share: float) -> tuple[Tensor, Tensor]:
    """Two classes 0.16 apart in each of a hundred features, among noise; a share of the labels is wrong."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 2
    x = 0.5 + (2 * y - 1)[:, None] * 0.08 + 0.1 * torch.randn(n, 100, generator=generator)
    return x.clamp(0, 1), torch.where(torch.rand(n, generator=generator) < share, 1 - y, y)


@pytest.mark.slow
def test_a_training_against_one_step_collapses_in_earnest_and_is_told_of_and_one_against_more_does_not():
    """It fits wrong labels at the single step's points alone, by bending between them: loss falls, and so does all."""
    threat, test = Linf(0.06), mislabelled(200, 1, 0.0)

    def course(attack: PGD) -> tuple[TrainingRecord, float]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            wide = [layer for size in (100, 256, 256) for layer in (nn.Linear(size, 256), nn.ReLU())]
            model = nn.Sequential(Centred(), *wide, nn.Linear(256, 2))
        record = train(
            model,
            mislabelled(300, 0, 0.1),
            AdversarialRisk(attack, threat),
            epochs=60,
            batch_size=50,
            rate=3e-3,
            decay=0.0,
            schedule=constant,
            measure=Holdout(*test, PGD(10), threat),
            keep="best",
            alarms=Alarms(stop=True, patience=60),
        )
        return record, 1 - PGD(10)(model.eval(), *test, threat).success.double().mean().item()

    fallen, kept = course(FGSM())
    assert [alarm.name for alarm in fallen.alarms] == ["catastrophic overfitting"]
    assert fallen.epochs[-1].figures["robust"] < 0.4
    assert fallen.epochs[-1].loss < fallen.epochs[fallen.kept - 1].loss / 2
    assert kept == fallen.epochs[fallen.kept - 1].figures["robust"] > 0.9
    steady, _ = course(PGD(5))
    assert not steady.alarms
    assert min(epoch.figures["robust"] for epoch in steady.epochs[10:]) > 0.8


class Centred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 4 * (x - 0.5)


def test_a_holdout_can_look_at_training_data_too_and_no_batch_size_changes_it():
    model = network()
    trained(model, None)
    held = Holdout(*fragile(50), PGD(3), THREAT, seen=fragile(20), batch_size=7)
    figures = held(model.eval())
    assert set(figures) == {"clean", "robust", "robust on training data"}
    assert figures == replace(held, batch_size=100)(model)
    assert figures["robust on training data"] == Holdout(*fragile(20), PGD(3), THREAT)(model)["robust"]


# Trackers


def test_a_tracker_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    for make in (TensorBoard, MLflow):
        with pytest.raises(MissingExtraError, match=r"sparring\[track\]"):
            make("here")


def test_mlflow_is_told_of_every_epoch_and_of_some_batches(monkeypatch: pytest.MonkeyPatch):
    said: list[tuple[int, dict[str, float]]] = []
    ended: list[bool] = []
    fake = SimpleNamespace(
        set_experiment=lambda name: None,
        start_run=lambda: SimpleNamespace(info=SimpleNamespace(run_id="7")),
        log_metrics=lambda figures, step, run_id: said.append((step, figures)),
        end_run=lambda: ended.append(True),
    )
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    trained(network(), None, track=[MLflow("course")])
    assert [step for step, figures in said if "held out/robust" in figures] == [200, 400, 600, 800]
    assert len(said) == 5
    assert ended == [True]


def test_arrays_are_trained_on_as_the_tensors_that_they_hold():
    x, y = fragile(32)
    models = []
    for data in ((x, y), (x.numpy(), y.numpy())):
        torch.manual_seed(0)
        models.append(nn.Linear(x[0].numel(), 2))
        train(models[-1], data, Standard(), epochs=1, batch_size=16)
    assert torch.equal(models[0].weight, models[1].weight)


def test_bytes_are_trained_on_as_the_floats_that_they_stand_for():
    x, y = (fragile(32)[0] * 255).byte(), fragile(32)[1]
    models = []
    for data in ((x.float() / 255, y), (x, y)):
        torch.manual_seed(0)
        models.append(nn.Linear(x[0].numel(), 2))
        train(models[-1], data, Standard(), epochs=1, batch_size=16)
    assert torch.equal(models[0].weight, models[1].weight)


def test_a_model_that_refuses_what_it_is_trained_on_is_told_so_in_a_sentence():
    net, y = nn.Sequential(nn.Conv2d(3, 2, 4), nn.Flatten()), torch.zeros(8, dtype=torch.long)
    with pytest.raises(ModelError, match=r"refused inputs of shape \(2, 4, 4, 3\).*; the inputs are channels last"):
        train(net, (torch.rand(8, 4, 4, 3), y), Standard(), epochs=1)
    with pytest.raises(KeyError, match="of the risk's own making"):
        train(net, (torch.rand(8, 3, 4, 4), y), Unlucky(), epochs=1)


class Unlucky(Risk):
    def __call__(self, model, x, y, seed=0):
        raise KeyError("of the risk's own making")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": "net"}, "the model is a str; give an nn.Module"),
        ({"risk": "trades"}, r"the risk is 'trades'; give one with its settings"),
        ({"risk": Standard}, "the risk is the class Standard; give one"),
        ({"augment": Flip()}, r"augment is Flip\(\) alone; give a sequence, as in \[Flip\(\)\]"),
        ({"epochs": 1.5}, "and counts must be whole"),
        ({"data": torch.rand(8, 4)}, r"the data is a Tensor; give a pair \(x, y\)"),
        ({"data": (torch.rand(8, 4), torch.zeros(3).long())}, "there are 8 inputs and 3 labels"),
        ({"data": (torch.full((8, 4), torch.nan), torch.zeros(8).long())}, "the inputs hold NaN or infinity"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_step(changed, said):
    given = {"model": nn.Linear(4, 2), "data": (torch.rand(8, 4), torch.zeros(8).long()), "risk": Standard()}
    with pytest.raises(InputError, match=said):
        train(**given | {"epochs": 1} | changed)


def test_labels_of_any_whole_kind_are_trained_on():
    x, y = fragile(32)
    models = []
    for labels in (y, y.int(), y.byte()):
        torch.manual_seed(0)
        models.append(nn.Linear(x[0].numel(), 2))
        train(models[-1], (x, labels), Standard(), epochs=1, batch_size=16)
    assert all(torch.equal(models[0].weight, other.weight) for other in models)


def test_an_exported_program_is_refused_where_it_is_to_be_trained():
    net = nn.Linear(4, 2)
    program = torch.export.export(net, (torch.rand(2, 4),)).module()
    with pytest.raises(InputError, match="an exported program, which has no training mode"):
        train(program, (torch.rand(8, 4), torch.zeros(8, dtype=torch.long)), Standard(), epochs=1)
