"""A checkpoint that we saved, opened by transformers, and the other way round: prints each comparison as one JSON line.

usage: checkpoint.py FOLDER

FOLDER holds `ours/`, and `ours.safetensors`: texts of some lengths with their logits. What is left there is `theirs/`, the same model
with other weights in small files, and `theirs.safetensors`, its logits.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM


def show(what, got, want):
    """The largest difference, and the largest number."""
    worst, size = (got - want).abs().max().item(), want.abs().max().item()
    print(json.dumps({"what": what, "worst": worst, "size": size}), flush=True)


def opened(folder):
    """The model, if every tensor of it is in the files and nothing else is."""
    model, found = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    wrong = {name: sorted(map(str, keys)) for name, keys in found.items() if keys}
    if wrong:
        sys.exit(f"transformers does not find what it looks for: {wrong}")
    return model.eval()


def logits(model, tokens):
    with torch.no_grad():
        return model(tokens).logits.float()


def main(folder):
    print(json.dumps({"peer": f"transformers {transformers.__version__}"}), flush=True)
    ours = load_file(folder / "ours.safetensors")
    texts = {name.removeprefix("tokens."): tokens for name, tokens in ours.items() if name.startswith("tokens.")}
    model = opened(folder / "ours")
    for length, tokens in sorted(texts.items()):
        show(f"ours there, {length} tokens", logits(model, tokens), ours[f"logits.{length}"])
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder / "theirs", max_shard_size="30KB")
    theirs = {}
    for length, tokens in texts.items():
        theirs[f"tokens.{length}"] = tokens
        theirs[f"logits.{length}"] = logits(model, tokens)
    save_file(theirs, folder / "theirs.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
