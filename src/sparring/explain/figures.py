"""Pictures of what the rest of `sparring.explain` measures, drawn into axes or figures that the caller brings.

Classes are told apart by colours that the colour-blind can tell apart too, and by a letter wherever there is room.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from mpl_toolkits.mplot3d import Axes3D
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from sparring.explain.landscape import Line, Plane
from sparring.types import Labels

PALETTE = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
"""Reference: Petroff, "Accessible color sequences for data visualization", arXiv:2107.02270, the ten colours."""

INK, FAINT = "#1f2430", "#8a8f99"
HEAT = LinearSegmentedColormap.from_list("loss", ["#f7fbff", "#b7d4ea", "#5a9bd4", "#7b4fa3", "#4a0d3a"])


def regions(ax: Axes, plane: Plane, *, row: int = 0, names: Sequence[str] | None = None) -> None:
    """The class that wins at each point of the plane, with the boundaries between them and a name in each region."""
    winner = plane.winner()[row].cpu().numpy()
    names = names or [str(c) for c in range(plane.logits.shape[-1])]
    colours = [_pale(PALETTE[c % len(PALETTE)]) for c in range(plane.logits.shape[-1])]
    across, up = plane.across.cpu().numpy(), plane.up.cpu().numpy()
    tint = ListedColormap(colours)
    ax.pcolormesh(across, up, winner, cmap=tint, vmin=-0.5, vmax=len(colours) - 0.5, shading="nearest", rasterized=True)
    logits = plane.logits[row].cpu().numpy()
    for c in map(int, np.unique(winner)):
        if (winner != c).any():
            rival = np.delete(logits, c, axis=-1).max(-1)
            ax.contour(across, up, logits[..., c] - rival, levels=[0.0], colors=INK, linewidths=1.2)
        depth = np.asarray(distance_transform_edt(np.pad(winner == c, 1)))[1:-1, 1:-1]
        i, j = divmod(int(depth.argmax()), depth.shape[1])
        if depth[i, j] > 0.04 * len(up):
            style = {"color": _dark(PALETTE[c % len(PALETTE)]), "ha": "center", "va": "center", "weight": "bold"}
            text = ax.text(across[j].item(), up[i].item(), names[c], style, fontsize=13)
            text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def loss_map(ax: Axes, plane: Plane, y: Labels, *, row: int = 0) -> None:
    """The cross-entropy across the plane as filled contours; the line is where the label stops winning."""
    across, up = plane.across.cpu().numpy(), plane.up.cpu().numpy()
    filled = ax.contourf(across, up, plane.loss(y)[row].cpu().numpy(), levels=14, cmap=HEAT)
    _bar(ax, filled, "cross-entropy (nats)")
    ax.contour(across, up, plane.margin(y)[row].cpu().numpy(), levels=[0.0], colors="white", linewidths=3)
    ax.contour(across, up, plane.margin(y)[row].cpu().numpy(), levels=[0.0], colors=INK, linewidths=1.4)


def loss_surface(ax: Axes3D, plane: Plane, y: Labels, *, row: int = 0) -> None:
    """The cross-entropy across the plane as a landscape in three dimensions."""
    across, up = np.meshgrid(plane.across.cpu().numpy(), plane.up.cpu().numpy())
    height = plane.loss(y)[row].cpu().numpy()
    ax.plot_surface(across, up, height, cmap=HEAT, rcount=60, ccount=60, linewidth=0.15, edgecolor="#ffffff80")
    ax.set_zlabel("cross-entropy (nats)")
    ax.view_init(elev=28, azim=-125)


def profile(ax: Axes, line: Line, y: Labels, *, name: str, colour: str = PALETTE[0]) -> None:
    """The label's lead along the line: the median sample, and a band that holds the middle half of them."""
    margin = line.margin(y).cpu().numpy()
    along = line.along.cpu().numpy()
    low, middle, high = np.quantile(margin, [0.25, 0.5, 0.75], axis=0)
    if len(margin) > 1:
        ax.fill_between(along, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.plot(along, middle, color=colour, linewidth=2, label=name)


def picture(ax: Axes, x: Tensor, title: str = "", *, below: str = "") -> None:
    """One image (channels × height × width, in [0, 1])."""
    ax.imshow(_pixels(x), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _frame(ax, title, below)


def difference(ax: Axes, delta: Tensor, title: str = "", *, below: str = "", limit: float | None = None) -> None:
    """A perturbation: blue is darker, orange is brighter, white is untouched. `limit` is where the colours end."""
    change = delta.detach().cpu()
    strongest = change.flatten()[change.abs().argmax()].abs().item() if limit is None else limit
    if change.ndim == 3 and change.shape[0] == 3:
        ax.imshow(_pixels(0.5 + change / (2 * max(strongest, 1e-12))), interpolation="nearest")
    else:
        span = max(strongest, 1e-12)
        ax.imshow(_pixels(change), cmap=_CHANGE, vmin=-span, vmax=span, interpolation="nearest")
    _frame(ax, title, below)


def triptych(
    figure: Figure, clean: Tensor, adversarial: Tensor, *, before: Sequence[str], after: Sequence[str]
) -> None:
    """Clean, perturbed and difference, one row a sample; `before` and `after` say what the model made of each.

    All differences share one scale.
    """
    delta = adversarial - clean
    limit = delta.abs().max().item()
    axes = figure.subplots(len(clean), 3, squeeze=False)
    for i, (left, middle, right) in enumerate(axes):
        picture(left, clean[i], "clean" if i == 0 else "", below=before[i])
        picture(middle, adversarial[i], "perturbed" if i == 0 else "", below=after[i])
        caption = f"largest change {delta[i].abs().max().item():.2f}"
        difference(right, delta[i], "difference" if i == 0 else "", below=caption, limit=limit)


def distances(ax: Axes, groups: Mapping[str, ArrayLike], *, bins: int = 30, unit: str = "distance") -> None:
    """How far samples lie from the boundary: a histogram a group, one above the other, with its median.

    All share one scale, on which areas are shares of the group. Infinite distances (nothing was found) have no bar, and
    are counted beside the median.
    """
    arrays = {name: np.asarray(d, dtype=float) for name, d in groups.items()}
    found = {name: d[np.isfinite(d)] for name, d in arrays.items()}
    top = max((d.max() for d in found.values() if d.size), default=1.0)
    shares = [np.histogram(d, bins, (0, top))[0] / max(arrays[name].size, 1) for name, d in found.items()]
    tallest = max(share.max() for share in shares) or 1.0
    for i, (name, d) in enumerate(found.items()):
        colour, floor = PALETTE[i % len(PALETTE)], float(len(found) - 1 - i)
        level = (floor + 0.8 * shares[i] / tallest).tolist()
        ax.stairs(level, np.linspace(0, top, bins + 1).tolist(), baseline=floor, fill=True, color=colour, alpha=0.55)
        ax.axhline(floor, color=FAINT, linewidth=0.6)
        middle = f"median {np.median(d):.2g}" if d.size else "none found"
        lost = f", {arrays[name].size - d.size} not found" if 0 < d.size < arrays[name].size else ""
        ax.text(top, floor + 0.5, f"{name}\n{middle}{lost}", color=_dark(colour), ha="right", va="center")
        if d.size:
            ax.vlines(float(np.median(d)), floor, floor + 0.85, color=_dark(colour), linewidth=2)
    ax.set(xlabel=unit, yticks=[], xlim=(0, top), ylim=(0, len(found)))
    bare(ax)
    ax.spines["left"].set_visible(False)


def accuracy_curve(
    ax: Axes,
    eps: ArrayLike,
    accuracy: ArrayLike,
    *,
    name: str,
    interval: tuple[ArrayLike, ArrayLike] | None = None,
    colour: str = PALETTE[0],
    marker: str = "o",
) -> None:
    """Accuracy in [0, 1] against eps, with its interval as a band."""
    if interval is not None:
        low, high = interval
        ax.fill_between(np.asarray(eps), np.asarray(low), np.asarray(high), color=colour, alpha=0.2, linewidth=0)
    ax.plot(np.asarray(eps), np.asarray(accuracy), color=colour, marker=marker, markersize=4, linewidth=2, label=name)
    ax.set(xlabel="eps", ylabel="accuracy under attack", ylim=(-0.02, 1.02))
    bare(ax)


def curves(ax: Axes, x: ArrayLike, values: Mapping[str, ArrayLike], *, xlabel: str = "", ylabel: str = "") -> None:
    """Several quantities over one axis, such as training and test accuracy over epochs; each named at its end."""
    for i, (name, value) in enumerate(values.items()):
        colour = PALETTE[i % len(PALETTE)]
        ax.plot(np.asarray(x), np.asarray(value), color=colour, linewidth=2, marker="os^Dv"[i % 5], markersize=4)
        end = float(np.asarray(x)[-1]), float(np.asarray(value)[-1])
        ax.annotate(name, end, (7, 0), textcoords="offset points", color=_dark(colour), va="center")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    bare(ax)


def bare(ax: Axes) -> None:
    """No frame but the two axes."""
    ax.spines[["top", "right"]].set_visible(False)


_CHANGE = LinearSegmentedColormap.from_list("change", ["#0b4a8f", "#8fbce6", "#ffffff", "#f5b27a", "#a84300"])


def _bar(ax: Axes, mappable: object, label: str) -> None:
    figure = ax.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(mappable, ax=ax)  # pyright: ignore[reportArgumentType] — contour sets are mappable
    bar.set_label(label)


def _frame(ax: Axes, title: str, below: str) -> None:
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(below, fontsize=9)
    for side in ax.spines.values():
        side.set_color(FAINT)
        side.set_linewidth(0.6)


def _pixels(x: Tensor) -> NDArray[np.float32]:
    """Channels last; one channel without its axis."""
    image = x.detach().cpu().float()
    image = image if image.ndim == 2 else image.permute(1, 2, 0)
    return image.squeeze(-1).numpy() if image.ndim == 3 and image.shape[-1] == 1 else image.numpy()


def _pale(colour: str) -> tuple[float, ...]:
    return tuple(1 - 0.38 * (1 - part) for part in to_rgb(colour))


def _dark(colour: str) -> tuple[float, ...]:
    return tuple(0.72 * part for part in to_rgb(colour))
