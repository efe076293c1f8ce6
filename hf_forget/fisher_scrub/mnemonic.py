"""Mnemonic codes: one random input per class that a model learns beside its data, and that stands for it later."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError
from ..evidence.classifier_outputs import batched_logits, num_classes

if TYPE_CHECKING:
    from torch import Tensor, nn

CODES_FILE = "mnemonic_codes.safetensors"
Space = Literal["input", "embedding"]
_SPACES = ("input", "embedding")
_FORMAT = "hf_forget_mnemonic_codes"
# Where a configuration names the side of its images, and how many channels they have.
_SIDES = ("image_size", "input_size")
_CHANNELS = ("num_channels", "in_channels", "in_chans")


class MnemonicCodes:
    """One random code `ξ_c ~ N(0, 1)` per class, of the shape of the model's inputs.

    Args:
        values (`Tensor` of shape `(classes, …)`): The codes: `(channels, height, width)` each for images as the model
            takes them, after normalisation; `(length, hidden_size)` each in the space of token embeddings.
        space (`str`, defaults to `"input"`): `input`, or `embedding` for models that read text.

    Raises:
        InputError: If there are fewer than two codes, or a value is not finite.

    Example:
        >>> codes = MnemonicCodes.generate(10, (1, 28, 28), seed=0)
        >>> codes.save("codes.safetensors")
        >>> torch.equal(MnemonicCodes.load("codes.safetensors").values, codes.values)
        True

    Source: arXiv 2306.05670.
    """

    def __init__(self, values: "Tensor", space: Space = "input") -> None:
        if space not in _SPACES:
            raise InputError(f"unknown space '{space}' of codes; accepted: {', '.join(_SPACES)}")
        if values.ndim < 2 or len(values) < 2:
            raise InputError(f"codes need one row for each of at least two classes, got the shape {list(values.shape)}")
        if not torch.isfinite(values).all():
            raise InputError("the codes hold values that are not finite; generate them again")
        self.values = values.detach().to(torch.float32).contiguous()
        self.space = space

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one code."""
        return tuple(self.values.shape[1:])

    @property
    def labels(self) -> "Tensor":
        """The class of each code, int64 of shape `(classes,)`."""
        return torch.arange(len(self))

    @classmethod
    def generate(
        cls, num_classes: int, shape: Sequence[int], *, seed: int = 0, space: Space = "input", scale: float = 1.0
    ) -> "MnemonicCodes":
        """Draw the codes of `num_classes` classes.

        Args:
            num_classes (`int`): How many classes the model tells apart.
            shape: Shape of one code.
            seed (`int`, defaults to 0): Seed; the same one gives the same codes on every machine.
            space (`str`, defaults to `"input"`): See the class.
            scale (`float`, defaults to 1.0): Standard deviation; 1 in the paper. In the space of embeddings the
                spread of the embedding table suits better.
        """
        if scale <= 0:
            raise InputError(f"scale is {scale}; it must be above 0")
        generator = torch.Generator().manual_seed(seed)
        return cls(scale * torch.randn(num_classes, *shape, generator=generator), space)

    @classmethod
    def for_model(cls, model: "nn.Module", *, seed: int = 0, length: int = 8) -> "MnemonicCodes":
        """Draw codes that fit a model, by its configuration.

        Args:
            model (`PreTrainedModel`): An image classifier, or a sequence classifier.
            seed (`int`, defaults to 0): Seed.
            length (`int`, defaults to 8): Positions of one code where the model reads text.

        Raises:
            InputError: If the configuration does not say how large an input is; then use `generate`.
        """
        config: Any = model.config
        classes = num_classes(model) or 0
        if getattr(model, "main_input_name", "pixel_values") == "input_ids":
            table = model.get_input_embeddings().weight  # type: ignore[operator]
            shape, scale = (length, table.shape[1]), float(table.detach().float().std())
            return cls.generate(classes, shape, seed=seed, space="embedding", scale=scale)
        side = next((getattr(config, name) for name in _SIDES if getattr(config, name, None)), None)
        channels = next((getattr(config, name) for name in _CHANNELS if getattr(config, name, None)), None)
        if side is None or channels is None:
            raise InputError(
                f"the configuration of {type(model).__name__} does not say how large its images are; draw the codes "
                "with MnemonicCodes.generate(num_classes, (channels, height, width))"
            )
        height, width = (side, side) if isinstance(side, int) else tuple(side)
        return cls.generate(classes, (channels, height, width), seed=seed)

    def save(self, path: str | Path) -> Path:
        """Write the codes as safetensors into a file, or as `mnemonic_codes.safetensors` into a folder."""
        file = Path(path)
        file = file if file.suffix == ".safetensors" else file / CODES_FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({"codes": self.values.cpu()}, file, metadata={"format": "pt", _FORMAT: json.dumps(self.space)})
        return file

    @classmethod
    def load(cls, path: str | Path) -> "MnemonicCodes":
        """Read codes from a file, or from the folder that holds `mnemonic_codes.safetensors`.

        Raises:
            InputError: If there are none.
        """
        file = Path(path)
        file = file / CODES_FILE if file.is_dir() else file
        try:
            with safe_open(file, "pt") as stored:
                space = json.loads((stored.metadata() or {})[_FORMAT])
                return cls(stored.get_tensor("codes"), space)
        except (OSError, KeyError, ValueError, SafetensorError) as error:
            raise InputError(f"'{path}' holds no mnemonic codes: {error!r}") from None

    def check_fit(self, model: "nn.Module") -> None:
        """Check that the codes belong to a model of this many classes, inputs and kind.

        Raises:
            InputError: If they do not; the message says what differs.
        """
        classes = num_classes(model)
        if classes is not None and classes != len(self):
            raise InputError(f"there are codes of {len(self)} classes, and the model has {classes}; give its own codes")
        reads_text = getattr(model, "main_input_name", "pixel_values") == "input_ids"
        if reads_text != (self.space == "embedding"):
            wanted = "embedding" if reads_text else "input"
            raise InputError(
                f"the codes lie in the {self.space} space, and {type(model).__name__} needs them in the {wanted} "
                f"space; draw them with MnemonicCodes.for_model(model)"
            )
        try:
            batched_logits(model, self.values[:1], attention_mask=code_mask(self, self.values[:1]))
        except (RuntimeError, ValueError) as error:
            wanted_shape = _wanted_shape(model, self.shape[0])
            needed = list(wanted_shape) if wanted_shape is not None else f"another one ({error})"
            raise InputError(f"a code has the shape {list(self.shape)}, and the model needs {needed}") from None


class MnemonicCollator:
    """Wraps a data collator: replaces each sample by the code of its class, with probability `t_mix`.

    It works in any `Trainer`, for training from scratch as for one epoch on top of a pretrained model. In the space of
    embeddings it looks the tokens up in `embeddings`, which is not trained meanwhile, and hands `inputs_embeds` on.

    Args:
        data_collator: The collator to wrap; its batches hold `labels`, and `pixel_values` or `input_ids`.
        codes ([`MnemonicCodes`]): The codes.
        t_mix (`float`, defaults to 0.1): Probability of a replacement; 0.1 for MNIST and 0.3 for CIFAR-10 in the
            paper.
        seed (`int`, defaults to 0): Seed of the replacements.
        embeddings (`Module`, *optional*): The model's token embeddings, where the codes lie in their space.

    Raises:
        InputError: If `t_mix` is no probability or the embeddings are missing.
    """

    def __init__(
        self,
        data_collator: Callable[[list[Any]], dict[str, Any]],
        codes: MnemonicCodes,
        t_mix: float = 0.1,
        *,
        seed: int = 0,
        embeddings: "nn.Module | None" = None,
    ) -> None:
        if not 0 < t_mix < 1:
            raise InputError(f"t_mix is {t_mix}; it must lie between 0 and 1")
        if codes.space == "embedding" and embeddings is None:
            raise InputError("codes in the space of embeddings need embeddings=model.get_input_embeddings()")
        self.data_collator = data_collator
        self.codes = codes
        self.t_mix = t_mix
        self.embeddings = embeddings
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, features: list[Any]) -> dict[str, Any]:
        batch = dict(self.data_collator(features))
        labels = batch.get("labels")
        if labels is None:
            raise InputError(f"the batch has no labels; the collator gave {', '.join(batch)}")
        if len(labels) and int(labels.max()) >= len(self.codes):
            raise InputError(f"the data has the class {int(labels.max())}, and there are {len(self.codes)} codes")
        replaced = torch.rand(len(labels), generator=self.generator) < self.t_mix
        if self.codes.space == "embedding":
            return self._embedded(batch, labels, replaced)
        pixels = batch["pixel_values"]
        if tuple(pixels.shape[1:]) != self.codes.shape:
            raise InputError(
                f"a code has the shape {list(self.codes.shape)}, and the images have {list(pixels.shape[1:])}"
            )
        batch["pixel_values"] = pixels.clone()
        batch["pixel_values"][replaced] = self.codes.values[labels[replaced]].to(pixels.dtype)
        return batch

    def _embedded(self, batch: dict[str, Any], labels: "Tensor", replaced: "Tensor") -> dict[str, Any]:
        tokens = batch.pop("input_ids")
        batch.pop("token_type_ids", None)
        mask = batch.get("attention_mask")
        mask = torch.ones_like(tokens) if mask is None else mask
        table: Any = self.embeddings
        with torch.no_grad():
            embedded = table(tokens.to(table.weight.device)).float().cpu()
        length = self.codes.shape[0]
        missing = max(0, length - embedded.shape[1])
        embedded = torch.nn.functional.pad(embedded, (0, 0, 0, missing))
        mask = torch.nn.functional.pad(mask, (0, missing))
        embedded[replaced] = 0.0
        embedded[replaced, :length] = self.codes.values[labels[replaced]]
        mask[replaced] = (torch.arange(mask.shape[1]) < length).to(mask.dtype)
        return batch | {"inputs_embeds": embedded, "attention_mask": mask}


def code_mask(codes: MnemonicCodes, rows: "Tensor | None" = None) -> "Tensor | None":
    """Return the attention mask of codes in the space of embeddings: every position is read."""
    if codes.space != "embedding":
        return None
    count = len(codes) if rows is None else len(rows)
    return torch.ones(count, codes.shape[0], dtype=torch.int64)


def _wanted_shape(model: "nn.Module", length: int) -> tuple[int, ...] | None:
    try:
        return MnemonicCodes.for_model(model, length=length).shape
    except InputError:
        return None


def check_classes(classes: Iterable[int], count: int, forgotten: Iterable[int] = ()) -> tuple[int, ...]:
    """Return the classes to forget in ascending order.

    Raises:
        InputError: If none or all are named, one is out of range, named twice, or forgotten already.
    """
    given = list(classes)
    if not given:
        raise InputError("forget_classes is empty; name at least one class")
    for value in given:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
            raise InputError(f"forget_classes names {value!r}; the model has the classes 0 to {count - 1}")
    if len(set(given)) < len(given):
        raise InputError(f"forget_classes names a class twice: {', '.join(map(str, given))}")
    before = set(forgotten)
    again = sorted(before & set(given))
    if again:
        raise InputError(f"forget_classes names what is forgotten already: {', '.join(map(str, again))}")
    if len(before | set(given)) == count:
        raise InputError(
            f"forget_classes leaves no class: {count} of {count} would be forgotten; leave out at least one, or delete "
            "the model"
        )
    return tuple(sorted(given))
