"""CIFAR-10, read by torchvision."""

from mae_ablation.data.sources import Archive
from mae_ablation.registry import register


@register.dataset("cifar10", version=1)
class Cifar10(Archive):
    """CIFAR-10: 50,000 and 10,000 colour images of 32 pixels."""

    order = 20
    reader = "CIFAR10"
    fingerprint = "cifar10-c58f30108f718f92721af3b95e74349a"
    classes = 10
    train_images, test_images = 50_000, 10_000
    side = 32
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    files = (
        *(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)),
        *("cifar-10-batches-py/test_batch", "cifar-10-batches-py/batches.meta"),
    )
