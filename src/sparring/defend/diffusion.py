"""Diffusion purification: noise drowns the attack, and a denoiser brings back an honest image."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sparring.errors import InputError
from sparring.models.defended import Account, Defence
from sparring.types import Batch

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""The noise in images in [-1, 1] that were mixed with it up to time t (one whole number a sample)."""


class DiffPure(Defence):
    """Images in [0, 1] mixed with noise up to time `until`, then cleaned in `steps` steps of the reverse process.

    `kept` holds the product of (1 - β) up to each time, from nearly 1 down: what is kept of the image's variance
    (`alphas_cumprod` elsewhere; `linear_schedule` makes the usual one). The noise is drawn from torch's default
    generator, one draw for the whole batch, so that no row depends on its place in it; judge it by its mean
    (`Averaged`). The gradient is that of the whole chain; it holds one step in memory and computes the others again.

    Reference: Nie et al., "Diffusion models for adversarial purification", ICML 2022, arXiv:2205.07460, section 3, with
    the discrete steps of Ho, Jain & Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020, arXiv:2006.11239,
    equations (6) and (7), over some of the times only. Attacked so in Lee & Kim, "Robust evaluation of diffusion-based
    adversarial purification", ICCV 2023, arXiv:2303.09051.
    """

    kept: Tensor

    def __init__(self, denoiser: Denoiser, kept: Tensor, until: int, steps: int | None = None):
        super().__init__()
        if kept.ndim != 1 or not bool(((kept > 0) & (kept < 1)).all()) or not bool((kept.diff() < 0).all()):
            raise InputError("what is kept must be numbers between 0 and 1, one a time, each below the one before it")
        if not 0 <= until < len(kept) or not (steps is None or 1 <= steps <= until + 1):
            raise InputError(
                f"until is {until} and steps {steps}; give a time below {len(kept)}, and 1 to {until + 1} steps"
            )
        self.denoiser, self.until, self.steps = denoiser, until, steps or until + 1
        self.register_buffer("kept", kept.clone().float())

    def forward(self, x: Tensor) -> Tensor:
        """The purified images."""
        times = torch.linspace(self.until, 0, self.steps).round().long().tolist()
        start = self.kept[self.until]
        noisy = start.sqrt() * (2 * x - 1) + (1 - start).sqrt() * self._noise(x)
        for now, then in zip(times, [*times[1:], None], strict=True):
            noise = torch.zeros_like(x) if then is None else self._noise(x)
            again = torch.is_grad_enabled() and noisy.requires_grad
            step = (self._back, noisy, noise, now, then)
            noisy = checkpoint(*step, use_reentrant=False, preserve_rng_state=False) if again else step[0](*step[1:])
        return ((noisy + 1) / 2).clamp(0, 1)

    def _back(self, noisy: Tensor, noise: Tensor, now: int, then: int | None) -> Tensor:
        """From one time to an earlier one; to the image itself where there is none."""
        here = self.kept[now]
        time = torch.full((len(noisy),), now, device=noisy.device)
        image = ((noisy - (1 - here).sqrt() * self.denoiser(noisy, time)) / here.sqrt()).clamp(-1, 1)
        if then is None:
            return image
        there = self.kept[then]
        beta = 1 - here / there
        mean = (there.sqrt() * beta * image + (here / there).sqrt() * (1 - there) * noisy) / (1 - here)
        return mean + (beta * (1 - there) / (1 - here)).sqrt() * noise

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn(1, *like.shape[1:], device=like.device, dtype=like.dtype)

    @property
    def account(self) -> Account:
        does = f"purifies its inputs by diffusion ({self.steps} steps from time {self.until})"
        return Account(does, "through the whole chain, by the mean over its draws", "Lee & Kim 2023, arXiv:2303.09051")


class GaussianDenoiser:
    """The best denoiser there is where honest images are one Gaussian's, of the mean and covariance of these.

    It needs no training and no network, and is here to try a purifier with: a linear map each time.

    Reference: the posterior mean of a Gaussian (Wiener's filter).
    """

    def __init__(self, x: Batch, kept: Tensor):
        flat = (2 * x - 1).flatten(1)
        self.mean, self.kept = flat.mean(0), kept
        values, self.axes = torch.linalg.eigh((flat - self.mean).T @ (flat - self.mean) / len(flat))
        self.values = values.clamp_min(0)

    def __call__(self, noisy: Tensor, time: Tensor) -> Tensor:
        """The expected noise: (noisy - √kept · E[image | noisy]) / √(1 - kept)."""
        kept, mean, axes, values = (part.to(noisy) for part in (self.kept, self.mean, self.axes, self.values))
        here = kept[time][:, None]
        rest = (noisy.flatten(1) - here.sqrt() * mean) @ axes
        share = (1 - here).sqrt() / (here * values + 1 - here)
        return (share * rest @ axes.T).reshape(noisy.shape)


def linear_schedule(times: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """What is kept at each time where β grows evenly: the schedule of Ho et al. 2020, section 4."""
    return (1 - torch.linspace(first, last, times)).cumprod(0)
