"""Inputs on which a scrub is judged before it is kept: the codes, inputs made from the model itself, real images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from ..evidence.classifier_outputs import batched_logits, class_logits, evaluation_mode
from ..evidence.labelled_inputs import LabelledInputs, belongs
from .mnemonic import MnemonicCodes, code_mask

if TYPE_CHECKING:
    from torch import Tensor, nn


def synthesize_inputs(
    model: "nn.Module",
    classes: Sequence[int],
    shape: Sequence[int],
    *,
    per_class: int = 8,
    steps: int = 8,
    bounds: tuple["Tensor", "Tensor"] | None = None,
    masked: bool = False,
    seed: int = 0,
) -> LabelledInputs:
    """Make inputs that the model takes for members of its classes, from noise by gradient descent; no data is needed.

    Adam lowers the cross-entropy of each input, with the weights fixed. Inputs that the model still takes for
    something else at the end are left out, so that a class can be missing from the result.

    Args:
        model (`PreTrainedModel`): A classifier; read in evaluation mode and left as it was.
        classes: The classes to make inputs for.
        shape: Shape of one input.
        per_class (`int`, defaults to 8): Inputs per class.
        steps (`int`, defaults to 8): Steps of descent.
        bounds: Lowest and highest value of an input, each broadcastable to `shape` (black and white after
            normalisation). Steps are a tenth of a unit within bounds, that is for inputs of about unit variance;
            without bounds the noise is that of the codes.
        masked (`bool`, defaults to `False`): Whether the model needs an attention mask, which is all ones.
        seed (`int`, defaults to 0): Seed of the noise.
    """
    device = next(model.parameters()).device
    labels = torch.tensor([label for label in classes for _ in range(per_class)], dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    if bounds is None:
        low = high = None
        start = 0.5 * torch.randn(len(labels), *shape, generator=generator)
    else:
        low, high = (bound.to(device) for bound in bounds)
        noise = 0.5 * torch.rand(len(labels), *shape, generator=generator)
        start = bounds[0] + noise * (bounds[1] - bounds[0])
    mask = torch.ones(len(labels), shape[0], dtype=torch.int64, device=device) if masked else None
    inputs = start.to(device).requires_grad_()
    optimizer = torch.optim.Adam([inputs], lr=0.1)
    with evaluation_mode(model), torch.enable_grad():
        for _ in range(steps):
            loss = functional.cross_entropy(
                class_logits(model, inputs, mask).float(), labels.to(device), reduction="sum"
            )
            (inputs.grad,) = torch.autograd.grad(loss, [inputs])
            optimizer.step()
            if low is not None:
                with torch.no_grad():
                    inputs.clamp_(low, high)
    made = LabelledInputs(inputs.detach().cpu(), labels, None if mask is None else mask.cpu())
    taken = batched_logits(model, made.inputs, attention_mask=made.attention_mask).argmax(1) == labels
    return made.rows(taken)


@dataclass(frozen=True)
class Shown:
    """How a model answers one kind of witnesses.

    Args:
        margins: Logit of the right class minus the highest other logit, shape `(n,)`.
        labels: The right classes, shape `(n,)`.
    """

    margins: "Tensor"
    labels: "Tensor"

    def retained_accuracy(self, forget: Sequence[int]) -> float | None:
        """Share of the witnesses of the remaining classes that are recognised."""
        kept = self.margins[~belongs(self.labels, forget)]
        return float((kept > 0).float().mean()) if len(kept) else None

    def forgotten_error(self, forget: Sequence[int]) -> float | None:
        """Share of the witnesses of the forgotten classes that are not recognised."""
        gone = self.margins[belongs(self.labels, forget)]
        return float((gone <= 0).float().mean()) if len(gone) else None

    def kept_margin(self, forget: Sequence[int], before: "Shown") -> float:
        """Share of the margin of the remaining witnesses that is left; gains do not make up for losses."""
        rest = ~belongs(self.labels, forget)
        held = float(before.margins[rest].sum())
        return float(torch.minimum(self.margins, before.margins)[rest].sum()) / held if held > 0 else 0.0

    def depth(self, forget: Sequence[int], before: "Shown") -> float | None:
        """How firmly the least forgotten witness is rejected, in units of the firmness with which witnesses of its
        kind were held before: 1 where the margin has been turned into its negative."""
        gone = self.margins[belongs(self.labels, forget)]
        held = float(before.margins.median())
        return float(-gone.max()) / held if len(gone) and held > 0 else None


class Witnesses:
    """The inputs by kind: `codes`, `synthetic` and, where given, `images`.

    Args:
        codes ([`MnemonicCodes`]): One per class.
        forgotten: Classes that are gone already; their codes testify to nothing.
        synthetic: Inputs made by `synthesize_inputs`.
        images: Real ones.
    """

    def __init__(
        self,
        codes: MnemonicCodes,
        forgotten: Sequence[int] = (),
        *,
        synthetic: LabelledInputs | None = None,
        images: LabelledInputs | None = None,
    ) -> None:
        rows = LabelledInputs(codes.values, codes.labels, code_mask(codes)).without(list(forgotten))
        given = {"codes": rows, "synthetic": synthetic, "images": images}
        self.kinds = {name: item for name, item in given.items() if item is not None and len(item)}

    def show(self, model: "nn.Module") -> dict[str, Shown]:
        """Return how the model answers each kind."""
        shown = {}
        for name, item in self.kinds.items():
            logits = batched_logits(model, item.inputs, attention_mask=item.attention_mask)
            shown[name] = Shown(_margins(logits, item.labels.cpu()), item.labels.cpu())
        return shown


def _margins(logits: "Tensor", labels: "Tensor") -> "Tensor":
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return own[:, 0] - others.max(1).values
