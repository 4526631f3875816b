"""Classification by nearest neighbours in feature space. No training, nothing tuned.

A vote of the k most similar training images (cosine), each weighted by exp(similarity /
temperature); features as in the linear probe. The vote and its temperature 0.07 are those of Wu et
al. 2018 (Unsupervised Feature Learning via Non-Parametric Instance Discrimination), k = 20 is what
Caron et al. 2021 (DINO) found best; both are the same for every level.
"""

from mae_ablation.recipe.checks import above, at_least, check_labels, settings_used
from mae_ablation.registry import register

QUERIES = 256  # images compared at a time
PLACE_FLOPS = 120
"""FLOPs that finding a pair's place among the nearest is worth: 2.5 s for 412 M pairs"""


@register.evaluation("knn", version=2)
class Knn:
    """Votes of the nearest training images, by cosine of frozen features."""

    order = 20
    title = head = "k-NN"
    paper_noise = 0.6

    neighbours: int = 20
    temperature: float = 0.07
    labels: int | float | None = None
    """class-balanced training images that may be neighbours, drawn by the seed: a number, or a
    share such as 0.01; null or 1: all"""

    def __post_init__(self) -> None:
        at_least(self, 1, "neighbours")
        check_labels(self)
        above(self, 0, "temperature")

    def document(self, recipe, source: str) -> dict:
        """Features are the linear probe's."""
        probe = recipe.linear_probe.document(recipe, source)
        features = ("pooling", "image_size", "precision")
        return settings_used(self, recipe) | {k: probe[k] for k in features if k in probe}

    def describe(self, recipe) -> str:
        return f"{self.neighbours}nn"

    def settings_line(self, recipe) -> str:
        features = f"{recipe.linear_probe.pooling}{self.on_labels()}"
        return f"{self.neighbours} neighbours, temperature {self.temperature:g}, {features}"

    def method(self, recipe) -> str:
        return (
            f"{self.neighbours} nearest neighbours by cosine of {recipe.linear_probe.pooling} "
            f"features, weighted at temperature {self.temperature:g}{self.on_labels()}"
        )

    def work(self, recipe, data, source: str, encoded: bool):
        from mae_ablation.study import speed

        images, _, encode_all = speed.encoding_flops(self, recipe, data, source)
        others = recipe.data.validation_images + data.test_images
        pair = 2 * speed.feature_width(recipe, data, source) + PLACE_FLOPS
        flops = others * pair + (0.0 if encoded else encode_all)
        return speed.Work(kind="knn", images=images, flops=flops)

    def predict(self, train, labels, queries, classes):
        """Predict classes (q,) of features (q, D), by the nearest of the training images (m, D)."""
        import torch
        from torch.nn import functional as F

        # queries in parts: 256 x 50,000 similarities are 51 MB
        bank = F.normalize(train, dim=1)

        def vote(part: torch.Tensor) -> torch.Tensor:
            similarity, nearest = (part @ bank.T).topk(min(self.neighbours, len(bank)), dim=1)
            weights = (similarity / self.temperature).exp()
            scores = torch.zeros(len(part), classes, device=part.device)
            return scores.scatter_add_(1, labels[nearest], weights).argmax(dim=1)

        return torch.cat([vote(part) for part in F.normalize(queries, dim=1).split(QUERIES)])
