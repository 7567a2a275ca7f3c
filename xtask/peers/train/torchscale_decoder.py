"""torchscale's decoder: Magneto (sub-LN) blocks with xPos, GELU, LayerNorm."""

import sys
import types

import torch
import torchscale

import rival


def stand_in(name, **contents):
    """A module in place of a package that torchscale imports and that a plain decoder does not use."""
    module = types.ModuleType(name)
    vars(module).update(contents)
    sys.modules[name] = module


def unused(*_, **__):
    raise RuntimeError("a plain decoder does not come here")


# `wrap` outside of fairscale's `enable_wrap` gives back the layer as it is; the others serve drop path (rate 0) and
# activation checkpointing (off).
stand_in("fairscale")
stand_in("fairscale.nn", checkpoint_wrapper=unused, wrap=lambda layer, **_: layer)
stand_in("timm")
stand_in("timm.models")
stand_in("timm.models.layers", drop_path=unused)

from torchscale.architecture.config import DecoderConfig  # noqa: E402
from torchscale.architecture.decoder import Decoder  # noqa: E402


def build(given):
    config = DecoderConfig(
        vocab_size=given["vocab_size"],
        decoder_embed_dim=given["d_model"],
        decoder_layers=given["n_layers"],
        decoder_attention_heads=given["n_heads"],
        decoder_ffn_embed_dim=given["d_ff"],
        subln=True,
        xpos_rel_pos=True,
    )
    embedding = torch.nn.Embedding(given["vocab_size"], given["d_model"])
    torch.nn.init.normal_(embedding.weight, std=given["d_model"] ** -0.5)
    decoder = Decoder(config, embed_tokens=embedding)
    model = Logits(decoder)
    return model


class Logits(torch.nn.Module):
    """The decoder's first output."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens):
        return self.decoder(tokens)[0]


if __name__ == "__main__":
    given = rival.setup()
    from importlib.metadata import version

    rival.serve(given, build(given), f"torchscale {version('torchscale')}, torch {torch.__version__}")
