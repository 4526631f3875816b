"""Principal components of patches (paper, Table 1d).

Patches are those the model sees: of normalised, unaugmented training images, held-out ones
excluded. The components are fitted once for all seeds of a study. The paper keeps the 96 largest
coefficients of 768.
"""

from mae_ablation.recipe.checks import at_least, check
from mae_ablation.registry import register

PATCHES = 1_000_000
"""patches the covariance is estimated on, of images spread evenly over the training split"""


@register.target("pca", version=2)
class PCA:
    """The first principal components of a patch, unwhitened: z = (x - mean) W."""

    needs = "pca"
    fit_flops = 1e6

    components: int | None = None
    """null: an eighth of the patch's values, as in the paper (96 of 768)"""

    def __post_init__(self) -> None:
        at_least(self, 1, "components")

    def width(self, patch_values: int) -> int:
        return self.components or round(patch_values / 8)

    def flops(self, patch_values: int) -> float:
        return 2 * patch_values * self.width(patch_values)  # a matrix product without a gradient

    def check_data(self, recipe, channels: int) -> None:
        patch = recipe.model.patch_size
        values = patch**2 * channels
        check(
            self.width(values) <= values,
            f"pca.components {self.width(values)} is above the {values} values of a "
            f"{patch} x {patch} x {channels} patch",
        )

    def document(self, recipe, channels: int) -> dict:
        # said or not, the usual number is the same training
        usual = self.components == PCA().width(recipe.model.patch_size**2 * channels)
        return {"pca_components": None if usual else self.components}

    def note(self, recipe, channels: int) -> str:
        values = recipe.model.patch_size**2 * channels
        return f"{self.width(values)} of {values} coefficients"

    def preparation(self, recipe, data: dict) -> dict:
        return {"data": data, "patch_size": recipe.model.patch_size}

    def preparation_name(self, recipe) -> str:
        return f"patch{recipe.model.patch_size}"

    def fit(self, fitting) -> dict:
        """Save `mean` (P,), `components` (P, P) by falling `eigenvalues` (P,)."""
        import torch

        from mae_ablation.mae.patches import patchify

        # covariance in float64, image by image
        # a million patches are plenty for 768 x 768 covariances
        patch, patches = fitting.recipe.model.patch_size, fitting.recipe.patches
        width = patch**2 * fitting.data.channels
        count, total, products = 0, torch.zeros(width).double(), torch.zeros(width, width).double()
        for images in fitting.images(max(1, PATCHES // patches)):
            rows = patchify(images, patch).flatten(0, 1).double()
            count += len(rows)
            total += rows.sum(dim=0)
            products += rows.T @ rows
        mean = total / count
        values, vectors = torch.linalg.eigh(products / count - mean[:, None] * mean[None])

        # largest first; the sign of a component is arbitrary, so it is fixed
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
        vectors = vectors * largest.sign()
        fitted = {"mean": mean, "components": vectors, "eigenvalues": values}
        fitting.save({name: value.float() for name, value in fitted.items()})
        return {"patches": count, "explained": (values.cumsum(0) / values.sum()).tolist()}

    def keep(self, fitted: dict, patch_values: int) -> dict:
        """Choose the mean and the first orthonormal columns W (P, k)."""
        columns = fitted["components"][:, : self.width(patch_values)]
        return {"mean": fitted["mean"], "components": columns}

    def of(self, patches, fitted):
        return (patches - fitted["mean"]) @ fitted["components"]

    def pixels(self, predicted, patches, fitted):
        return predicted @ fitted["components"].T + fitted["mean"]
