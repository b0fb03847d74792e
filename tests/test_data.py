"""Data from wherever they lie become samples that look the same."""

import io
import random
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from sparring.cli.job import sized
from sparring.data import Samples, load_data
from sparring.data import samples as samples_module
from sparring.data.arrays import AS_IT_IS
from sparring.errors import InputError
from sparring.models import Resize
from sparring.models.loaded import LoadedModel

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 8, 10, 3), dtype=np.uint8)
"""Six colour images, channels last."""
X = torch.from_numpy(BYTES).movedim(3, 1).contiguous().float() / 255
"""The same as the models take them."""
Y = torch.tensor([2, 0, 1, 2, 1, 0])


def same(samples: Samples, x: torch.Tensor = X, y: torch.Tensor = Y) -> None:
    assert torch.equal(samples.x, x)
    assert torch.equal(samples.y, y)
    assert torch.equal(samples.ids, torch.arange(len(x)))
    assert (samples.x.dtype, samples.y.dtype, samples.ids.dtype) == (x.dtype, torch.int64, torch.int64)
    assert len(samples) == len(x)


def refusal(source, **options) -> str:
    with pytest.raises(InputError) as error:
        load_data(source, **options)
    text = str(error.value)
    assert "\n" not in text
    assert not text.endswith(".")
    return text


class Pairs(Dataset):
    """Whatever items it is given."""

    def __init__(self, items, classes=None):
        self.items = items
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


# Files of arrays


@pytest.mark.parametrize(
    "x",
    [BYTES, BYTES.transpose(0, 3, 1, 2), BYTES / 255, X.numpy(), BYTES[::-1][::-1], BYTES.astype(">f4") / 255],
    ids=["bytes last", "bytes first", "doubles last", "floats first", "strides", "big-endian"],
)
@pytest.mark.parametrize(
    "y", [Y.numpy(), Y.numpy().astype(np.uint8), Y[:, None].numpy()], ids=["long", "byte", "column"]
)
def test_an_npz_of_images_is_read_whatever_its_layout(tmp_path, x, y):
    np.savez(tmp_path / "data.npz", x=x, y=y)
    samples = load_data(tmp_path / "data.npz")
    torch.testing.assert_close(samples.x, X)
    same(samples, samples.x)
    torch.testing.assert_close(load_data((x, y)).x, X)


def test_an_npz_may_name_its_classes(tmp_path):
    np.savez_compressed(tmp_path / "data.npz", x=BYTES, y=Y.numpy(), classes=["ant", "bee", "cat"])
    assert load_data(f"{tmp_path}/data.npz").classes == ("ant", "bee", "cat")


def test_safetensors_are_read(tmp_path):
    for x in (X, torch.from_numpy(BYTES), (X * 255).round().byte()):
        save_file({"x": x.contiguous(), "y": Y}, tmp_path / "data.safetensors")
        same(load_data(tmp_path / "data.safetensors"))


def test_grey_images_get_their_axis_and_rows_of_features_keep_theirs(tmp_path):
    np.savez(tmp_path / "grey.npz", x=BYTES[..., 0], y=Y.numpy())
    same(load_data(tmp_path / "grey.npz"), X[:, :1])
    table = RNG.random((6, 7), dtype=np.float32)
    same(load_data((table, Y)), torch.from_numpy(table))


def test_tensors_that_say_they_are_as_the_model_takes_them_keep_their_shape(tmp_path):
    for shape in ((6, 3, 9, 3), (6, 4, 5), (6, 8, 8, 3)):
        save_file({"x": torch.rand(shape), "y": Y}, tmp_path / "data.safetensors", AS_IT_IS)
        assert load_data(tmp_path / "data.safetensors").x.shape == shape
    save_file({"x": torch.rand(6, 3, 9, 3), "y": Y}, tmp_path / "data.safetensors", {"format": "pt"})
    assert "reads as channels first and as channels last" in refusal(tmp_path / "data.safetensors")


def test_a_layout_that_reads_both_ways_is_refused():
    assert "reads as channels first and as channels last" in refusal((np.zeros((6, 3, 9, 3), np.uint8), Y))
    same(load_data((torch.zeros(6, 3, 9, 3), Y)), torch.zeros(6, 3, 9, 3))


def test_an_image_of_many_channels_is_left_as_it_is():
    x = np.zeros((6, 13, 8, 8), np.float32)
    same(load_data((x, Y)), torch.from_numpy(x))


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": BYTES, "labels": Y}, "data.npz has no x and no y; it holds images, labels"),
        ({"x": BYTES}, "data.npz has no y; it holds x"),
        ({}, "it holds nothing"),
        (
            {"x": BYTES, "y": np.array([Trap()] * 6)},
            "data.npz cannot be read: it holds Python objects, which are programs; write it again, from",
        ),
        ({"x": BYTES[:0], "y": Y[:0]}, "data.npz is empty"),
        ({"x": BYTES, "y": Y[:4]}, "data.npz has 6 inputs and 4 labels"),
        (
            {"x": BYTES[0, 0, :, 0], "y": Y},
            "x of data.npz has shape (10,); give samples on the first of at least two axes",
        ),
        ({"x": BYTES.astype(np.int64), "y": Y}, "x of data.npz is int64; give bytes (uint8) or floats in [0, 1]"),
        ({"x": np.full((6, 2), "a"), "y": Y}, "x of data.npz is <U1; give bytes"),
        ({"x": BYTES, "y": Y.float()}, "labels of data.npz are float32; give integers"),
        ({"x": BYTES, "y": np.eye(3)[Y]}, "labels of data.npz have shape (6, 3); turn one-hot rows into class numbers"),
        ({"x": BYTES, "y": np.array(3)}, "labels of data.npz have shape (); give one a sample"),
        ({"x": BYTES, "y": Y - 1}, "labels of data.npz go down to -1"),
        ({"x": BYTES, "y": np.full(6, "cat")}, "labels of data.npz cannot be read as integers"),
    ],
)
def test_a_file_that_does_not_fit_says_where(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    assert message in refusal(tmp_path / "data.npz")


def test_files_that_are_missing_broken_or_of_another_kind_are_refused(tmp_path):
    assert "there is no data file" in refusal(tmp_path / "gone.npz")
    assert "there is no file or folder gone" in refusal("gone")
    for name in ("bad.npz", "bad.safetensors"):
        for content in (b"", b"PK\x03\x04 and no more", b"not at all"):
            (tmp_path / name).write_bytes(content)
            assert f"{name} cannot be read" in refusal(tmp_path / name)
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, BYTES)
    assert "one.npz is one bare array" in refusal(tmp_path / "one.npz")
    (tmp_path / "data.csv").write_text("1,2")
    assert "is not a data file; give an .npz or .safetensors file" in refusal(tmp_path / "data.csv")
    save_file({"images": X}, tmp_path / "other.safetensors")
    assert "has no x and no y; it holds images" in refusal(tmp_path / "other.safetensors")


def damaged() -> bytes:
    """An archive whose ends are whole and whose middle is not."""
    held = io.BytesIO()
    np.savez_compressed(held, x=BYTES, y=Y.numpy())
    raw = bytearray(held.getvalue())
    raw[60:140] = bytes(byte ^ 0x5A for byte in raw[60:140])
    return bytes(raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"hello\n", r"it is no .npz archive, and begins with b'hello\n'; write it with numpy.savez"),
        (b"", "it is empty; write it"),
        (b"PK\x03\x04 and so on", "it is cut short, at 14 bytes; copy it again"),
        (b"\x93NUMPY\x01", "data.npz is one bare array, without the names x and y; write it"),
        (damaged(), "it is damaged (error: Error -3"),
    ],
)
def test_a_file_that_is_called_npz_and_is_none_is_told_what_it_is(tmp_path: Path, raw: bytes, message: str):
    (tmp_path / "data.npz").write_bytes(raw)
    assert message in refusal(tmp_path / "data.npz")


def test_data_at_an_address_are_not_fetched():
    assert "at an address (https://…), and nothing is fetched; give a file" in refusal("https://host/data.npz")


# In memory


def test_tensors_keep_their_shape_and_their_precision():
    for x in (X, X.double(), X.half(), X[:, :, 0, 0], X[:, None]):
        same(load_data((x, Y)), x)
        same(load_data([x, Y.int()]), x)
    same(load_data(((X * 255).round().byte(), Y)), X)
    same(load_data((X, Y.tolist())))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((X.tolist(), Y), "x of the data is a list; give a tensor or an array"),
        ((X, None), "labels of the data cannot be read as integers"),
        ((X, Y[:2]), "6 inputs and 2 labels"),
        ((X.int(), Y), "x of the data is int32"),
        (X, "the data is a Tensor; give a path"),
        ((X, Y, Y), "the data is a tuple; give a path"),
        (None, "the data is None; give a path"),
    ],
)
def test_what_is_no_data_is_refused(source, message):
    assert message in refusal(source)


def test_a_limit_takes_the_first():
    for source in (
        (X, Y),
        TensorDataset(X, Y),
        DataLoader(TensorDataset(X, Y), 2),
        Pairs(list(zip(X, Y, strict=True))),
    ):
        same(load_data(source, limit=3), X[:3], Y[:3])
        same(load_data(source, limit=60))
    assert "limit is 0; it must be at least 1" in refusal((X, Y), limit=0)


def test_samples_can_be_cut_and_keep_their_ids():
    samples = load_data((X, Y))
    assert torch.equal(samples[2:4].ids, torch.tensor([2, 3]))
    picked = samples[torch.tensor([5, 1])]
    assert torch.equal(picked.ids, torch.tensor([5, 1]))
    assert torch.equal(picked.y, Y[[5, 1]])
    assert load_data(samples).x is not None
    assert torch.equal(load_data(picked).ids, picked.ids)


# Datasets and loaders


@pytest.mark.parametrize(
    "items",
    [
        list(zip(X, Y, strict=True)),
        list(zip(X, Y.tolist(), strict=True)),
        list(zip((X * 255).round().byte(), Y.numpy(), strict=True)),
        list(zip(BYTES, Y, strict=True)),
        [(Image.fromarray(image), int(label)) for image, label in zip(BYTES, Y, strict=True)],
    ],
    ids=["tensors", "int labels", "bytes", "arrays", "images"],
)
def test_a_dataset_of_pairs_is_read_in_order(items):
    samples = load_data(Pairs(items, ["ant", "bee", "cat"]))
    same(samples)
    assert samples.classes == ("ant", "bee", "cat")

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(items)

    same(load_data(Stream()))


def test_a_loader_is_read_batch_by_batch():
    for size in (1, 4, 6):
        same(load_data(DataLoader(TensorDataset(X, Y), size)))
    same(load_data(DataLoader(Pairs(list(zip(X, Y.tolist(), strict=True))), 4)))


def test_a_loader_that_shuffles_is_refused():
    assert "the DataLoader shuffles" in refusal(DataLoader(TensorDataset(X, Y), 2, shuffle=True))


def test_a_random_transform_draws_the_same_each_time_and_leaves_the_generators_alone():
    class Shaken(Pairs):
        def __getitem__(self, i):
            x, y = self.items[i]
            return x * torch.rand(()) * float(np.random.rand()) * random.random(), y

    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    data = Shaken(list(zip(X, Y, strict=True)))
    assert torch.equal(load_data(data).x, load_data(data).x)
    load_data(DataLoader(data, 2))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])


class Failing(Pairs):
    """Breaks at its second item."""

    def __getitem__(self, i):
        if i == 1:
            raise OSError("disk gone\nand more")
        return super().__getitem__(i)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Pairs([]), "the Dataset is empty"),
        (DataLoader(Pairs([])), "the DataLoader is empty"),
        (Pairs([{"image": X[0], "label": 1}]), "sample 0 of the Dataset is a dict; give pairs"),
        (Pairs([X[0]]), "sample 0 of the Dataset is a Tensor; give pairs"),
        (Pairs([("cat.png", 1)]), "x of sample 0 of the Dataset is a str"),
        (Pairs([(X[0], 1), (X[0, :, :4], 1)]), "sample 1 of the Dataset has shape (3, 4, 10) and sample 0 (3, 8, 10)"),
        (Pairs([(X[0], 1.5)]), "labels of the Dataset are float32"),
        (Pairs([(X[0], "cat")]), "labels of the Dataset cannot be read as integers"),
        (Failing(list(zip(X, Y, strict=True))), "reading sample 1 of the Dataset failed: OSError: disk gone"),
        (DataLoader(Failing(list(zip(X, Y, strict=True)))), "reading batch 1 of the DataLoader failed: OSError: disk"),
        (DataLoader(Pairs([{"x": X[0]}])), "batch 0 of the DataLoader is a dict"),
        (DataLoader(Pairs([("a", 1)])), "x of batch 0 of the DataLoader is a"),
        (Dataset(), "the Dataset Dataset has no length"),
    ],
)
def test_a_dataset_that_cannot_be_read_says_where(source, message):
    assert message in refusal(source)


# Folders of images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three cats, one ant and two bees, the last one folder deeper."""
    folder = tmp_path / "photos"
    for name, image in zip(
        ["cat/a.png", "cat/b.PNG", "cat/c.png", "ant/a.png", "bee/a.png", "bee/deep/b.png"], BYTES, strict=True
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name, format="png")
    (folder / ".hidden").mkdir()
    (folder / "cat" / "notes.txt").write_text("not an image")
    return folder


def test_the_classes_of_a_folder_take_turns(photos):
    order = [3, 4, 0, 5, 1, 2]  # ant a, bee a, cat a, bee b, cat b, cat c
    samples = load_data(photos)
    same(samples, X[order], torch.tensor([0, 1, 2, 1, 2, 2]))
    assert samples.classes == ("ant", "bee", "cat")
    same(load_data(photos, limit=3), X[order[:3]], torch.tensor([0, 1, 2]))


def test_folders_that_bear_the_model_s_class_names_get_its_labels(photos):
    samples = load_data(photos, classes=["cat", "dog", "bee", "ant"])
    assert samples.y.tolist() == [3, 2, 0, 2, 0, 0]
    assert samples.classes == ("cat", "dog", "bee", "ant")
    assert load_data(photos, classes=["x", "y", "z"]).y.tolist() == [0, 1, 2, 1, 2, 2]
    assert "has 3 folders (first: ant) and the model 2 classes (first: x)" in refusal(photos, classes=["x", "y"])


def test_grey_images_stay_grey_when_they_are_scaled_for_a_model_that_asks_for_no_colour(tmp_path):
    for name, side in (("ant", 9), ("bee", 12)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((side, side), np.uint8)).save(tmp_path / name / "one.png")
    assert load_data(tmp_path, Resize(6, (6, 6), grey=True)).x.shape == (2, 1, 6, 6)
    assert load_data(tmp_path, Resize(6, (6, 6))).x.shape == (2, 3, 6, 6)
    items = Pairs([(Image.fromarray(np.zeros((9, 9), np.uint8)), 0)])
    assert load_data(items, Resize(6, (6, 6), grey=True)).x.shape == (1, 1, 6, 6)
    asked = [sized(LoadedModel(nn.Identity(), "net", resize), 6) for resize in (None, Resize(8, (8, 8)))]
    assert asked == [Resize(6, (6, 6), grey=True), Resize(6, (6, 6))]


def test_images_are_grey_where_all_are(photos):
    for file in photos.rglob("*.[pP]*"):
        Image.open(file).convert("L").save(file, format="png")
    assert load_data(photos).x.shape == (6, 1, 8, 10)
    assert load_data(photos, Resize((4, 4))).x.shape == (6, 3, 4, 4)
    Image.fromarray(BYTES[2]).save(photos / "cat" / "c.png")
    assert load_data(photos).x.shape == (6, 3, 8, 10)


def test_images_of_two_sizes_want_a_resize(photos):
    Image.fromarray(BYTES[0, :4]).save(photos / "bee" / "a.png")
    assert "has 4×10 pixels and a.png 8×10; give images of one size, or a Resize" in refusal(photos)
    assert load_data(photos, Resize(6, (6, 5))).x.shape == (6, 3, 6, 5)


def test_folders_that_hold_no_images_are_refused(photos, tmp_path):
    (photos / "dog").mkdir()
    assert "dog holds no images; known endings are .bmp" in refusal(photos)
    (tmp_path / "flat").mkdir()
    Image.fromarray(BYTES[0]).save(tmp_path / "flat" / "a.png")
    assert "has no folders in it" in refusal(tmp_path / "flat")


def test_an_image_that_cannot_be_read_is_named(photos):
    (photos / "ant" / "a.png").write_bytes(b"\x89PNG broken")
    assert "a.png cannot be read" in refusal(photos)
    whole = (photos / "cat" / "a.png").read_bytes()
    (photos / "ant" / "a.png").write_bytes(whole[: len(whole) // 2])
    assert "a.png cannot be read" in refusal(photos)
    Image.fromarray(RNG.integers(0, 60000, (8, 10)).astype(np.uint16)).save(photos / "ant" / "a.png")
    assert "more than 8 bits a pixel" in refusal(photos)


def test_data_larger_than_memory_are_refused_before_they_are_read(photos, monkeypatch):
    monkeypatch.setattr(samples_module.os, "sysconf", lambda name: 40)
    assert "this machine has 0 GB; read fewer of them (limit)" in refusal(photos)
    assert "this machine has 0 GB" in refusal(Pairs(list(zip(X, Y, strict=True))))


# Resizing


def test_a_resize_scales_the_short_side_and_keeps_the_middle():
    resize = Resize(4, (4, 3))
    assert resize.scaled(8, 10) == (4, 5)
    assert resize.scaled(10, 8) == (5, 4)
    assert resize.corner(4, 5) == (0, 1)
    flat = torch.linspace(0, 1, 10).expand(1, 1, 8, 10)
    middle = resize.apply(flat)
    assert middle.shape == (1, 1, 4, 3)
    torch.testing.assert_close(middle.mean(), flat.mean())
    torch.testing.assert_close(middle, middle[..., :1, :].expand_as(middle))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
def test_tensors_and_image_files_are_resized_alike(interpolation):
    from sparring.data.images import pixels

    smooth = torch.nn.functional.interpolate(X[:1], (60, 80), mode="bicubic").clamp(0, 1)
    image = Image.fromarray((smooth[0].movedim(0, 2) * 255).round().byte().numpy())
    x = pixels(image)[None]
    for size, crop in ((30, (24, 28)), ((33, 40), None), (90, (64, 64))):
        resize = Resize(size, crop, interpolation)
        files, tensors = pixels(image, resize)[None], resize.apply(x)
        assert files.shape == tensors.shape
        assert (files - tensors).abs().mean() < 0.02
        assert tensors.min() >= x.min()
        assert tensors.max() <= x.max()


def test_images_of_the_right_size_are_left_alone():
    assert Resize(12, (8, 10)).apply(X) is X
    assert Resize(8).apply(X) is X
    same(load_data((X, Y), Resize(12, (8, 10))))
    assert load_data((X, Y), Resize(12, (8, 8))).x.shape == (6, 3, 8, 8)
    assert load_data((X[:, 0, 0], Y), Resize(12, (8, 8))).x.shape == (6, 10)
    assert load_data(Pairs([(Image.fromarray(BYTES[0]), 1)]), Resize(4, (4, 4))).x.shape == (1, 3, 4, 4)


@pytest.mark.parametrize("make", [lambda: Resize(0), lambda: Resize(8, (0, 8)), lambda: Resize(8, None, "best")])
def test_a_resize_that_makes_no_sense_is_refused(make):
    with pytest.raises(InputError):
        make()
    with pytest.raises(InputError, match="a 8×10 image is smaller than the crop 9×9"):
        Resize(None, (9, 9)).apply(X)


# Named functions


def test_a_named_function_may_return_any_data(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(
            """
            import torch
            from torch.utils.data import DataLoader, TensorDataset
            x, y = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])
            def pair(): return x, y
            def dataset(): return TensorDataset(x, y)
            def loader(): return DataLoader(dataset(), 3)
            def name(): return "data.npz"
            def broken(): return x @ y
            """
        )
    )
    want = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    for name in ("pair", "dataset", "loader"):
        same(load_data(f"{tmp_path}/mine.py:{name}", limit=3), want[:3], torch.tensor([0, 1, 0]))
    assert "returned the text 'data.npz'; return (x, y)" in refusal(f"{tmp_path}/mine.py:name")
    assert "failed at mine.py, line 9: RuntimeError" in refusal(f"{tmp_path}/mine.py:broken")
    assert "it offers broken, dataset, loader, name, pair" in refusal(f"{tmp_path}/mine.py:absent")
