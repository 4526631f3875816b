"""What is known of a data set before it is read; no torch, since a plan comes through here."""

from mae_ablation.data import fashion_mnist
from mae_ablation.study.errors import UserError
from mae_ablation.study.plan import DataFacts
from mae_ablation.study.recipe import Data, Recipe


def facts(data: Data) -> DataFacts:
    """Fingerprint and sizes of a recipe's data set."""
    return DataFacts(
        fingerprint=fashion_mnist.SHA256,
        channels=1,
        train_images=fashion_mnist.TRAIN_IMAGES,
        test_images=fashion_mnist.TEST_IMAGES,
    )


def require_fit(recipe: Recipe, place: str) -> None:
    """The recipe against its data set.

    Raises:
        UserError: images larger than asked for, too few of them, or a batch above the split.
    """
    data, known = recipe.data, facts(recipe.data)
    if data.image_size < fashion_mnist.SIDE:
        raise UserError(
            f"data.image_size {data.image_size} is below the {fashion_mnist.SIDE} pixels of "
            f"{data.name}: images are padded, not shrunk",
            place,
        )
    left = known.train_images - data.validation_images
    wanted = left if data.train_images is None else data.train_images
    if not 1 <= wanted <= left:
        raise UserError(
            f"{data.name} has {known.train_images} training images: {data.validation_images} for "
            f"validation and {max(wanted, 1)} for training do not fit",
            place,
        )
    if recipe.pretrain.batch_size > wanted:
        raise UserError(
            f"pretrain.batch_size {recipe.pretrain.batch_size} is above the {wanted} training "
            "images",
            place,
        )
