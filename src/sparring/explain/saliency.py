"""Which features the model's answer hangs on: the gradient in the input."""

import torch

from sparring.engine import refuse_batch_statistics
from sparring.goals import Untargeted
from sparring.losses import Loss, Point, margin
from sparring.problem import Model
from sparring.types import Batch, Delta, Labels


def saliency(model: Model, x: Batch, y: Labels, loss: Loss = margin) -> Delta:
    """The gradient of the loss in each input; with `margin`, how fast each feature changes the label's lead.

    Costs one forward and one backward, and leaves the model and its gradients as they are.

    Reference: Simonyan, Vedaldi & Zisserman, "Deep inside convolutional networks: visualising image classification
    models and saliency maps", ICLR workshop 2014, arXiv:1312.6034, section 3 (there of the class score, without sign).
    """
    refuse_batch_statistics(model)
    v = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = loss(Point(torch.zeros_like(x), model(v), Untargeted().bind(y)))
        (gradient,) = torch.autograd.grad(value.sum(), v)
    return gradient
