"""A user's model leaves as it came, and one name tells models, data and settings apart."""

import pytest
import torch
from torch import nn

from sparring.digests import CHUNK, digest
from sparring.guest import evaluating, frozen, modes_kept, settled, switchable


class Merged(nn.Linear):
    """Does more in eval() than to set its mark, and undoes it in train(), as adapters do."""

    merged = False

    def train(self, mode=True):
        self.merged = not mode
        return super().train(mode)


class Fixed(nn.Module):
    """Its mode was fixed when it was saved, as an exported program's."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Dropout()

    def train(self, mode=True):
        raise NotImplementedError


def test_what_a_module_does_in_evaluation_is_done_and_undone():
    model = nn.Sequential(Merged(2, 2), nn.Dropout())
    model[1].eval()
    with evaluating(model):
        assert model[0].merged
        assert not any(part.training for part in model.modules())
    assert not model[0].merged
    assert [part.training for part in model.modules()] == [True, True, False]
    model.eval()
    with frozen(model):
        assert model[0].merged
    assert model[0].merged


@pytest.mark.parametrize("failing", [False, True])
def test_modes_and_gradients_are_given_back_even_after_an_error(failing):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    model[1].eval()
    model[0].bias.requires_grad_(False)
    try:
        with frozen(model):
            assert not any(parameter.requires_grad for parameter in model.parameters())
            assert not any(part.training for part in model.modules())
            if failing:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert failing
    assert [part.training for part in model.modules()] == [True, True, False, True]
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, False, True, True]


def test_a_program_of_fixed_mode_is_settled_by_its_marks_and_known_as_such():
    model = Fixed()
    assert settled(model) is model
    assert not any(part.training for part in model.modules())
    model.inner.training = True
    with evaluating(model):
        assert not model.inner.training
    assert model.inner.training
    assert not switchable(model)
    assert switchable(nn.Dropout().eval())
    with modes_kept(whole := nn.Dropout()):
        whole.eval()
    assert whole.training


def test_a_digest_tells_values_types_shapes_and_order_apart_and_nothing_else():
    x = torch.arange(6.0)
    same = digest([x, x + 1], "a")
    assert digest([x.clone().requires_grad_(), x + 1], "a") == same
    assert digest(iter([x.reshape(2, 3).T.contiguous().T.flatten(), x + 1]), "a") == same
    others = {
        digest([x + 1, x], "a"),
        digest([x, x + 2], "a"),
        digest([x.reshape(2, 3), x + 1], "a"),
        digest([x.view(torch.int32), x + 1], "a"),
        digest([x, x + 1], "b"),
        digest([x, x + 1]),
        digest([x, x + 1, x[:0]], "a"),
        digest([x, x + 1], "a", ""),
    }
    assert len(others) == 8
    assert same not in others
    assert digest([x.reshape(2, 3).T]) == digest([x.reshape(2, 3).T.contiguous()])


def test_large_tensors_and_odd_types_are_read_to_their_last_byte():
    large = torch.zeros(CHUNK + 3, dtype=torch.uint8)
    before = digest([large])
    large[-1] = 1
    assert digest([large]) != before
    for dtype in (torch.bool, torch.bfloat16, torch.float16, torch.complex64):
        one = torch.ones((), dtype=dtype)
        assert digest([one]) != digest([torch.zeros_like(one)])
