"""How the carried weights were made: `python -m sparring.samples.train` writes `digits.safetensors` anew.

Plain training on the 6,000 carried digits, shifted by up to two pixels; a minute or less on two cores.
"""

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from sparring.samples import FOLDER, digit_classifier, digit_network, digits

EPOCHS, BATCH, RATE, SEED = 30, 64, 2e-3, 0


def shifted(x: Tensor, pixels: int = 2) -> Tensor:
    """The batch, moved by a random number of pixels in both directions."""
    rows, columns = torch.randint(0, 2 * pixels + 1, (2,)).tolist()
    return F.pad(x, [pixels] * 4)[:, :, rows : rows + x.shape[2], columns : columns + x.shape[3]]


def train() -> nn.Sequential:
    """The network after all epochs."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        data, model = digits(), digit_network()
        steps = -(-len(data.train_x) // BATCH)
        optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, EPOCHS * steps)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(data.train_x)).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(model(shifted(data.train_x[rows])), data.train_y[rows]).backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def main() -> None:
    """Train, write the weights in half precision, read them back, and say how good they are."""
    save_file({name: value.half() for name, value in train().state_dict().items()}, FOLDER / "digits.safetensors")
    data, model = digits(), digit_classifier()
    for name, x, y in (("training", data.train_x, data.train_y), ("test", data.test_x, data.test_y)):
        print(f"{name}: {(model(x).argmax(1) == y).float().mean().item():.2%} of {len(x)} digits read right")


if __name__ == "__main__":
    main()
