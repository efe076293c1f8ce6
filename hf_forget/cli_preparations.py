"""The long preparations as commands: sparse autoencoders and condensed sets."""

import argparse

from .cli_shared import from_overrides, quiet_libraries, show


def train_sae(args: argparse.Namespace) -> int:
    """Train a sparse autoencoder."""
    from .cli_output import Progress, print_table

    progress = Progress(quiet=args.quiet)
    with quiet_libraries(), progress:
        from .sae_align.sae_training import SAETraining
        from .train_sae import train_sae_for

        training = from_overrides(SAETraining, args.overrides)
        found = train_sae_for(
            args.model, args.layer, args.output_dir, texts=args.texts, training=training, report=progress.stage
        )
    show(args, found, lambda: print_table([[key, str(value)] for key, value in found.items()], ("figure", "")))
    return 0


def condense(args: argparse.Namespace) -> int:
    """Condense a set of images."""
    from .cli_output import Progress, print_table

    progress = Progress(quiet=args.quiet)
    with quiet_libraries(), progress:
        from .condensed_merge import CondensationOptions
        from .condensing import condense_images

        options = from_overrides(CondensationOptions, args.overrides)
        found = condense_images(
            args.dataset,
            args.output_dir,
            config=args.config,
            options=options,
            report=progress.stage,
            progress=progress.step,
        )
    show(args, found, lambda: print_table([[key, str(value)] for key, value in found.items()], ("figure", "")))
    return 0
