"""A sparse autoencoder in a folder of its own: trained, measured and described, or found there; and the default one."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..data.cache import cache_dir
from ..data.invented import world_of
from ..data.model_names import resolve_model
from ..errors import InputError
from ..lm.representation import checked_layers, decoder_layers
from ..output import write_json_atomic, write_text_atomic
from ..trainer import supports_bf16
from .sae_quality import SAEQuality, sae_quality
from .sae_texts import default_texts, held_out
from .sae_training import SAETraining, train_sae
from .saes import hooked_layer, load_sae

QUALITY_FILE = "quality.json"
# Where a model is entity-aware, as a share of its depth; measured on SmolLM2, see recipes/sae_align/README.md.
DEFAULT_DEPTH = 0.4
WORLD_TOKENS = 400_000
WORDNET_TEXTS = "WordNet's definitions and short texts about its named things"


def sae_in(
    folder: Path,
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    layer: int,
    *,
    training: SAETraining,
    model_name: str,
    source: str,
    identity: str = "",
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Train an SAE into a folder, measure it, and write `README.md` and `quality.json` beside it.

    An interrupted training goes on, and one that was interrupted while it was measured is measured.

    Args:
        folder: Where it belongs.
        model (`PreTrainedModel`): The model that it reads.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        texts: What it learns from; a part is held out to measure on.
        layer: Index of the decoder layer whose output is encoded.
        training ([`SAETraining`]): How it is trained.
        model_name: Name of the model, for the card.
        source: What the texts are, for the card.
        identity: What tells the weights of the model: a hash or a revision.
        report: Called with a line of text where a step begins.

    Returns:
        The figures of [`~hf_forget.sae_align.sae_quality.SAEQuality`].
    """
    learnt, measured = held_out(texts, training.seed)
    trained = (folder / "cfg.json").exists() and not (folder / QUALITY_FILE).exists()
    if trained:
        sae = load_sae(folder, str(model.device))
    else:
        report(f"training a sparse autoencoder of layer {layer} on {len(learnt)} texts")
        sae = train_sae(
            model, tokenizer, learnt, layer, folder, training=training, model_name=model_name, report=report
        )
    report(f"measuring it on {len(measured)} other texts")
    quality = sae_quality(model, tokenizer, sae, measured, max_length=training.max_length)
    figures = {
        **asdict(quality),
        "recovered_against_zero": quality.recovered_against_zero,
        "recovered_against_mean": quality.recovered_against_mean,
    }
    write_text_atomic(folder / "README.md", _card(model_name, layer, sae, quality, training, source))
    write_json_atomic(folder / QUALITY_FILE, {**figures, "base": identity, "training": asdict(training)})
    return figures


def default_sae(
    model: Any, tokenizer: Any, layer: int | None = None, *, report: Callable[[str], None] = lambda line: None
) -> Path:
    """Return the folder of the SAE that a model gets where the user names none; trained once, kept in the cache.

    Args:
        model (`PreTrainedModel`): The original model, loaded from a folder or by name.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        layer: Index of the decoder layer; two fifths of the depth if not given.
        report: Called with a line of text where a step begins.

    Raises:
        InputError: If the model has no name to remember its SAE by, or no such layer.
        AssetError: If WordNet, which it learns from, is not installed.
    """
    count = len(decoder_layers(model))
    (layer,) = checked_layers([round(DEFAULT_DEPTH * count) if layer is None else layer], count, "sae_layer")
    name = model.config.name_or_path
    if not name:
        raise InputError("the model has no name to remember its sparse autoencoder by; give sae")
    resolved = resolve_model(name)
    identity = str(resolved.sha256 or resolved.revision)
    world = world_of(model)
    folder = cache_dir() / "saes" / f"{identity[:24]}-layer{layer}"
    training = SAETraining(bf16=supports_bf16()) if world is None else SAETraining(num_tokens=WORLD_TOKENS)
    locks = cache_dir() / "locks"
    locks.mkdir(exist_ok=True)
    with FileLock(locks / f"saes-{folder.name}.lock"):
        if not (folder / QUALITY_FILE).exists():
            sae_in(
                folder,
                model,
                tokenizer,
                default_texts() if world is None else world.corpus(),
                layer,
                training=training,
                model_name=resolved.name,
                source=WORDNET_TEXTS if world is None else "its world",
                identity=identity,
                report=report,
            )
    return folder


def saes_for(
    model: Any,
    tokenizer: Any,
    given: Any = None,
    layer: int | None = None,
    *,
    report: Callable[[str], None] = lambda line: None,
) -> dict[int, list[Any]]:
    """Load the SAEs of a run, by the decoder layer that each reads.

    Args:
        model (`PreTrainedModel`): The original model.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        given: An SAE, a folder or `release:id`, or a list of such; `default_sae` if there is none.
        layer: Decoder layer of the default one.
        report: Called with a line of text where a step begins.

    Raises:
        InputError: If one cannot be loaded, or does not fit the model.
    """
    if given is None:
        given = default_sae(model, tokenizer, layer, report=report)
    found: dict[int, list[Any]] = {}
    for item in given if isinstance(given, list | tuple) else [given]:
        sae = load_sae(item, str(model.device))
        found.setdefault(hooked_layer(sae, model), []).append(sae)
    return found


def _card(model: str, layer: int, sae: Any, quality: SAEQuality, training: SAETraining, source: str) -> str:
    return f"""---
library_name: saelens
tags:
- sparse-autoencoder
- hf-forget
---
# Sparse autoencoder of layer {layer} of {model}

{sae.cfg.d_sae} latents, {training.architecture}, trained on {training.num_tokens} tokens of {source}.

```python
from sae_lens import SAE
sae = SAE.load_from_disk("this folder")  # reads blocks.{layer}.hook_resid_post
```

| on held-out texts ({quality.tokens} tokens, without first and massive positions) | |
|---|---|
| explained variance | {quality.explained_variance:.3f} |
| active latents of a token | {quality.l0:.1f} |
| dead latents | {quality.dead_share:.1%} |
| loss recovered against zeros | {quality.recovered_against_zero:.3f} |
| loss recovered against the mean state | {quality.recovered_against_mean:.3f} |
"""
