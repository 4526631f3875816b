"""Few-shot classification by the nearest class mean (Snell et al., 2017)."""

from mae_ablation import register


@register.evaluation("centroid", version=1)
class Centroid:
    """The nearest mean of a few labelled features of each class."""

    title = "Nearest centroid"

    shots: int = 5
    """labelled images of each class, drawn by the seed"""

    def predict(self, train, labels, queries, classes, generator):
        import torch
        from torch.nn import functional as F

        order = torch.randperm(len(train), generator=generator).to(train.device)
        means = []
        for number in range(classes):
            mine = order[labels[order] == number][: self.shots]
            means.append(F.normalize(train[mine], dim=1).mean(dim=0))
        return torch.cdist(F.normalize(queries, dim=1), torch.stack(means)).argmin(dim=1)
