"""Adapters that we wrote, read by PEFT, and the other way round: prints each comparison as one JSON line.

usage: lora.py MODEL FOLDER

FOLDER holds `ours/`, adapters for the checkpoint MODEL, and `ours.safetensors`: tokens, and the logits without and with
them. What is left there is `theirs/` and `theirs.safetensors`, the same of adapters that PEFT wrote.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM


def show(what, got, want):
    """The largest difference, and the largest number."""
    worst, size = (got - want).abs().max().item(), want.abs().max().item()
    print(json.dumps({"what": what, "worst": worst, "size": size}), flush=True)


def base(model):
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()


def logits(model, tokens):
    with torch.no_grad():
        return model(tokens).logits.float()


def read_ours(model, folder):
    ours = load_file(folder / "ours.safetensors")
    tokens = ours["tokens"]
    plain = base(model)
    show("logits without adapters", logits(plain, tokens), ours["base"])
    adapted = PeftModel.from_pretrained(plain, folder / "ours").eval()
    show("logits with our adapters in PEFT", logits(adapted, tokens), ours["adapted"])
    show("logits with our adapters merged by PEFT", logits(adapted.merge_and_unload(), tokens), ours["adapted"])
    return tokens


def write_theirs(model, folder, tokens):
    torch.manual_seed(1)
    config = LoraConfig(r=3, lora_alpha=7, target_modules="all-linear", use_rslora=True, lora_dropout=0.05)
    adapted = get_peft_model(base(model), config).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(folder / "theirs")
    save_file({"tokens": tokens, "adapted": logits(adapted, tokens)}, folder / "theirs.safetensors")


def main(model, folder):
    print(json.dumps({"peer": f"PEFT {version('peft')}"}), flush=True)
    tokens = read_ours(model, folder)
    write_theirs(model, folder, tokens)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
