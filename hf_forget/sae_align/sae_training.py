"""Training of a sparse autoencoder on one layer of a language model, through sae_lens' own training classes."""

import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from ..errors import InputError, OutputError, unknown
from ..lm.representation import checked_layers, decoder_layers
from ..output import write_json_atomic
from .activations import layer_activations, token_batches
from .saes import hook_name, require_sae_lens

# How sae_lens' classes begin, what they call the sparsity, and which of our options it is.
ARCHITECTURES = {
    "topk": ("TopK", "k", "k"),
    "batchtopk": ("BatchTopK", "k", "k"),
    "jumprelu": ("JumpReLU", "l0_coefficient", "sparsity_coefficient"),
    "standard": ("Standard", "l1_coefficient", "sparsity_coefficient"),
}
LATENTS_PER_UNIT = 5
_POSITION, _SETTINGS = "position.json", "settings.json"


@dataclass(frozen=True)
class SAETraining:
    """How a sparse autoencoder is trained.

    Args:
        architecture (`str`, defaults to `"topk"`): `topk`, `batchtopk`, `jumprelu` or `standard`.
        num_latents (`int`, *optional*): Latents; five per unit of the model's width if it is `None`.
        k (`int`, defaults to 64): Active latents of a token, for `topk` and `batchtopk`.
        sparsity_coefficient (`float`, defaults to 1.0): Weight of the sparsity loss of `jumprelu` and `standard`.
        num_tokens (`int`, defaults to 1_000_000): Tokens that are learnt from; texts are read again where they end.
        batch_tokens (`int`, defaults to 2048): Tokens per step.
        learning_rate (`float`, defaults to 1e-3): Highest rate of Adam, reached after a twentieth of the steps and
            lowered to nothing during the last fifth.
        max_length (`int`, defaults to 64): Where a text is cut off, in tokens.
        texts_per_batch (`int`, defaults to 64): Texts per forward pass of the model.
        buffer_tokens (`int`, defaults to 65_536): Tokens among which the order is mixed.
        bf16 (`bool`, defaults to `False`): Whether the model runs under bfloat16 autocast.
        checkpoints (`int`, defaults to 10): How often the state is saved, for a run that is interrupted.
        seed (`int`, defaults to 0): Of initial weights and order.
    """

    architecture: str = "topk"
    num_latents: int | None = None
    k: int = 64
    sparsity_coefficient: float = 1.0
    num_tokens: int = 1_000_000
    batch_tokens: int = 2048
    learning_rate: float = 1e-3
    max_length: int = 64
    texts_per_batch: int = 64
    buffer_tokens: int = 65_536
    bf16: bool = False
    checkpoints: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise InputError(unknown("architecture", self.architecture, ARCHITECTURES))
        for name in ("k", "batch_tokens", "max_length", "texts_per_batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.num_tokens < self.batch_tokens:
            raise InputError(f"num_tokens is {self.num_tokens}; it must be at least one batch, {self.batch_tokens}")
        if self.buffer_tokens < self.batch_tokens:
            raise InputError(f"buffer_tokens is {self.buffer_tokens}; it must be at least {self.batch_tokens}")


def train_sae(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    layer: int,
    output_dir: str | Path,
    *,
    training: SAETraining | None = None,
    model_name: str = "",
    report: Callable[[str], None] = lambda line: None,
) -> Any:
    """Train a sparse autoencoder on a layer of a causal LM, or go on where an interrupted training stopped.

    The states that it learns from are those of plain texts, one text a sequence, without first positions and massive
    activations. An interrupted run goes on from its last checkpoint with the texts that follow; the order within the
    buffer is drawn anew.

    Args:
        model (`PreTrainedModel`): The model; it is not changed.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        texts: What the model reads.
        layer: Index of the decoder layer whose output is encoded.
        output_dir: Where the SAE is saved, in the format of sae_lens; it must not exist.
        training ([`SAETraining`], *optional*): How it is trained.
        model_name: Name of the model, kept in the SAE's metadata.
        report: Called with a line of text where a step begins.

    Returns:
        The SAE of sae_lens, in the form for use: a batchtopk one has become a jumprelu one.

    Raises:
        InputError: If a value cannot be used, there are no texts, or sae_lens is not installed.
        OutputError: If the folder exists, or the interrupted training was another one.
    """
    lens, training = require_sae_lens(), training or SAETraining()
    checked_layers([layer], len(decoder_layers(model)), "layer")
    if not texts:
        raise InputError("there are no texts to train on")
    final = Path(output_dir).expanduser().resolve()
    if final.exists():
        raise OutputError(f"'{final}' exists; choose another folder for the SAE")
    partial = final.with_name(f"{final.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{partial}.lock"):
        _check_same(partial, training, texts, layer, model_name)
        sae = _new_sae(lens, model, layer, training, model_name)
        trainer = _trainer(lens, sae, model, tokenizer, texts, layer, training, partial, report)
        try:
            trainer.fit()
        except BaseException as error:
            error.add_note(f"What has been learnt up to the last checkpoint is kept in '{partial}'.")
            raise
        # Training turns gradients and the mode of the encoder over; what is saved and given back is for use.
        sae.save_inference_model(partial / "sae")
        (partial / "sae").rename(final)
        shutil.rmtree(partial)
    Path(f"{partial}.lock").unlink(missing_ok=True)
    return lens.SAE.load_from_disk(final, device=str(model.device)).eval()


def _check_same(partial: Path, training: SAETraining, texts: Sequence[str], layer: int, model_name: str) -> None:
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    settings = {**asdict(training), "layer": layer, "model": model_name, "texts": digest}
    file = partial / _SETTINGS
    if file.exists() and json.loads(file.read_text()) != settings:
        raise OutputError(f"'{partial}' holds the interrupted training of another SAE; delete it to start anew")
    write_json_atomic(file, settings)


def _new_sae(lens: Any, model: Any, layer: int, training: SAETraining, model_name: str) -> Any:
    prefix, sparsity, option = ARCHITECTURES[training.architecture]
    width = model.config.get_text_config().hidden_size
    config = getattr(lens, f"{prefix}TrainingSAEConfig")(
        d_in=width,
        d_sae=training.num_latents or LATENTS_PER_UNIT * width,
        device=str(model.device),
        # States are scaled to a mean length of the square root of their width; the scale is folded in at the end.
        normalize_activations="expected_average_only_in",
        **{sparsity: getattr(training, option)},
    )
    config.metadata.model_name = model_name or type(model).__name__
    config.metadata.hook_name = hook_name(layer)
    config.metadata.context_size = training.max_length
    config.metadata.prepend_bos = True
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        return getattr(lens, f"{prefix}TrainingSAE")(config)


def _trainer(
    lens: Any,
    sae: Any,
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    layer: int,
    training: SAETraining,
    partial: Path,
    report: Callable[[str], None],
) -> Any:
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.mixing_buffer import mixing_buffer
    from sae_lens.training.sae_trainer import SAETrainer

    steps = training.num_tokens // training.batch_tokens
    config = SAETrainerConfig(
        total_training_samples=steps * training.batch_tokens,
        train_batch_size_samples=training.batch_tokens,
        lr=training.learning_rate,
        lr_end=training.learning_rate / 10,
        lr_warm_up_steps=steps // 20,
        lr_decay_steps=steps // 5,
        device=str(model.device),
        n_checkpoints=training.checkpoints,
        checkpoint_path=str(partial),
        dead_feature_window=max(50, min(1000, steps // 10)),
        n_batches_for_norm_estimate=min(8, steps),
    )
    reader = _Reader(model, tokenizer, texts, layer, training)

    def keep(checkpoint_path: Path | None) -> None:
        assert checkpoint_path is not None
        write_json_atomic(checkpoint_path / _POSITION, {"batches": reader.batches_read})
        for older in _checkpoints(partial):
            if older != checkpoint_path:
                shutil.rmtree(older)

    torch.manual_seed(training.seed)
    provider = mixing_buffer(training.buffer_tokens, training.batch_tokens, iter(reader))
    trainer = SAETrainer(config, sae, provider, save_checkpoint_fn=keep)
    found = _checkpoints(partial)
    if found:
        report(f"going on after {found[-1].name} tokens")
        sae.load_weights_from_checkpoint(found[-1])
        trainer.load_trainer_state(found[-1])
        reader.batches_read = json.loads((found[-1] / _POSITION).read_text())["batches"]
        trainer.checkpoint_thresholds = [
            number for number in trainer.checkpoint_thresholds if number > trainer.n_training_samples
        ]
    return trainer


def _checkpoints(partial: Path) -> list[Path]:
    """Whole checkpoints, the oldest first."""
    return sorted((path.parent for path in partial.glob(f"*/{_POSITION}")), key=lambda path: int(path.name))


class _Reader:
    """The states of a layer for the texts, over and over, counting the batches that have been read."""

    def __init__(self, model: Any, tokenizer: Any, texts: Sequence[str], layer: int, training: SAETraining):
        self.model, self.tokenizer, self.texts, self.layer, self.training = model, tokenizer, texts, layer, training
        self.batches_read = 0

    def __iter__(self) -> Iterator[Tensor]:
        counted = itertools.islice(self._batches(), self.batches_read, None)
        yield from layer_activations(self.model, self._count(counted), self.layer, bf16=self.training.bf16)

    def _count(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            self.batches_read += 1
            yield batch

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        options = self.training
        for reading in itertools.count():
            yield from token_batches(
                self.tokenizer,
                self.texts,
                batch_size=options.texts_per_batch,
                max_length=options.max_length,
                seed=options.seed + reading,
            )
