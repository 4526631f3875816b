"""Classifier: timm's VisionTransformer on an encoder's weights, with what its training needs.

Model, layer decay, mixup and cutmix are timm's.
"""

import functools
import hashlib
import random

import numpy as np
import torch
from torch import nn

from mae_ablation.data.dataset import Dataset
from mae_ablation.mae.checkpoints import timm_state
from mae_ablation.mae.positions import interpolate_positions
from mae_ablation.recipe.recipe import Recipe
from mae_ablation.store.folder import PhaseFolder
from mae_ablation.train.evaluations.finetune import Finetune
from mae_ablation.train.models import load_encoder
from mae_ablation.train.optim import generator

HEAD_STD = 2e-5  # the official code's; nearly zero, so that training starts from equal scores


def build_classifier(
    recipe: Recipe,
    settings: Finetune,
    data: Dataset,
    seed: int,
    upstream: PhaseFolder | None,
) -> nn.Module:
    """Build timm's VisionTransformer with the encoder's weights and a new head."""
    from timm.models.vision_transformer import VisionTransformer

    source = load_encoder(recipe, data.channels, seed, upstream)
    if source.encoder is not None:
        model = recipe.encoder.classifier(source.encoder, recipe, settings, data)
        return _draw_head(model, seed)
    # timm's own names for the encoder's sizes
    m = recipe.model
    size = settings.image_size or recipe.data.image_size
    model = VisionTransformer(
        img_size=size,
        patch_size=m.patch_size,
        in_chans=data.channels,
        num_classes=data.classes,
        embed_dim=m.encoder_width,
        depth=m.encoder_depth,
        num_heads=m.encoder_heads,
        mlp_ratio=m.mlp_ratio,
        class_token=m.class_token,
        global_pool="avg" if settings.pooling == "mean" else "token",
        drop_path_rate=settings.drop_path,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
    )

    # the encoder's weights; positions are trained from here on, interpolated to another image size
    state = timm_state(source)
    grid, new = (recipe.grid,) * 2, (size // m.patch_size,) * 2
    state["pos_embed"] = interpolate_positions(state["pos_embed"], grid, new, int(m.class_token))
    if settings.pooling == "mean":  # a new norm follows the mean: the pre-trained one stays behind
        state = {name: value for name, value in state.items() if not name.startswith("norm.")}
    missing, unexpected = model.load_state_dict(state, strict=False)
    wrong = [name for name in missing if not name.startswith(("head.", "fc_norm."))] + unexpected
    if wrong:
        raise ValueError(f"encoder and classifier differ in {', '.join(wrong[:3])}")

    return _draw_head(model, seed)


def _draw_head(model: nn.Module, seed: int) -> nn.Module:
    """Give a classifier a new head."""
    nn.init.trunc_normal_(model.head.weight, std=HEAD_STD, generator=generator(seed, "head"))
    nn.init.zeros_(model.head.bias)
    return model


def freeze_all_but_last(model: nn.Module, blocks: float) -> None:
    """Freeze everything but the last blocks, the last norm and the head.

    Args:
        blocks: how many are tuned; 0.5: of the last block only norm2 and the MLP; all of them:
            embeddings and positions are tuned, too.
    """
    if blocks == len(model.blocks):
        return
    # embeddings, class token and positions stay as pre-trained (not given in the paper)
    model.requires_grad_(False)
    tuned: list[nn.Module] = [model.norm, model.fc_norm, model.head]
    if blocks == 0.5:
        tuned += [model.blocks[-1].norm2, model.blocks[-1].mlp]
    elif blocks >= 1:
        tuned += list(model.blocks[-int(blocks) :])
    for part in tuned:
        part.requires_grad_(True)


def layer_decay_adamw(model: nn.Module, settings: Finetune, lr: float) -> torch.optim.Optimizer:
    """Make AdamW with layer-wise learning rates (official behaviour)."""
    from timm.optim import param_groups_layer_decay

    # lr x decay^(depth + 1 - id): id 0 for embeddings and positions, i + 1 for block i, depth + 1
    # for what follows; vectors, positions and class token have no weight decay
    groups = param_groups_layer_decay(
        model,
        weight_decay=settings.weight_decay,
        no_weight_decay_list=model.no_weight_decay(),
        layer_decay=settings.layer_decay,
    )
    # timm counts the last norm to the last block; with class-token pooling it has weights
    last = [p for p in model.norm.parameters() if p.requires_grad]
    for group in groups if last else ():
        group["params"] = [p for p in group["params"] if all(p is not q for q in last)]
    if last:
        groups.append({"params": last, "weight_decay": 0.0, "lr_scale": 1.0})
    return torch.optim.AdamW(groups, lr=lr, betas=(settings.beta1, settings.beta2), fused=True)


class Mix:
    """Applies mixup, cutmix and label smoothing to a batch; has the loss that goes with them."""

    def __init__(self, settings: Finetune, classes: int) -> None:
        from timm.data import Mixup

        smoothing, mixing = settings.label_smoothing, settings.mixup > 0 or settings.cutmix > 0
        alphas = {"mixup_alpha": settings.mixup, "cutmix_alpha": settings.cutmix}
        self._mix = mixing and Mixup(**alphas, label_smoothing=smoothing, num_classes=classes)
        # class probabilities where labels are mixed, smoothed by Mixup itself
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.0 if mixing else smoothing)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor):
        return self._mix(images, labels) if self._mix else (images, labels)


def seed_step(seed: int, kind: str, step: int, micro_batch: int) -> None:
    """Seed the global generators that timm's mixup, erasing and drop path draw from.

    The seed follows from the step alone, so that a resumed phase draws what an undisturbed one
    would.
    """

    def to_32_bits(name: str) -> int:
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")

    # mixup (numpy) draws the same for every micro-batch of a batch; erasing (Python, torch) and
    # drop path (torch) draw anew for each: a divided batch meets other numbers than a whole one
    name = f"{seed}/{kind}/{step}"
    np.random.seed(to_32_bits(name))
    own = to_32_bits(f"{name}/{micro_batch}" if micro_batch else name)
    random.seed(own)
    torch.manual_seed(own)
