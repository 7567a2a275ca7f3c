"""torch.nn.TransformerEncoder as a causal language model: pre-LN, GELU, LayerNorm, learned positions.

Its attention is PyTorch's fused one: with `is_causal` and dropout 0 no mask is read.
"""

import torch
from torch import nn

import rival


class Model(nn.Module):
    def __init__(self, given):
        super().__init__()
        d_model, seq_len = given["d_model"], given["seq_len"]
        self.tokens = nn.Embedding(given["vocab_size"], d_model)
        self.positions = nn.Embedding(seq_len, d_model)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(
            d_model,
            given["n_heads"],
            given["d_ff"],
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(d_model)
        self.encoder = nn.TransformerEncoder(
            layer, given["n_layers"], norm, enable_nested_tensor=False
        )
        self.head = nn.Linear(d_model, given["vocab_size"], bias=False)
        mask = nn.Transformer.generate_square_subsequent_mask(seq_len)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens):
        # The whole table: rows 0 .. seq.
        x = self.tokens(tokens) + self.positions.weight
        return self.head(self.encoder(x, mask=self.mask, is_causal=True))


if __name__ == "__main__":
    given = rival.setup()
    rival.serve(given, Model(given), f"torch {torch.__version__}")
