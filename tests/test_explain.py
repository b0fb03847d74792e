"""Lines, planes, boundaries and saliency against closed forms; figures hold what they were given."""

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from known import Affine, inputs, mlp
from sparring import explain, geometry
from sparring.errors import InputError
from sparring.explain import boundary_2d, figures, line, orthogonal, plane, saliency
from sparring.losses import cross_entropy

Y = torch.tensor([0, 1, 1, 0])


def two_classes(weight: tuple[float, float], bias: float) -> nn.Module:
    """Class 1 wins where weight·x + bias > 0."""
    layer = nn.Linear(2, 2)
    layer.load_state_dict({"weight": torch.tensor([[0.0, 0.0], weight]), "bias": torch.tensor([0.0, bias])})
    return layer


def test_a_line_gives_the_logits_of_the_points_on_it():
    model, x = mlp(), inputs(4)
    direction = torch.linspace(-1, 1, 24).reshape(1, 2, 3, 4).expand_as(x)
    found = line(model, x, direction, reach=(-1.0, 3.0), resolution=5, batch_size=7)
    assert found.along.tolist() == [-1, 0, 1, 2, 3]
    for j, a in enumerate(found.along):
        torch.testing.assert_close(found.logits[:, j], model(x + a * direction))


def test_the_margin_of_an_affine_model_falls_along_a_line_by_its_slope():
    model, x = Affine(), inputs(4)
    direction = torch.ones_like(x)
    y = model(x).argmax(1)
    slope = model.weight.sum(1)[y] - model.weight.sum(1)[1 - y]
    found = line(model, x, direction, resolution=11).margin(y)
    expected = found[:, :1] + slope[:, None] * torch.linspace(0, 2, 11)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_crossing_is_where_the_closed_form_has_it():
    model, x = Affine(), inputs(8)
    y = model(x).argmax(1)
    normal = model.weight[1 - y] - model.weight[y]
    step = geometry.unit(normal.reshape(x.shape), 2)
    far = model.distance(x, y, 2)
    reach = 2 * far.max().item()
    crossing = line(model, x, step, reach=(-1.0, reach), resolution=2001).crossing(y)
    torch.testing.assert_close(crossing, far, rtol=0, atol=2 * (reach + 1) / 2000)
    assert line(model, x, -step).crossing(y).isinf().all()


def test_a_plane_puts_u_along_columns_and_v_along_rows():
    model, x = mlp(), inputs(2)
    u, v = inputs(2, seed=5), inputs(2, seed=6)
    found = plane(model, x, u, v, extent=(0.0, 1.0, -2.0, 2.0), resolution=3, batch_size=4)
    assert found.logits.shape == (2, 3, 3, 5)
    torch.testing.assert_close(found.logits[:, 0, 2], model(x + u - 2 * v))
    torch.testing.assert_close(found.logits[:, 2, 0], model(x + 2 * v))
    assert (found.winner() == found.logits.argmax(-1)).all()
    y = torch.tensor([1, 3])
    corner = found.logits[:, 0, 2]
    torch.testing.assert_close(
        found.loss(y)[:, 0, 2], nn.functional.cross_entropy(corner, y, reduction="none"), rtol=1e-5, atol=1e-6
    )
    assert ((found.margin(y) > 0) == (found.winner() == y[:, None, None])).all()


def test_a_box_keeps_every_point_that_the_model_sees_inside():
    seen: list[torch.Tensor] = []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return x.flatten(1)[:, :3]

    x = inputs(2)
    plane(
        model, x, torch.ones_like(x), -torch.ones_like(x), extent=(-3.0, 3.0, -3.0, 3.0), resolution=4, box=(0.0, 1.0)
    )
    asked = torch.cat(seen)
    assert len(asked) == 2 * 16
    assert asked.min() == 0
    assert asked.max() == 1


def test_the_boundary_of_a_linear_classifier_is_its_line():
    found = boundary_2d(two_classes((1.0, -2.0), 0.5), (-1.0, 3.0, -2.0, 2.0), resolution=41)
    across, up = torch.meshgrid(found.across, found.up, indexing="xy")
    height = across - 2 * up + 0.5
    clear = height.abs() > 1e-5
    assert ((found.winner()[0] == 1) == (height > 0))[clear].all()


def test_an_orthogonal_direction_is_at_a_right_angle_as_long_and_owned_by_its_sample():
    u = inputs(6) - 0.2
    v = orthogonal(u, seed=3)
    assert ((u * v).flatten(1).sum(1).abs() <= 1e-5 * geometry.squared_norm(u)).all()
    torch.testing.assert_close(geometry.norm(v, 2), geometry.norm(u, 2))
    assert torch.equal(orthogonal(u[2:4], seed=3, ids=torch.tensor([2, 3])), v[2:4])
    assert not torch.equal(orthogonal(u, seed=4), v)


def test_saliency_of_an_affine_model_is_the_difference_of_its_weights():
    model, x = Affine(), inputs(4)
    expected = (model.weight[Y] - model.weight[1 - Y]).reshape(x.shape)
    torch.testing.assert_close(saliency(model, x, Y), expected)


def test_saliency_takes_any_loss():
    model, x = mlp(), inputs(4)
    v = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(-nn.functional.cross_entropy(model(v), Y, reduction="sum"), v)
    torch.testing.assert_close(saliency(model, x, Y, cross_entropy), expected)


def test_explaining_leaves_the_model_as_it_was():
    model, x = mlp().requires_grad_(), inputs(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    plane(model, x, orthogonal(x), orthogonal(x, seed=1), resolution=3)
    saliency(model, x, Y)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_explained_is_refused():
    model, x = mlp(), inputs(4)
    with pytest.raises(InputError, match="shape"):
        line(model, x, x[:1])
    mixing = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(24), nn.Linear(24, 2))
    with pytest.raises(InputError, match="eval"):
        saliency(mixing, x, Y)
    with pytest.raises(InputError, match="eval"):
        line(mixing, x, x)
    with pytest.raises(InputError, match="one feature"):
        orthogonal(x[:, :1, 0, 0])


def test_regions_name_the_classes_they_show():
    ax = Figure().subplots()
    figures.regions(ax, boundary_2d(two_classes((1.0, 0.0), 0.0), (-1.0, 1.0, -1.0, 1.0)), names=["left", "right"])
    places = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert places["left"] < 0 < places["right"]


def test_a_histogram_of_distances_counts_what_was_not_found():
    ax = Figure().subplots()
    figures.distances(ax, {"a": [1.0, 2.0, 3.0, torch.inf], "b": [torch.inf], "c": torch.tensor([0.5, 0.5])})
    names = [text.get_text().splitlines() for text in ax.texts]
    assert names == [["a", "median 2, 1 not found"], ["b", "none found"], ["c", "median 0.5"]]
    tops = [patch.get_data() for patch in ax.patches]
    areas = [(values - base).sum() for values, _, base in tops]
    assert areas[1] == 0
    assert areas[0] == pytest.approx(0.75 * areas[2])  # shares of the group, on one scale


def test_a_triptych_has_one_row_a_sample_and_one_scale_of_differences():
    clean = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    figure = Figure()
    words = ["1", "2", "3"]
    figures.triptych(figure, clean, clean * 0.9, before=words, after=words)
    assert len(figure.axes) == 9
    assert len({ax.images[0].get_clim() for ax in figure.axes[2::3]}) == 1
    figures.triptych(Figure(), clean.expand(3, 3, 4, 4), clean.expand(3, 3, 4, 4), before=words, after=words)


def test_every_other_figure_draws(tmp_path):
    model, x = mlp(), inputs(4)
    figure = Figure(figsize=(9, 6))
    axes = figure.subplots(2, 2)
    found = plane(model, x, orthogonal(x), orthogonal(x, seed=1), resolution=7)
    figures.loss_map(axes[0, 0], found, Y, row=2)
    figures.profile(axes[0, 1], line(model, x, orthogonal(x)), Y, name="random")
    figures.accuracy_curve(axes[1, 0], [0, 1], [1, 0.5], name="pgd", interval=([0.9, 0.4], [1, 0.6]))
    figures.curves(axes[1, 1], [0, 1], {"train": [0, 1], "test": [0, 0.5]}, xlabel="epoch")
    figures.loss_surface(figure.add_subplot(projection="3d"), found, Y)
    figure.savefig(tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 10_000


def test_only_the_figures_and_the_course_import_matplotlib():
    folder = Path(explain.__file__).parent
    assert {path.name for path in folder.glob("*.py") if "matplotlib" in path.read_text()} == {
        "course.py",
        "figures.py",
    }
    for module in ("figures", "course"):
        assert f"{module} import" not in (folder / "__init__.py").read_text()


def test_a_model_in_half_precision_is_explained_in_full():
    model, x = mlp().bfloat16(), inputs(2).bfloat16()
    found = plane(model, x, x, -x, resolution=3)
    assert found.logits.dtype == torch.float32
    figures.regions(Figure().subplots(), found)
