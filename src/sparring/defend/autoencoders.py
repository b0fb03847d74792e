"""MagNet: an autoencoder that knows honest inputs moves others towards them, and what it cannot redraw is rejected."""

import torch
import torch.nn.functional as F
from torch import nn

from sparring.defend.detectors import Detector, guarded
from sparring.defend.images import fit
from sparring.errors import InputError
from sparring.models import Guarded
from sparring.models.defended import Account, Defence
from sparring.types import Batch, PerSample

BROKEN = "Carlini & Wagner 2017, arXiv:1711.08478"


class Autoencoder(nn.Module):
    """Redraws images in [0, 1] from a quarter of their places: two convolutions on the way down, three on the way up.

    As in the paper's table 2 but for the nonlinearity, which is ReLU where theirs is the sigmoid: it fits in seconds.
    """

    def __init__(self, channels: int = 1, width: int = 8):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(width, width, 3, padding=1)
        )
        self.up = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2.0),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, x: Batch) -> Batch:
        """The redrawn images."""
        if x.shape[2] % 2 or x.shape[3] % 2:
            raise InputError(f"images of {x.shape[2]} × {x.shape[3]} cannot be halved; pad them to even sides")
        return self.up(self.down(x)).sigmoid()


def fit_autoencoder(
    x: Batch,
    width: int = 8,
    *,
    noise: float = 0.1,
    epochs: int = 10,
    rate: float = 1e-2,
    batch_size: int = 128,
    seed: int = 0,
) -> Autoencoder:
    """An autoencoder fitted to redraw these clean images from noisy ones, by the mean squared error.

    `noise` is the standard deviation of what is added, in units of the box.

    Reference: Meng & Chen, "MagNet: a two-pronged defense against adversarial examples", CCS 2017, arXiv:1705.09064,
    section 5.2.
    """
    if x.ndim != 4:
        raise InputError(f"inputs of shape {tuple(x.shape)} are no images; give n × channels × height × width")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = Autoencoder(x.shape[1], width).to(x)

    def loss(part: Batch) -> PerSample:
        noisy = (part + noise * torch.randn_like(part)).clamp(0, 1)
        return (network(noisy) - part).square().flatten(1).mean(1)

    fit(network, loss, x, epochs, rate, batch_size, seed)
    return network


class Reformer(Defence):
    """Inputs as the autoencoder redraws them, in front of a model. Section 4.3 there."""

    def __init__(self, autoencoder: nn.Module):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, x: Batch) -> Batch:
        """The redrawn inputs."""
        return self.autoencoder(x)

    @property
    def account(self) -> Account:
        return Account("has its inputs redrawn by an autoencoder", "through the autoencoder", BROKEN)


class Reconstruction(Detector):
    """How far an input is from what the autoencoder redraws of it: the mean of |difference| ** p. Section 4.2.1."""

    def __init__(self, autoencoder: nn.Module, p: float = 1.0):
        super().__init__()
        self.autoencoder, self.p = autoencoder, p

    def score(self, x: Batch) -> PerSample:
        return (x - self.autoencoder(x)).abs().pow(self.p).flatten(1).mean(1)

    @property
    def account(self) -> Account:
        return Account("measures what its autoencoder cannot redraw", "with that error in the loss", BROKEN)


class Divergence(Detector):
    """How far apart the model's answers to an input and to its redrawing are: Jensen & Shannon's, in nats.

    Both are softened by a temperature first. Section 4.2.2.
    """

    def __init__(self, model: nn.Module, autoencoder: nn.Module, temperature: float = 10.0):
        super().__init__()
        self.model, self.autoencoder, self.temperature = model, autoencoder, temperature

    def score(self, x: Batch) -> PerSample:
        here, there = (F.log_softmax(self.model(one) / self.temperature, 1) for one in (x, self.autoencoder(x)))
        middle = torch.logaddexp(here, there) - torch.log(here.new_tensor(2.0))
        first, second = ((one.exp() * (one - middle)).sum(1) for one in (here, there))
        return (first + second) / 2

    @property
    def account(self) -> Account:
        return Account("compares its answer with that to the input redrawn", "through the autoencoder", BROKEN)


def magnet(model: nn.Module, autoencoder: nn.Module, x: Batch, rejected: float = 0.05) -> Guarded:
    """The whole: the model behind the reformer, guarded by a detector of each kind; x sets the thresholds."""
    reformed = nn.Sequential(Reformer(autoencoder), model)
    reformed.training = model.training
    return guarded(reformed, (Reconstruction(autoencoder), Divergence(model, autoencoder)), x, rejected)
