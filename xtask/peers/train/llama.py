"""Hugging Face's Llama with fused attention (SDPA): pre-RMSNorm, SwiGLU, RoPE, no biases."""

import torch
import transformers

import rival


class Logits(torch.nn.Module):
    """The logits of a causal language model; the loss is taken outside, as for every program."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        return self.model(input_ids=tokens, use_cache=False).logits


def build(given):
    config = transformers.LlamaConfig(
        vocab_size=given["vocab_size"],
        hidden_size=given["d_model"],
        intermediate_size=given["d_ff"],
        num_hidden_layers=given["n_layers"],
        num_attention_heads=given["n_heads"],
        num_key_value_heads=given["n_heads"],
        max_position_embeddings=given["seq_len"],
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation="sdpa",
        dtype="float32",
    )
    return Logits(transformers.LlamaForCausalLM(config))


if __name__ == "__main__":
    given = rival.setup()
    rival.serve(
        given,
        build(given),
        f"transformers {transformers.__version__}, torch {torch.__version__}",
    )
