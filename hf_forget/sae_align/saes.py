"""Sparse autoencoders: loading any that sae_lens knows, whether one fits a model, and its latents as a differentiable
function of a layer's output."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..lm.representation import decoder_layers

if TYPE_CHECKING:
    from torch import Tensor

# What sae_lens and TransformerLens call the residual stream behind and before a decoder layer.
_AFTER = re.compile(r"blocks\.(\d+)\.hook_resid_post")
_BEFORE = re.compile(r"blocks\.(\d+)\.hook_resid_pre")


def require_sae_lens() -> Any:
    """Import sae_lens.

    Raises:
        InputError: If it is not installed; the message gives the command.
    """
    try:
        import sae_lens
    except ImportError as error:
        raise InputError("sparse autoencoders need sae-lens; run: pip install 'hf-forget[sae]'") from error
    return sae_lens


def load_sae(sae: Any, device: str = "cpu") -> Any:
    """Return a sparse autoencoder in evaluation mode, its weights frozen.

    Args:
        sae: An SAE of sae_lens, a folder that it saved, or `release:id` of one of its published ones.
        device: Where it goes.

    Raises:
        InputError: If the folder holds no SAE, or the release or the id is unknown.
    """
    lens = require_sae_lens()
    if isinstance(sae, str | Path):
        sae = _loaded(lens, str(sae), device)
    if not isinstance(sae, lens.SAE):
        raise InputError(f"sae is a {type(sae).__name__}; give an SAE of sae_lens, a folder, or 'release:id'")
    return sae.to(device=device).eval().requires_grad_(False)


def _loaded(lens: Any, name: str, device: str) -> Any:
    folder = Path(name).expanduser()
    if folder.is_dir():
        try:
            return lens.SAE.load_from_disk(folder, device=device)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"'{folder}' holds no SAE in the format of sae_lens: {error}") from error
    release, colon, identifier = name.partition(":")
    if not colon:
        raise InputError(f"'{name}' is neither a folder nor 'release:id', such as 'gemma-scope-2b-pt-res-canonical:…'")
    try:
        return lens.SAE.from_pretrained(release, identifier, device=device)
    except (ValueError, OSError) as error:
        raise InputError(f"SAE '{identifier}' of release '{release}' cannot be loaded: {error}") from error


def hook_name(layer: int) -> str:
    """Return how sae_lens calls the output of a decoder layer."""
    return f"blocks.{layer}.hook_resid_post"


def hooked_layer(sae: Any, model: Any) -> int:
    """Return the index of the decoder layer whose output an SAE reads, after checking that it fits.

    Args:
        sae: An SAE of sae_lens.
        model (`PreTrainedModel`): A causal LM.

    Raises:
        InputError: If the SAE reads anything but the residual stream behind a layer, a layer that the model does not
            have, or states of another width.
    """
    name = str(sae.cfg.metadata.hook_name)
    behind, before = _AFTER.fullmatch(name), _BEFORE.fullmatch(name)
    layer = int(behind[1]) if behind else int(before[1]) - 1 if before else None
    if layer is None:
        raise InputError(
            f"the SAE reads '{name}'; only the residual stream is aligned: blocks.<layer>.hook_resid_post or _pre"
        )
    count = len(decoder_layers(model))
    if not 0 <= layer < count:
        raise InputError(
            f"the SAE reads '{name}', which {type(model).__name__} does not have: its {count} layers are 0 to "
            f"{count - 1}, and before layer 0 nothing could be trained"
        )
    width = model.config.get_text_config().hidden_size
    if sae.cfg.d_in != width:
        made_for = sae.cfg.metadata.model_name
        raise InputError(
            f"the SAE reads states of width {sae.cfg.d_in}, the model has {width}"
            + (f"; it was made for {made_for}" if made_for else "")
        )
    return layer


def pre_activations(sae: Any, states: "Tensor") -> "Tensor":
    """Return the encoder's values before its activation function, differentiable in the states.

    An inactive latent of a ReLU or TopK has no gradient; before the activation every latent has one.

    Args:
        sae: An SAE of sae_lens whose encoder is one affine map: standard, topk, batchtopk, jumprelu.
        states (`Tensor` of shape `(..., hidden)`): Outputs of the layer that the SAE reads.

    Returns:
        `Tensor` of shape `(..., latents)`.

    Raises:
        InputError: If the encoder is something else.
    """
    weight, bias = getattr(sae, "W_enc", None), getattr(sae, "b_enc", None)
    if weight is None or bias is None:
        raise InputError(
            f"an SAE of architecture '{sae.cfg.architecture()}' has no single affine encoder; "
            "give a standard, topk, batchtopk or jumprelu one"
        )
    return sae.process_sae_in(states) @ weight + bias
