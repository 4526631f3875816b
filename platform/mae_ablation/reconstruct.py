"""The commands about single models: reconstruct, export, masks. Functions as in commands.py."""

from collections.abc import Sequence
from pathlib import Path

from mae_ablation.store.folder import Store
from mae_ablation.study.lookup import find_checkpoint
from mae_ablation.study.places import require_file, require_place, require_suffix


def reconstruct(
    checkpoint: str,
    images: Sequence[Path],
    *,
    store: Path | str,
    out: Path,
    mask_ratio: float | None = None,
    sampling: str | None = None,
    seed: int = 0,
    target: str | None = None,
    heads: tuple[int, int] | None = None,
) -> str:
    """Write a picture of what a model makes of images: the four panels of the paper's Figure 2.

    Args:
        checkpoint: a file, or the identity of a pre-training in the store or its beginning.
        mask_ratio, sampling: None: as it was trained; 0.75 and random where the file does not say.
        seed: of the masks.
        target: "pixel" or "pixel_norm" of a file that does not say.
        heads: attention heads of encoder and decoder of a file whose shape does not say.

    Returns what to tell the user.

    Raises:
        UserError: not a checkpoint, an encoder without its decoder, not an image, a mask that the
            grid does not allow.
    """
    # what the user can mend is said before torch is imported
    require_place(out)
    find_checkpoint(checkpoint, Store(store))
    for path in images:
        require_file(path, "the path of an image")

    from mae_ablation.report.panels import draw_panels
    from mae_ablation.train.inspect import open_model, read_image, reconstruction

    model = open_model(checkpoint, Store(store), target, heads=heads)
    pixels = [read_image(path, model) for path in images]
    drawn = reconstruction(model, pixels, mask_ratio, sampling, seed)
    draw_panels(drawn.panels, [path.name for path in images], drawn.caption, out)
    return "; ".join([f"{out}: {drawn.caption}", *model.notes])


def export(
    checkpoint: str,
    *,
    store: Path | str,
    out: Path,
    format: str,
    heads: tuple[int, int] | None = None,
) -> str:
    """Write a model's weights: "timm" (the encoder, a plain state dict) or "official" ({"model":
    ...} with the decoder). The suffix of `out` decides on safetensors or torch's own file.

    Returns what to tell the user.

    Raises:
        UserError: not a checkpoint, or a place or suffix that cannot be written.
    """
    # what the user can mend is said before torch is imported
    require_suffix(out)
    require_place(out)
    find_checkpoint(checkpoint, Store(store))

    from mae_ablation.mae.checkpoints import export_official, export_timm
    from mae_ablation.train.inspect import open_model

    official = format == "official"
    found = open_model(checkpoint, Store(store), None, heads=heads, decoder=official)
    (export_timm if format == "timm" else export_official)(found.model, out)
    kind = "safetensors" if out.suffix.lower() == ".safetensors" else "torch"
    return "; ".join([f"{out}: {format} format, a {kind} file", *found.notes])


def masks(*, out: Path, seed: int = 0) -> str:
    """Write a picture of the samplings of the paper's Figure 6 on a bundled image."""
    require_place(out)

    from mae_ablation.report.panels import draw_masks
    from mae_ablation.train.inspect import sampling_pictures

    draw_masks(sampling_pictures(seed), out)
    return f"{out}: random, block-wise and grid sampling"
