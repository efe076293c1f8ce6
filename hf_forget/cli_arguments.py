"""The arguments of the command line: its commands, their options, and keys that override a recipe."""

import argparse
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from . import __version__
from .errors import InputError

EXIT_VERDICT = 3

Overrides = dict[str, Any]
Handler = Callable[[argparse.Namespace], int]

_SWITCHES = {"json", "quiet", "version", "help", "dry_run", "overwrite", "resume"}
_SEVERAL = {"only", "texts"}
_EPILOG = """Any other --key value overrides that key of the recipe; a key alone means true, several values make a list.
Exit codes: 0 done, whatever the verdict; 2 the input is wrong; 3 not the required verdict; 130, 143 interrupted and
resumable; 1 anything else."""

_SAE_EPILOG = """Any other --key value is an option of the training: architecture (topk, batchtopk,
jumprelu, standard), num_latents, k, sparsity_coefficient, num_tokens, batch_tokens, learning_rate, max_length,
texts_per_batch, buffer_tokens, bf16, checkpoints, seed. The same command goes on where it was interrupted."""

_CONDENSE_EPILOG = """Any other --key value is an option of the condensation: condensation (dm, dc), images_per_class,
steps, learning_rate, batch_size, steps_per_model, seed. The same command goes on where it was interrupted."""

_SWEEP_EPILOG = """The spec, in YAML; all but recipe and output_dir may be left out:
  recipe: concept_unlearn/smollm2      a path or the name of a shipped recipe
  output_dir: outputs/objectives       where all results go
  settings:                            rows of the table, with the keys that they override
    npo: {objective: npo, learning_rate: 3e-4}
    simnpo: {objective: simnpo}
  grid: {learning_rate: [1e-4, 3e-4]}  varied in settings that do not give it themselves
  targets: [Isaac Newton]              values of concept, or name: {key: value}
  seeds: [0, 1, 2]                     values of seed, or name: {key: value}
  common: {max_steps: 40}              overrides for every run
  keep_weights: false                  keep only reports and cards

The same command goes on where it was interrupted, and may run several times at once: the processes share the runs.
Any other --key value overrides that key of every run.
Exit codes: 0 all runs are done; 1 a run failed; 2 the input is wrong; 130, 143 interrupted and resumable."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. See {self.prog} --help")


def build_parser(handlers: Mapping[str, Handler]) -> tuple[argparse.ArgumentParser, dict[str, set[str]]]:
    """Return the parser, and the long options of each command.

    Args:
        handlers: What each command calls with its arguments.
    """
    shared = _Parser(add_help=False)
    shared.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="results for machines")
    shared.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help="no progress, short results")
    parser = _Parser(
        prog="hf-forget",
        description="Make trained models forget, and prove it.",
        parents=[shared],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hf-forget {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, help: str, **kwargs: Any) -> _Parser:
        added = commands.add_parser(
            name,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            parents=[shared],
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **kwargs,
        )
        added.set_defaults(handler=handlers[name])
        return added

    forget = command("forget", "make a language model forget a name", epilog=_EPILOG)
    forget.add_argument("name", metavar="NAME", help="what has to go, such as 'Isaac Newton'")
    forget.add_argument("--model", metavar="M", help="folder, Hub id or embedded model")
    forget.add_argument("--method", metavar="M", default="concept_unlearn", help="see hf-forget methods")
    forget.add_argument("--output_dir", metavar="D", help="where the edited model goes")
    running = command("run", "run a recipe, by path or by name", epilog=_EPILOG)
    running.add_argument("recipe", metavar="RECIPE", help="see hf-forget recipes")
    for added in (forget, running):
        added.add_argument("--dry_run", action="store_true", help="check everything, train nothing")
        added.add_argument("--overwrite", action="store_true", help="replace an existing output")
        added.add_argument("--resume", action="store_true", help="go on from an interrupted run")
        added.add_argument("--require_verdict", metavar="V", help=f"exit with {EXIT_VERDICT} unless the verdict is V")
    evaluate = command("evaluate", "measure a checkpoint")
    evaluate.add_argument("model", metavar="MODEL", help="folder, Hub id or embedded model")
    evaluate.add_argument("--probes", metavar="F", required=True, help="probe file, one JSON object per line")
    evaluate.add_argument("--base", metavar="B", help="the model before, to compare with")
    sweep = command(
        "sweep", "run settings x targets x seeds of a spec and compare them; resumable", epilog=_SWEEP_EPILOG
    )
    sweep.add_argument("spec", metavar="SPEC", help="YAML file that says which runs, or the name of a shipped one")
    sweep.add_argument("--only", metavar="SETTING", nargs="+", default=[], help="these settings only")
    sweep.add_argument("--dry_run", action="store_true", help="list and check the runs, train nothing")
    compare = command("compare", "put the reports of runs and sweeps side by side")
    compare.add_argument("folders", metavar="DIR", nargs="+", help="output folder of run, or results folder of sweep")
    compare.add_argument("--metrics", metavar="M", nargs="+", help="names of metrics, apply_seconds, peak_memory_mb")
    compare.add_argument("--by", metavar="WHAT", default="setting", help="a row for each setting, or for each dir")
    compare.add_argument("--against", metavar="ROW", help="give each row's differences from this one, too, over pairs")
    compare.add_argument("--output_dir", metavar="D", help="where table.md, table.json and the plot go")
    sae = command("train-sae", "train a sparse autoencoder on a layer of a model; resumable", epilog=_SAE_EPILOG)
    sae.add_argument("model", metavar="MODEL", help="folder, Hub id or embedded model")
    sae.add_argument("--layer", metavar="L", type=int, required=True, help="index of the layer whose output is encoded")
    sae.add_argument("--output_dir", metavar="D", required=True, help="where the SAE goes")
    sae.add_argument("--texts", metavar="F", nargs="+", default=[], help="text files; WordNet if none are given")
    condensed = command("condense", "condense a set of images; resumable", epilog=_CONDENSE_EPILOG)
    condensed.add_argument("dataset", metavar="IMAGES", help="embedded:mnist, a folder or a Hub id")
    condensed.add_argument("--output_dir", metavar="D", required=True, help="where the condensed set goes")
    condensed.add_argument("--config", metavar="F", help="config.json of the models that condense; a small conv net's")
    command("recipes", "list the shipped recipes")
    command("methods", "list the methods")
    copy = command("copy", "copy a shipped recipe to start from")
    copy.add_argument("recipe", metavar="RECIPE", help="see hf-forget recipes")
    copy.add_argument("destination", metavar="DEST", help="a file or a folder")
    copy.add_argument("--overwrite", action="store_true", help="replace an existing file")
    fetch = command("fetch-assets", "install the embedded models, image sets and texts")
    fetch.add_argument("names", metavar="NAME", nargs="*", help="which; all if none is given")
    doctor = command("doctor", "check the installation")
    doctor.add_argument("--purge", action="store_true", help="empty the cache, which holds knowledge too")
    options = {
        name: {text[2:] for action in added._actions for text in action.option_strings if text.startswith("--")}
        for name, added in commands.choices.items()
    }
    return parser, options


def split_overrides(tokens: Sequence[str], options: set[str]) -> tuple[list[str], Overrides]:
    """Separate the command line's own arguments from keys that override a recipe.

    Args:
        tokens: The arguments behind the command.
        options: The command's own options, without dashes.

    Returns:
        The command's own arguments, and values by key: text, or a list where several were given.
    """
    own: list[str] = []
    overrides: Overrides = {}
    position = 0
    while position < len(tokens):
        token = tokens[position]
        position += 1
        if not token.startswith("--") or token == "--":
            own.append(token)
            continue
        name, has_value, text = token[2:].partition("=")
        key = name.replace("-", "_")
        values = [text] if has_value else []
        most = 0 if has_value else len(tokens) if key not in options or key in _SEVERAL else 1
        if key in _SWITCHES and tokens[position : position + 1] not in (["true"], ["false"]):
            most = 0
        while len(values) < most and position < len(tokens) and not tokens[position].startswith("--"):
            values.append(tokens[position])
            position += 1
        if key in _SWITCHES & options:
            own += [f"--{key}"] if values[:1] != ["false"] else []
        elif key in options:
            own += [f"--{key}", *values]
        else:
            _refuse_near_miss(name, key, options)
            overrides[key] = _joined(overrides.get(key), values)
    return own, overrides


def _refuse_near_miss(name: str, key: str, options: set[str]) -> None:
    """Refuse a misspelled option of ours, which would otherwise be called an unknown key of the recipe."""
    close = difflib.get_close_matches(key, options, n=1, cutoff=0.85)
    if close:
        raise InputError(f"unknown option '--{name}'. Did you mean '--{close[0]}'?")


def _joined(earlier: str | list[str] | None, values: list[str]) -> str | list[str]:
    if earlier is None and len(values) < 2:
        return values[0] if values else "true"
    every = [*([earlier] if isinstance(earlier, str) else earlier or []), *values]
    # In brackets numbers are read as numbers where the key wants them.
    return f"[{', '.join(every)}]" if all(re.fullmatch(r"[-+.\deE]+", value) for value in every) else every
