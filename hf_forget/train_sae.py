"""Trains a sparse autoencoder for a model by name, measures it, and writes what came out beside it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .data.model_names import resolve_model
from .errors import OutputError


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
        OutputError: If there is a whole SAE, or anything else, in the folder.
    """
    from .lm.loading import load_causal_lm, load_tokenizer
    from .options import ModelOptions
    from .sae_align.sae_folder import QUALITY_FILE, WORDNET_TEXTS, sae_in
    from .sae_align.sae_texts import default_texts, texts_of
    from .sae_align.sae_training import SAETraining

    folder = Path(output_dir).expanduser().resolve()
    if folder.exists() and ((folder / QUALITY_FILE).exists() or not (folder / "cfg.json").exists()):
        raise OutputError(f"'{folder}' exists; choose another folder for the SAE")
    training = training or SAETraining()
    resolved = resolve_model(model)
    options = ModelOptions(model_name_or_path=model)
    figures = sae_in(
        folder,
        load_causal_lm(resolved.path, options).eval(),
        load_tokenizer(resolved.path, options),
        texts_of(texts) if texts else default_texts(),
        layer,
        training=training,
        model_name=model,
        source="the user's own texts" if texts else WORDNET_TEXTS,
        identity=str(resolved.sha256 or resolved.revision),
        report=report,
    )
    return {**figures, "path": str(folder)}
