"""Command line of models and pictures: reconstruct, export, masks."""

import argparse
import os
from pathlib import Path

from mae_ablation.cli_flags import add_store, heads, ratio, seed
from mae_ablation.store.paths import expanded

SAMPLINGS = ("random", "block", "grid")
RECONSTRUCT_EXAMPLES = """examples:
  a pre-training of the store, by its identity:
  %(prog)s --checkpoint 3f2a9c \\
      --image cat.jpg dog.jpg
  an official checkpoint:
  %(prog)s --image cat.jpg \\
      --checkpoint mae_visualize_vit_base.pth
"""
EXPORT_EXAMPLES = """examples:
  %(prog)s --checkpoint 3f2a9c \\
      --out vit.safetensors
  %(prog)s --checkpoint 3f2a9c \\
      --out mae.pth --format official
"""
MASKS_EXAMPLES = """examples:
  %(prog)s --out masks.png
  %(prog)s --seed 1
"""


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        type=os.path.expanduser,
        required=True,
        metavar="FILE_OR_TRIAL",
        help="a checkpoint, official ones too, or the identity of a pre-training in the store, of "
        "which the beginning is enough",
    )
    parser.add_argument(
        "--heads",
        type=heads,
        metavar="E,D",
        help="attention heads of encoder and decoder, where a file's shape does not say",
    )
    add_store(parser)


def add_reconstruct(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s --checkpoint C\n       --image FILE... [flags]"
    parser.epilog = RECONSTRUCT_EXAMPLES
    add_checkpoint(parser)
    parser.add_argument("--image", nargs="+", type=expanded, required=True, metavar="FILE")
    parser.add_argument("--mask-ratio", type=ratio, metavar="R", help="default: as trained")
    parser.add_argument("--sampling", choices=SAMPLINGS, help="default: as trained")
    parser.add_argument("--seed", type=seed, default=0, help="of the masks")
    parser.add_argument(
        "--target",
        choices=("pixel", "pixel_norm"),
        help="of a checkpoint from elsewhere, which does not say (default: pixel)",
    )
    parser.add_argument("--out", type=expanded, default=Path("reconstruction.png"))
    parser.set_defaults(command=do_reconstruct)


def do_reconstruct(arguments: argparse.Namespace) -> int:
    from mae_ablation.reconstruct import reconstruct

    print(
        reconstruct(
            arguments.checkpoint,
            arguments.image,
            store=arguments.store,
            out=arguments.out,
            mask_ratio=arguments.mask_ratio,
            sampling=arguments.sampling,
            seed=arguments.seed,
            target=arguments.target,
            heads=arguments.heads,
        )
    )
    return 0


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXPORT_EXAMPLES
    add_checkpoint(parser)
    parser.add_argument(
        "--format", choices=("timm", "official"), default="timm", help="default: timm"
    )
    parser.add_argument(
        "--out",
        type=expanded,
        required=True,
        metavar="FILE",
        help="its suffix decides: .safetensors; .pth, .pt or .bin for torch's own format",
    )
    parser.set_defaults(command=do_export)


def do_export(arguments: argparse.Namespace) -> int:
    from mae_ablation.reconstruct import export

    print(
        export(
            arguments.checkpoint,
            store=arguments.store,
            out=arguments.out,
            format=arguments.format,
            heads=arguments.heads,
        )
    )
    return 0


def add_masks(parser: argparse.ArgumentParser) -> None:
    parser.epilog = MASKS_EXAMPLES
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--out", type=expanded, default=Path("masks.png"))
    parser.set_defaults(command=do_masks)


def do_masks(arguments: argparse.Namespace) -> int:
    from mae_ablation.reconstruct import masks

    print(masks(out=arguments.out, seed=arguments.seed))
    return 0
