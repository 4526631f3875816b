"""A plan asks here about a recipe's data: no torch, since every plan comes through here."""

from collections.abc import Sequence

from mae_ablation.data import folder
from mae_ablation.data.arrays import measure_facts
from mae_ablation.data.shards import list_images
from mae_ablation.errors import UserError
from mae_ablation.recipe.checks import Invalid, check
from mae_ablation.recipe.recipe import Data, Recipe
from mae_ablation.registry import ask
from mae_ablation.study.trial import DataFacts

_CACHE_BYTES = 32e9  # of decoded images: a node keeps them once, beside its lanes


def facts(data: Data, place: str = "") -> DataFacts:
    """Find fingerprint and sizes of a recipe's data set, its files there or not.

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
    """Raise a UserError for files that a run needs and is not told to fetch: how to get them."""
    lacks = facts(data, place).missing
    if lacks and not (data.download and data.set.downloads):
        raise UserError(lacks, place)


def require_fit(recipe: Recipe, place: str, phases: Sequence[str] = ()) -> None:
    """Check a recipe against its data set, and against the tokeniser's file if it names one.

    Args:
        phases: evaluations that are wanted, among others, and are checked, too.

    Raises:
        UserError: images larger than asked for, too few of them, a batch or labels above the split,
            more PCA components than a patch has values, streaming of what has no files, another
            tokenizer.
    """
    # found outside: errors of the data's own have the place already
    known = facts(recipe.data, place)
    try:
        _check_images(recipe.data, known)

        # what is left for training bounds a batch and a draw of labels
        images = recipe.data.train_images or known.train_images - recipe.data.validation_images
        batch = recipe.pretrain.batch_size
        message = f"pretrain.batch_size {batch} is above the {images} training images"
        check(batch <= images, message)
        for each in recipe.evaluations:
            labels = getattr(each, "labels", None) or 0
            check(
                labels <= images,
                f"{each.component.section}.labels {labels} is above the {images} training images: "
                f"use at most {images}",
            )
        # what each component has to say of the images
        wanted = (each for each in recipe.evaluations if each.component.name in phases)
        for part in (*recipe.components, *wanted):
            part.check_data(recipe, known.channels)
    except (Invalid, UserError) as error:
        raise UserError(str(error), place) from None


def _check_images(data: Data, known: DataFacts) -> None:
    """Raise Invalid where a set does not have what is asked of its images."""
    side, files = data.set.side, data.set.in_files
    check(
        side is None or data.image_size >= side,
        f"data.image_size {data.image_size} is below the {side} pixels of {data.name}: images are "
        "padded, not shrunk",
    )
    check(
        data.reading == "cache" or files,
        f"data.reading stream needs a file per image; {data.name} is read as a whole: take cache",
    )

    # what is held out of training comes first
    left = known.train_images - data.validation_images
    wanted = left if data.train_images is None else data.train_images
    check(
        1 <= wanted <= left,
        f"{data.name} has {known.train_images} training images: {data.validation_images} for "
        f"validation and {max(wanted, 1)} for training do not fit",
    )
    if files and not known.missing:
        _check_classes(data)
    size = (known.train_images + known.test_images) * known.channels * data.image_size**2
    remedy = "take data.reading=stream" if files else "take a smaller data.image_size"
    check(
        data.reading == "stream" or size <= _CACHE_BYTES,
        f"{data.name} at {data.image_size} px is {size / 1e9:,.0f} GB in memory, more than "
        f"{_CACHE_BYTES / 1e9:.0f}: {remedy}",
    )


def _check_classes(data: Data) -> None:
    """Both choices are class-balanced: the smallest class of a folder may be too small."""
    found = list_images(data.set.location(data))
    classes = len(found.classes)
    held = even_shares(data.validation_images, classes)
    wanted = even_shares(data.train_images or classes, classes)  # at least one of each
    for name, count, h, w in zip(found.classes, found.train.counts, held, wanted, strict=True):
        check(
            h + w <= count,
            f"class {name} of {data.name} has {count} training images: {h} for validation and {w} "
            "for training do not fit",
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
    """Share a choice among classes, evenly; the first classes take what is over."""
    return [total // classes + (c < total % classes) for c in range(classes)]
