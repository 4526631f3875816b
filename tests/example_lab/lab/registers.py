"""timm's Vision Transformer with register tokens (Darcet et al., 2023)."""

from functools import partial

from mae_ablation import register


@register.encoder("vit_registers", version=1)
class VitRegisters:
    """A Vision Transformer with registers, which drops the patches that are removed."""

    registers: int = 4

    @property
    def extra_tokens(self):
        return self.registers

    def build(self, shape):
        import torch
        from timm.models.vision_transformer import VisionTransformer
        from torch import nn

        class Encoder(nn.Module):
            def __init__(self, vit):
                super().__init__()
                self.vit = vit

            def forward(self, images, index=None):
                """Tokens (n, T + k, D): class token and registers, then the patches of `index`."""
                vit = self.vit
                tokens = vit._pos_embed(vit.patch_embed(images))
                lead, patches = tokens.tensor_split([vit.num_prefix_tokens], dim=1)
                if index is not None:
                    places = index[..., None].expand(-1, -1, patches.shape[-1])
                    patches = patches.gather(1, places)
                tokens = torch.cat([lead, patches], dim=1)
                return vit.norm(vit.blocks(tokens))

        return Encoder(
            VisionTransformer(
                img_size=shape.image_size,
                patch_size=shape.patch_size,
                in_chans=shape.channels,
                num_classes=0,
                embed_dim=shape.width,
                depth=shape.depth,
                num_heads=shape.heads,
                mlp_ratio=shape.mlp_ratio,
                class_token=shape.class_token,
                reg_tokens=self.registers,
                global_pool="token" if shape.class_token else "avg",
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
            )
        )
