"""Single models looked at: from a checkpoint or the store, with images of the user's own."""

import atexit
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mae_ablation.data.arrays import statistics
from mae_ablation.data.augment import normalise
from mae_ablation.data.dataset import load_dataset
from mae_ablation.data.sets import IMAGENET_MEAN, IMAGENET_STD
from mae_ablation.errors import UserError
from mae_ablation.mae.checkpoints import (
    USUAL_HEADS,
    Shape,
    load_into,
    open_checkpoint,
    require_decoder,
    shape_of,
)
from mae_ablation.mae.fitted import FittedTarget
from mae_ablation.mae.masking import removed_mask
from mae_ablation.mae.model import MaskedAutoencoder
from mae_ablation.mae.picture import hide, panels
from mae_ablation.recipe.recipe import Data
from mae_ablation.registry import Target, ask, find_component, list_components
from mae_ablation.store.files import LocalFiles
from mae_ablation.store.folder import PhaseFolder, Store
from mae_ablation.study.places import find_checkpoint, require_file
from mae_ablation.train.optim import generator

MASKS_SIDE, MASKS_GRID = 28, 14  # patches of two pixels: the paper's 14 x 14
MASKS_IMAGE = 870  # of the bundled test images: one that fills the frame


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspected:
    """A model, and what is known of how it was trained."""

    model: MaskedAutoencoder
    place: str
    """file or identity, for errors"""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    keep: int
    """visible patches at the end of training; a quarter where that is not known"""
    sampling: str
    notes: tuple[str, ...] = ()
    """lines for the user on what was taken from its file and what was not"""


def open_model(
    checkpoint: str,
    store: Store,
    target: str | None,
    *,
    heads: tuple[int, int] | None = None,
    decoder: bool = True,
) -> Inspected:
    """Load the model of a checkpoint file, or of a pre-training in the store by its identity.

    Args:
        checkpoint: a path, or as much of an identity as no other begins with.
        target: "pixel" or "pixel_norm" where the file does not say; None: pixel.
        heads: of encoder and decoder where neither file nor width says.
        decoder: refuse a file without one.

    Raises:
        UserError: nothing there, not a checkpoint, or no decoder where one is needed.
    """
    file, folder = _find_file(checkpoint, store)
    place, document = str(file), folder.document()  # no document: a file from elsewhere
    if document and (encoder := document["model"].get("encoder")):
        raise UserError(
            f"its encoder is {encoder}: only those of the encoder vit can be", checkpoint
        )

    # shapes follow from the weights, the rest from the document or the file's own words
    opened = open_checkpoint(file)
    state = opened.state
    if decoder:
        require_decoder(state, place, opened.others)
    shape = shape_of(state, place)
    encoder_only, patches = shape.decoder_width is None, shape.grid[0] * shape.grid[1]
    known = document["model"] if document else opened.description
    trained = document["pretrain"] if document else known
    chosen = find_component("target", trained.get("target", target or "pixel"))
    component = chosen.cls(**trained.get(chosen.section, {}))
    kept = trained.get("kept_patches", patches // 4)
    known = known | dict(zip(("encoder_heads", "decoder_heads"), heads or (), strict=False))

    model = MaskedAutoencoder(
        image_size=tuple(side * shape.patch_size for side in shape.grid),
        patch_size=shape.patch_size,
        channels=shape.channels,
        encoder_width=shape.encoder_width,
        encoder_depth=shape.encoder_depth,
        encoder_heads=_count_heads("encoder", shape.encoder_width, known, place),
        decoder_width=4 if encoder_only else shape.decoder_width,
        decoder_depth=1 if encoder_only else shape.decoder_depth,
        decoder_heads=1
        if encoder_only
        else _count_heads("decoder", shape.decoder_width, known, place),
        mlp_ratio=shape.mlp_ratio,
        target=_restore_target(shape, state, component),
        encoder_mask_tokens=shape.encoder_mask_tokens,
        class_token=shape.class_token,
    )
    load_into(model, state, encoder_only=encoder_only, place=place)

    # images were normalised by their data set's statistics, else probably by ImageNet's
    mean, std = IMAGENET_MEAN[: shape.channels], IMAGENET_STD[: shape.channels]
    if document:
        name = document["data"]["name"]
        settings = document["data"].get(find_component("dataset", name).section, {})
        mean, std = statistics(Data(name=name, settings=tuple(sorted(settings.items()))))
    return Inspected(
        model=model.eval(),
        place=checkpoint,
        mean=mean,
        std=std,
        keep=kept if isinstance(kept, int) else kept[-1][0],  # a curriculum's last
        sampling=trained.get("mask_sampling", "random"),
        notes=() if document else opened.notes,
    )


def _find_file(checkpoint: str, store: Store) -> tuple[Path, PhaseFolder]:
    """Find the checkpoint's file, fetched if the store is elsewhere, and the folder it lies in."""
    folder = find_checkpoint(checkpoint, store)
    if isinstance(folder, Path):
        return folder, PhaseFolder.at(folder.parent)
    sound = folder.sound_checkpoint()
    if sound is None:
        raise UserError(f"pre-training {checkpoint} has no checkpoint yet", "--checkpoint")
    # a remote store's file is fetched for as long as the command runs
    newest, data = sound
    if isinstance(store.files, LocalFiles):
        return store.files.path / newest.name, folder
    with tempfile.NamedTemporaryFile(suffix=".pt", delete=False) as file:
        atexit.register(os.unlink, file.name)
        file.write(data)
    return Path(file.name), folder


def _count_heads(part: str, width: int, known: dict, place: str) -> int:
    """Heads leave no trace in weights: as said, or as the paper's models of that width have."""
    heads = known.get(f"{part}_heads", USUAL_HEADS.get(width))
    if heads is None or width % heads:
        raise UserError(
            f"does not say how many attention heads its {part} of width {width} has: give "
            "--heads ENCODER,DECODER",
            place,
        )
    return heads


def _restore_target(shape: Shape, state: dict, component: Target) -> FittedTarget:
    """Make the target with what the file has of it; one that cannot be drawn if widths differ."""
    prefix = "target."
    fitted = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    values, width = shape.patch_size**2 * shape.channels, shape.prediction_width
    if width not in (None, component.width(values)) and not fitted:
        component = Target()
    return FittedTarget(component, shape.patch_size, shape.channels, fitted, width)


def read_image(path: Path, inspected: Inspected) -> torch.Tensor:
    """Read an image at the model's size: pixels (1, c, h, w) in [0, 1].

    It is turned as a person sees it, which a training does not do, resized to cover the size, and
    centre cropped.

    Raises:
        UserError: not an image, with the reason.
    """
    from torchvision.transforms.v2 import functional as F

    from mae_ablation.data.decode import CannotDecode, decode, orientation, upright

    model = inspected.model
    height, width = (side * model.patch_size for side in model.grid)
    require_file(path, "the path of an image")
    try:
        image = upright(decode(path), orientation(path))
    except CannotDecode as error:
        raise UserError(f"not an image that can be read: {error}", str(path)) from None
    # cover the model's size, never less than it by rounding, and cut the centre
    if len(inspected.mean) == 1:
        image = F.rgb_to_grayscale(image)
    cover = max(height / image.shape[1], width / image.shape[2])
    size = [max(height, round(image.shape[1] * cover)), max(width, round(image.shape[2] * cover))]
    image = F.resize(image, size, F.InterpolationMode.BICUBIC, antialias=True)
    return F.center_crop(image, [height, width])[None].float() / 255


def draw_reconstructions(
    inspected: Inspected,
    images: Sequence[torch.Tensor],
    mask_ratio: float | None,
    sampling: str | None,
    seed: int,
) -> tuple[dict, str]:
    """Draw four panels of each image; returns arrays (n, h, w, c) by title, and a caption.

    Args:
        mask_ratio: None: as trained, or the share that the sampler fixes.

    Raises:
        UserError: the model predicts tokens; a ratio or sampling that the grid does not allow.
    """
    model = inspected.model
    if not model.target.can_draw:
        raise UserError("the model predicts tokens, not pixels: nothing to draw", inspected.place)

    # masks
    sampling, patches = sampling or inspected.sampling, model.grid[0] * model.grid[1]
    one_of = find_component("sampler", sampling).cls.one_of
    keep = patches // one_of if one_of else inspected.keep
    if mask_ratio is not None:
        keep = int(patches * (1 - mask_ratio))
        if not 0 < keep < patches:
            raise UserError(f"{mask_ratio:g} leaves none or all of the patches", "--mask-ratio")
    if one_of and keep * one_of != patches:
        rule = f"keeps {patches // one_of} patches, not {keep}"
        if patches % one_of:
            rule = f"keeps one patch of {one_of}: impossible on {patches}"
        raise UserError(f"{sampling} sampling {rule}", "--sampling")
    batch = normalise(torch.cat(list(images)), inspected.mean, inspected.std)
    shuffle = draw_masks(sampling, len(batch), model.grid, keep, generator(seed, "reconstruct"))

    # panels
    drawn = panels(model, batch, shuffle, keep, inspected.mean, inspected.std)
    # the model's own pixels beside those that it saw, as in the paper's Figure 2
    titles = ("original", "masked", "reconstruction", "reconstruction + visible")
    arrays = (part.permute(0, 2, 3, 1).numpy() for part in drawn)
    caption = f"{sampling} sampling keeps {keep} of {patches} patches"
    if model.target.component.lends_statistics:
        caption += (
            "; each patch has its true mean and contrast, removed ones too: the model predicts "
            "normalised patches"
        )
    return dict(zip(titles, arrays, strict=True)), caption


def draw_masks(
    sampling: str, n: int, grid: tuple[int, int], keep: int, rng: torch.Generator
) -> torch.Tensor:
    """Draw permutations (n, L) of a sampler with its default settings, as in a last epoch."""
    sampler = find_component("sampler", sampling).cls()
    try:
        return ask(sampler.shuffle, n, grid, keep, rng, epoch=0, epochs=1)
    except ValueError as error:
        raise UserError(str(error), "--sampling") from None


def sampling_pictures(seed: int) -> dict:
    """Mask one image by each sampling of the paper's Figure 6: (h, w, c) arrays by title."""
    # one seed for all: the samplings differ, not the luck
    data = load_dataset(Data(image_size=MASKS_SIDE))
    pixels = data.test.images[MASKS_IMAGE].float()[None] / 255
    patches = MASKS_GRID**2
    out = {"original": pixels}
    for sampler in list_components("sampler"):
        for title, part in sampler.cls.examples:
            keep, rng = patches // part, generator(seed, "masks")
            shuffle = draw_masks(sampler.name, 1, (MASKS_GRID, MASKS_GRID), keep, rng)
            out[title] = hide(pixels, removed_mask(shuffle, keep), MASKS_GRID)
    return {title: picture[0].permute(1, 2, 0).numpy() for title, picture in out.items()}
