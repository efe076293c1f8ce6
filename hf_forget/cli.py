"""The command line: commands and arguments, and nothing of what they do."""

import argparse
import contextlib
import dataclasses
import errno
import hashlib
import re
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .allocator import keep_freed_memory
from .cli_arguments import EXIT_VERDICT, Overrides, build_parser, split_overrides
from .cli_preparations import condense, train_sae
from .cli_shared import from_overrides, quiet_libraries, show
from .errors import HfForgetError, InputError, OutputError, unknown

EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
VERDICTS = ("forgotten", "partial", "not_forgotten", "collapsed", "insufficient", "better", "same", "worse")

# The recipe behind `hf-forget forget`, by method.
_FORGET_RECIPES = {"concept_unlearn": "concept_unlearn/smollm2", "sae_align": "sae_align/smollm2"}
_WITH_OVERRIDES = ("forget", "run", "evaluate", "sweep", "train-sae", "condense")
_GOES_ON_BY_ITSELF = ("sweep", "train-sae", "condense")


class _Terminated(BaseException):
    """SIGTERM has come."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with _termination_as_exception(), warnings.catch_warnings():
            return _run_command(arguments)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except KeyboardInterrupt as error:
        return _explain("interrupted", error, EXIT_INTERRUPTED, arguments)
    except _Terminated as error:
        return _explain("terminated", error, EXIT_TERMINATED, arguments)
    except HfForgetError as error:
        return _explain(f"error: {error}", error, error.exit_code, arguments)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            traceback.print_exc()
            return 1
        return _explain(f"error: the disk is full ({error})", error, 1, arguments)
    except Exception:  # a mistake of ours, which only the traceback explains
        traceback.print_exc()
        return 1


def _run_command(arguments: list[str]) -> int:
    parser, options = build_parser(_HANDLERS)
    position = next((i for i, token in enumerate(arguments) if not token.startswith("-")), len(arguments))
    command = arguments[position] if position < len(arguments) else ""
    if command and command not in options:
        raise InputError(unknown("command", command, options))
    overrides: Overrides = {}
    if command in _WITH_OVERRIDES:
        own, overrides = split_overrides(arguments[position + 1 :], options[command])
        arguments = [*arguments[: position + 1], *own]
    args = parser.parse_args(arguments, argparse.Namespace(json=False, quiet=False, overrides=overrides))
    if not command:
        parser.print_help()
        return 0
    keep_freed_memory()
    return args.handler(args)


def _forget(args: argparse.Namespace) -> int:
    from .method import available_methods, get_method

    if not args.name.strip():
        raise InputError("NAME is empty; give what has to go, for example: hf-forget forget 'Isaac Newton'")
    if args.method not in _FORGET_RECIPES:
        get_method(args.method)
        raise InputError(
            f"method '{args.method}' has no recipe for a name; available: {', '.join(available_methods())}"
        )
    # The folder must not name the target: its name is seen wherever the model is used.
    digest = hashlib.sha256(f"{args.method}\n{args.name.strip()}".encode()).hexdigest()[:8]
    given = {"concept": args.name, "output_dir": args.output_dir or f"hf-forget-output-{digest}"}
    if args.model is not None:
        given["model_name_or_path"] = args.model
    return _go(args, _FORGET_RECIPES[args.method], {**given, **args.overrides})


def _run(args: argparse.Namespace) -> int:
    return _go(args, args.recipe, args.overrides)


def _go(args: argparse.Namespace, recipe: str, overrides: dict[str, Any]) -> int:
    required = args.require_verdict
    if required is not None and required not in VERDICTS:
        raise InputError(unknown("verdict", required, VERDICTS))
    from .cli_output import Progress, print_plan, print_summary, summary_data

    progress = Progress(quiet=args.quiet)
    with quiet_libraries(), progress:
        from .run import run

        result = run(
            recipe,
            overrides=overrides,
            overwrite=args.overwrite,
            resume=args.resume,
            dry_run=args.dry_run,
            report=progress.stage,
            progress=progress.step,
        )
    if result.report is None:
        if result.plan:
            show(args, result.plan, lambda: print_plan(result.plan))
        return 0
    report, folder = result.report, result.output_dir
    verdict = report.verdict["value"]
    if args.quiet and not args.json:
        print(f"{verdict} {folder}")
    else:
        show(args, summary_data(report, folder), lambda: print_summary(report, folder))
    if required not in (None, verdict):
        print(f"error: the verdict is {verdict}, required was {required}", file=sys.stderr)
        return EXIT_VERDICT
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from .cli_output import Progress, print_evaluation
    from .evidence.options import EvidenceOptions

    names = {key: args.overrides.pop(key) for key in ("concept", "aliases") if key in args.overrides}
    aliases = names.get("aliases", [])
    options = from_overrides(EvidenceOptions, {**args.overrides, "probes": args.probes})
    progress = Progress(quiet=args.quiet)
    with quiet_libraries(), progress:
        from .evaluate import evaluate

        found = evaluate(
            args.model,
            args.probes,
            base=args.base,
            options=options,
            concept=names.get("concept", ""),
            aliases=[aliases] if isinstance(aliases, str) else aliases,
            report=progress.stage,
        )
    show(args, found, lambda: print_evaluation(found))
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from .cli_output import Progress, print_sweep

    progress = Progress(quiet=args.quiet)
    with quiet_libraries(), progress:
        from .sweep import sweep

        result = sweep(
            args.spec,
            overrides=args.overrides,
            only=args.only,
            dry_run=args.dry_run,
            report=progress.stage,
            progress=progress.step,
        )
    show(args, result.to_dict(), lambda: print_sweep(result, args.quiet))
    for run in result.failed if not args.dry_run else []:
        print(f"failed: {run.folder}: {run.error}", file=sys.stderr)
    return 1 if result.failed and not args.dry_run else 0


def _compare(args: argparse.Namespace) -> int:
    from .compare import compare

    comparison = compare(args.folders, metrics=args.metrics, by=args.by, against=args.against)
    if args.output_dir is not None:
        try:
            comparison.save(args.output_dir)
        except OSError as error:
            raise OutputError(f"'{args.output_dir}' cannot be written: {error.strerror or error}") from error
        if problem := comparison.plot_problem():
            print(problem, file=sys.stderr)
    show(args, comparison.to_dict(), lambda: print(comparison.to_markdown(), end=""))
    return 0


def _recipes(args: argparse.Namespace) -> int:
    from .cli_output import print_table
    from .recipe_files import list_recipes

    data = [
        {
            "name": info.name,
            "method": info.method,
            "time": _stated("Time", info.header),
            "verdict": _stated("Verdict", info.header),
            "purpose": info.purpose,
        }
        for info in list_recipes()
    ]
    header = ("name", "time", "verdict", "purpose")
    rows = [[recipe[key] or "–" for key in header] for recipe in data]
    show(args, data, lambda: print_table(rows, ("recipe", *header[1:])))
    return 0


def _stated(what: str, header: str) -> str | None:
    """Return what the header of a recipe says behind `Time:` or `Verdict:`."""
    found = re.search(rf"^{what}:\s*(.+)$", header, re.MULTILINE)
    return found[1].strip() if found else None


def _methods(args: argparse.Namespace) -> int:
    from .cli_output import print_table
    from .method import available_methods, get_method
    from .recipe_files import list_recipes

    recipes = list_recipes()
    data: list[dict[str, Any]] = []
    with quiet_libraries():
        for name in available_methods():
            method = get_method(name)
            own = [recipe for recipe in recipes if recipe.method == name]
            stated = {
                what.lower(): next((text for recipe in own if (text := _stated(what, recipe.header))), None)
                for what in ("Time", "Verdict")
            }
            shipped = [recipe.name for recipe in own]
            data.append({"name": name, "task": method.task, "paper": dict(method.paper), **stated, "recipes": shipped})
    rows = [
        [method["name"], method["task"], method["time"] or "–", method["verdict"] or "–", method["paper"]["title"]]
        for method in data
    ]
    show(args, data, lambda: print_table(rows, ("method", "task", "time", "verdict", "paper")))
    return 0


def _copy(args: argparse.Namespace) -> int:
    import shutil

    from .recipe_files import find_recipe

    source, destination = find_recipe(args.recipe), Path(args.destination).expanduser()
    if destination.is_dir():
        destination /= source.name
    if destination.exists() and not args.overwrite:
        raise OutputError(f"'{destination}' exists already; choose another name or pass --overwrite to replace it")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, destination)
    except (OSError, shutil.SameFileError) as error:
        raise OutputError(f"'{destination}' cannot be written: {getattr(error, 'strerror', None) or error}") from error
    show(args, {"path": str(destination)}, lambda: print(destination))
    return 0


def _fetch_assets(args: argparse.Namespace) -> int:
    from .data.fetching import fetch_embedded

    paths = {name: str(path) for name, path in fetch_embedded(args.names).items()}
    show(args, paths, lambda: print("\n".join(f"{name}: {path}" for name, path in paths.items())))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from .cli_output import print_table

    with quiet_libraries():
        from .doctor import diagnose, purge

        removed = [str(path) for path in purge()] if args.purge else []
        checks = [] if args.purge else diagnose()
    if args.purge:
        show(args, {"removed": removed}, lambda: print("\n".join(removed) or "the cache is empty already"))
        return 0
    rows = [[check.name, "ok" if check.ok else "NO", check.detail, check.remedy] for check in checks]
    data = [dataclasses.asdict(check) for check in checks]
    show(args, data, lambda: print_table(rows, ("check", "", "found", "what to do")))
    return 0 if all(check.ok for check in checks) else 1


_HANDLERS = {
    "forget": _forget,
    "run": _run,
    "evaluate": _evaluate,
    "sweep": _sweep,
    "compare": _compare,
    "train-sae": train_sae,
    "condense": condense,
    "recipes": _recipes,
    "methods": _methods,
    "copy": _copy,
    "fetch-assets": _fetch_assets,
    "doctor": _doctor,
}


def _explain(message: str, error: BaseException, code: int, arguments: Sequence[str]) -> int:
    """Write one block to stderr: what happened, what is left of the work, and how to go on."""
    notes = getattr(error, "__notes__", [])
    lines = [message, *notes]
    if notes and code != InputError.exit_code:
        again = [argument for argument in arguments if argument != "--resume"]
        command = next(word for word in again if not word.startswith("-"))
        again += [] if command in _GOES_ON_BY_ITSELF else ["--resume"]
        lines.append(f"To go on: hf-forget {shlex.join(again)}")
    print("\n".join(lines), file=sys.stderr)
    return code


@contextlib.contextmanager
def _termination_as_exception() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that locks are released and the work done so far is kept."""

    def terminate(*_: Any) -> NoReturn:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
