"""Trains a sparse autoencoder for a model by name, measures it, and writes what came out beside it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .data.model_names import resolve_model
from .output import write_json_atomic, write_text_atomic

QUALITY_FILE = "quality.json"


def train_sae_for(
    model: str,
    layer: int,
    output_dir: str | Path,
    *,
    texts: Sequence[str | Path] = (),
    training: Any = None,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train a sparse autoencoder on a layer of a model, or go on with an interrupted training.

    Args:
        model: Folder, Hub id or embedded model.
        layer: Index of the decoder layer whose output is encoded.
        output_dir: Where the SAE goes: weights and config in the format of sae_lens, `README.md`, `quality.json`.
        texts: Text files, paragraphs parted by empty lines; WordNet's definitions if none are given. A part is held out
            to measure on.
        training ([`~hf_forget.sae_align.sae_training.SAETraining`], *optional*): How it is trained.
        report: Called with a line of text where a step begins.

    Returns:
        The figures of [`~hf_forget.sae_align.sae_quality.SAEQuality`], and where the SAE is.

    Raises:
        InputError: If something given cannot be used.
        OutputError: If the folder exists.
    """
    from .lm.loading import load_causal_lm, load_tokenizer
    from .options import ModelOptions
    from .sae_align.sae_quality import sae_quality
    from .sae_align.sae_texts import default_texts, held_out, texts_of
    from .sae_align.sae_training import SAETraining, train_sae

    training = training or SAETraining()
    resolved = resolve_model(model)
    options = ModelOptions(model_name_or_path=model)
    loaded, tokenizer = load_causal_lm(resolved.path, options).eval(), load_tokenizer(resolved.path, options)
    learnt, measured = held_out(texts_of(texts) if texts else default_texts(), training.seed)
    report(f"Training on {len(learnt)} texts")
    sae = train_sae(loaded, tokenizer, learnt, layer, output_dir, training=training, model_name=model, report=report)
    report(f"Measuring on {len(measured)} other texts")
    quality = sae_quality(loaded, tokenizer, sae, measured, max_length=training.max_length)
    folder = Path(output_dir).expanduser().resolve()
    figures = {
        **asdict(quality),
        "recovered_against_zero": quality.recovered_against_zero,
        "recovered_against_mean": quality.recovered_against_mean,
    }
    write_json_atomic(folder / QUALITY_FILE, {**figures, "base_sha256": resolved.sha256, "training": asdict(training)})
    write_text_atomic(folder / "README.md", _card(model, layer, sae, quality, training, bool(texts)))
    return {**figures, "path": str(folder)}


def _card(model: str, layer: int, sae: Any, quality: Any, training: Any, own_texts: bool) -> str:
    source = "the user's own texts" if own_texts else "WordNet's definitions and short texts about its named things"
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
