"""What a plan has to know of a recipe's data; no torch, since every plan comes through here."""

from mae_ablation.data import folder
from mae_ablation.data.arrays import measure_facts
from mae_ablation.data.shards import list_images
from mae_ablation.errors import UserError
from mae_ablation.recipe.checks import Invalid
from mae_ablation.recipe.recipe import Data, Recipe
from mae_ablation.registry import ask
from mae_ablation.study.trial import DataFacts

_CACHE_BYTES = 32e9  # of decoded images: a node keeps them once, beside its lanes


def facts(data: Data, place: str = "") -> DataFacts:
    """Fingerprint and sizes of a recipe's data set, its files there or not.

    A named folder that is not there has its nominal sizes and the fingerprint "absent-NAME".

    Raises:
        UserError: a folder with another layout, or an image_folder that is not there.
    """
    images = data.set
    lacks = images.missing(data)
    if images.in_files and not lacks:
        return _folder_facts(data, place)
    try:
        known = ask(images.facts, data=data) or measure_facts(data)
    except UserError as error:
        raise UserError(str(error), place) from None
    return DataFacts(**known, missing=lacks)


def _folder_facts(data: Data, place: str) -> DataFacts:
    known = data.set
    found = list_images(known.location(data), known.classes, place)
    return DataFacts(
        fingerprint=found.fingerprint,
        channels=len(known.mean),
        train_images=sum(found.train.counts),
        test_images=sum(found.val.counts),
        classes=len(found.classes),
        left_out=", ".join(map(str, found.left_out)),
    )


def require_present(data: Data, place: str) -> None:
    """Files that a run needs, and that it is not told to fetch.

    Raises:
        UserError: what is not there and how to get it.
    """
    lacks = facts(data, place).missing
    if lacks and not (data.download and data.set.downloads):
        raise UserError(lacks, place)


def require_fit(recipe: Recipe, place: str) -> None:
    """The recipe against its data set, and against the tokenizer's file if it names one.

    Raises:
        UserError: images larger than asked for, too few of them, a batch or labels above the split,
            more PCA components than a patch has values, streaming of what has no files, another
            tokenizer.
    """
    _check_images(recipe.data, place)
    images = _check_sizes(recipe.data, place)
    if recipe.pretrain.batch_size > images:
        raise UserError(
            f"pretrain.batch_size {recipe.pretrain.batch_size} is above the {images} training "
            "images",
            place,
        )
    _check_labels(recipe, images, place)
    channels = facts(recipe.data, place).channels
    for part in recipe.components:
        try:
            part.check_data(recipe, channels)
        except (Invalid, UserError) as error:
            raise UserError(str(error), place) from None


def _check_images(data: Data, place: str) -> None:
    known = data.set
    if known.side is not None and data.image_size < known.side:
        raise UserError(
            f"data.image_size {data.image_size} is below the {known.side} pixels of "
            f"{data.name}: images are padded, not shrunk",
            place,
        )
    if data.reading == "stream" and not known.in_files:
        raise UserError(
            f"data.reading stream needs a file per image; {data.name} is read as a whole: "
            "take cache",
            place,
        )


def _check_sizes(data: Data, place: str) -> int:
    """Images of the training split that are used."""
    known = facts(data, place)
    left = known.train_images - data.validation_images
    wanted = left if data.train_images is None else data.train_images
    if not 1 <= wanted <= left:
        raise UserError(
            f"{data.name} has {known.train_images} training images: {data.validation_images} for "
            f"validation and {max(wanted, 1)} for training do not fit",
            place,
        )
    if data.set.in_files and not known.missing:
        _check_classes(data, place)
    size = (known.train_images + known.test_images) * known.channels * data.image_size**2
    if data.reading == "cache" and size > _CACHE_BYTES:
        files = data.set.in_files
        remedy = "take data.reading=stream" if files else "take a smaller data.image_size"
        raise UserError(
            f"{data.name} at {data.image_size} px is {size / 1e9:,.0f} GB in memory, more than "
            f"{_CACHE_BYTES / 1e9:.0f}: {remedy}",
            place,
        )
    return wanted


def _check_labels(recipe: Recipe, images: int, place: str) -> None:
    for evaluation in recipe.evaluations:
        section, labels = evaluation.component.section, getattr(evaluation, "labels", None)
        if labels is not None and labels > images:
            raise UserError(
                f"{section}.labels {labels} is above the {images} training images: use at most "
                f"{images}",
                place,
            )


def _check_classes(data: Data, place: str) -> None:
    """Both choices are class-balanced: the smallest class of a folder may be too small."""
    found = list_images(data.set.location(data))
    classes = len(found.classes)
    held = even_shares(data.validation_images, classes)
    wanted = even_shares(data.train_images or classes, classes)  # at least one of each
    for name, count, h, w in zip(found.classes, found.train.counts, held, wanted, strict=True):
        if h + w > count:
            raise UserError(
                f"class {name} of {data.name} has {count} training images: {h} for validation "
                f"and {w} for training do not fit",
                place,
            )


def fetch_images(data: Data) -> None:
    """Download the recipe's data set if it is missing and `data.download` allows it.

    To be called once, in one process: two that unpack the same archive spoil it.

    Raises:
        UserError: files that are not there and not to be fetched, or that cannot be fetched.
    """
    if lacks := data.set.missing(data):
        if not (data.download and data.set.downloads):
            raise UserError(lacks, "data.folder")
        data.set.fetch(data)
        folder.forget()


def even_shares(total: int, classes: int) -> list[int]:
    """A class-balanced choice: images of each class, the first classes taking what is over."""
    return [total // classes + (c < total % classes) for c in range(classes)]
