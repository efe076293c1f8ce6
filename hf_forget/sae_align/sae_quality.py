"""How well a sparse autoencoder stands for a layer: variance explained, sparsity, dead latents, and what the model
loses when it goes on with the reconstruction."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..lm.representation import decoder_layers
from .activations import layer_activations, ordinary_positions, token_batches
from .saes import hooked_layer


@dataclass(frozen=True)
class SAEQuality:
    """Figures of one SAE on one set of texts.

    Args:
        explained_variance: 1 − squared error / variance around the mean state; 1 is perfect.
        l0: Mean number of active latents of a token.
        dead_share: Share of latents that no token activates.
        loss: Mean cross-entropy of the next token, in nats, of the model as it is.
        loss_with_sae, loss_with_zero, loss_with_mean: The same with the layer's output replaced by the reconstruction,
            by zeros, by the mean state.
        tokens: Positions that were measured. The first of a text, massive ones and padding are left out and are never
            replaced.
    """

    explained_variance: float
    l0: float
    dead_share: float
    loss: float
    loss_with_sae: float
    loss_with_zero: float
    loss_with_mean: float
    tokens: int

    @property
    def recovered_against_zero(self) -> float:
        """Share of what zeros lose that the reconstruction does not lose."""
        return (self.loss_with_zero - self.loss_with_sae) / (self.loss_with_zero - self.loss)

    @property
    def recovered_against_mean(self) -> float:
        """Share of what the mean state loses that the reconstruction does not lose."""
        return (self.loss_with_mean - self.loss_with_sae) / (self.loss_with_mean - self.loss)


@torch.no_grad()
def sae_quality(
    model: Any, tokenizer: Any, sae: Any, texts: Sequence[str], *, max_length: int = 64, batch_size: int = 32
) -> SAEQuality:
    """Measure a sparse autoencoder on texts that it was not trained on.

    Args:
        model (`PreTrainedModel`): The model that the SAE reads.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        sae: An SAE of sae_lens in the form for use.
        texts: The texts; two or more.
        max_length: Where a text is cut off, in tokens.
        batch_size: Texts per forward pass.

    Raises:
        InputError: If the SAE does not fit the model, or the texts have fewer than two ordinary positions.
    """
    layer = hooked_layer(sae, model)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        return token_batches(tokenizer, texts, batch_size=batch_size, max_length=max_length)

    states = torch.cat(list(layer_activations(model, batches(), layer)) or [torch.empty(0, sae.cfg.d_in)])
    if len(states) < 2:
        raise InputError("the texts are too short to measure an SAE on; give some of several words")
    mean = states.mean(0)
    error, active, fired = 0.0, 0.0, torch.zeros(sae.cfg.d_sae, dtype=torch.bool, device=states.device)
    for part in states.split(4096):
        latents = sae.encode(part)
        error += float((sae.decode(latents).float() - part).square().sum())
        active += float((latents > 0).sum())
        fired |= (latents > 0).any(0)

    def loss_with(replacement: Callable[[Tensor], Tensor] | None) -> float:
        return _loss(model, batches(), layer, replacement)

    return SAEQuality(
        explained_variance=1 - error / float((states - mean).square().sum()),
        l0=active / len(states),
        dead_share=1 - float(fired.float().mean()),
        loss=loss_with(None),
        loss_with_sae=loss_with(lambda part: sae.decode(sae.encode(part))),
        loss_with_zero=loss_with(torch.zeros_like),
        loss_with_mean=loss_with(lambda part: mean.expand_as(part)),
        tokens=len(states),
    )


def _loss(
    model: Any,
    batches: Iterator[tuple[Tensor, Tensor]],
    layer: int,
    replacement: Callable[[Tensor], Tensor] | None,
) -> float:
    """Mean cross-entropy of the tokens, with the layer's ordinary states replaced."""
    total, count = 0.0, 0
    for ids, mask in batches:
        ids, mask = ids.to(model.device), mask.to(model.device)
        with _replaced(model, layer, mask, replacement):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float()
        labels = ids.masked_fill(~mask, -100)[:, 1:]
        losses = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels, reduction="sum")
        total += float(losses)
        count += int((labels != -100).sum())
    return total / max(count, 1)


@contextmanager
def _replaced(model: Any, layer: int, mask: Tensor, replacement: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    """Let the model go on with other states at the ordinary positions of a layer's output."""

    def hook(_: Any, __: Any, output: Any) -> Any:
        if replacement is None:
            return output
        states = (output[0] if isinstance(output, tuple) else output).clone()
        kept = ordinary_positions(states, mask)
        states[kept] = replacement(states[kept]).to(states.dtype)
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handle = decoder_layers(model)[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
