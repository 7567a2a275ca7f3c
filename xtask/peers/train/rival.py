"""A training program on PyTorch that takes turns with others, told by lines on standard input.

One JSON object as the first argument sets it up. It answers with one JSON object a line: once when it is ready, and
then after each line `steps N`, when it has made N training steps. It ends with its standard input.
"""

import array
import json
import sys
import time
from contextlib import nullcontext

import torch
import torch.nn.functional as F


def setup():
    """The set-up that every program gets, ours too."""
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.manual_seed(1)
    return given


def answer(**fields):
    """One line for whoever started this program."""
    print(json.dumps(fields), flush=True)


class Batches:
    """Inputs and targets, [batch, seq] each, in the order of the file, from its start again at its end."""

    def __init__(self, given):
        ids = array.array("H")
        with open(given["tokens"], "rb") as file:
            ids.frombytes(file.read())
        if sys.byteorder == "big":
            ids.byteswap()
        width = given["seq_len"] + 1
        rows = torch.tensor(ids.tolist(), dtype=torch.int64).view(-1, width)
        self.batches = [
            (rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
            for rows in rows.split(given["batch_size"])
        ]
        self.next = 0

    def __next__(self):
        batch = self.batches[self.next % len(self.batches)]
        self.next += 1
        return batch


def serve(given, model, versions):
    """Trains `model`, which maps token ids [batch, seq] to logits [batch, seq, vocab]."""
    narrow = given["precision"] == "bf16"
    model.train()
    # One fused call for all parameters, the fastest that PyTorch has on a CPU. Moments come with the first step.
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=given["lr"],
        betas=(given["beta1"], given["beta2"]),
        eps=given["eps"],
        weight_decay=given["weight_decay"],
        fused=True,
    )
    batches = Batches(given)

    def step():
        inputs, targets = next(batches)
        with torch.autocast("cpu", torch.bfloat16) if narrow else nullcontext():
            logits = model(inputs)
        # The softmax in f32 in either precision.
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    parameters = sum(parameter.numel() for parameter in model.parameters())
    answer(ready=True, parameters=parameters, threads=torch.get_num_threads(), versions=versions)
    for line in sys.stdin:
        words = line.split()
        if len(words) != 2 or words[0] != "steps":
            sys.exit(f"not understood: {line.strip()}")
        start = time.perf_counter()
        losses = [step() for _ in range(int(words[1]))]
        losses = [loss.item() for loss in losses]
        seconds = time.perf_counter() - start
        answer(steps=len(losses), seconds=seconds, losses=losses)
