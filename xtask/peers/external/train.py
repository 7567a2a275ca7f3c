"""A training that Forerun did not write: what `cargo xtask run-experiment lr-horizon-external` starts.

It trains a small network on PyTorch to continue sentences of an invented language, in which the odds of a symbol depend
on the two before it, and writes one JSON object a line to a file: while it goes on, and at the end, with the held-out
loss under `loss`. That file and the command line are all that Forerun knows of it.
"""

import argparse
import json
import math

import torch
import torch.nn.functional as F

SYMBOLS = 32
BATCH = 256
"""Symbols predicted in one update, `external.batch_tokens` in the configuration."""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lr", type=float, required=True, help="peak learning rate")
    parser.add_argument("--steps", type=int, required=True, help="updates")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--metrics", required=True, help="the file to write")
    parser.add_argument("--width", type=int, default=64)
    return parser.parse_args()


class Language:
    """Odds of every symbol after every pair of symbols, the same in every run."""

    def __init__(self):
        fixed = torch.Generator().manual_seed(0)
        logits = 1.5 * torch.randn(SYMBOLS, SYMBOLS, SYMBOLS, generator=fixed)
        self.odds = F.softmax(logits, dim=-1)  # [before last, last, next]

    def draw(self, count, generator):
        """Pairs, [count, 2], and what follows them, [count]."""
        pairs = torch.randint(SYMBOLS, (count, 2), generator=generator)
        odds = self.odds[pairs[:, 0], pairs[:, 1]]
        return pairs, torch.multinomial(odds, 1, generator=generator).squeeze(1)


class Network(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.symbols = torch.nn.Embedding(SYMBOLS, width)
        self.hidden = torch.nn.Linear(2 * width, 4 * width)
        self.out = torch.nn.Linear(4 * width, SYMBOLS)

    def forward(self, pairs):
        return self.out(F.relu(self.hidden(self.symbols(pairs).flatten(1))))


def factor(step, steps):
    """Of the peak learning rate: a rise over the first twentieth, then half a cosine down to a tenth."""
    warmup = max(steps // 20, 1)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress))


def main():
    given = arguments()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    language, network = Language(), Network(given.width)
    optimiser = torch.optim.AdamW(network.parameters(), lr=given.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: factor(step, given.steps))
    order = torch.Generator().manual_seed(given.seed)
    with open(given.metrics, "w") as metrics:
        for step in range(given.steps):
            pairs, following = language.draw(BATCH, order)
            loss = F.cross_entropy(network(pairs), following)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % 100 == 0:
                print(json.dumps({"step": step, "train_loss": loss.item()}), file=metrics, flush=True)
        with torch.no_grad():
            pairs, following = language.draw(65536, torch.Generator().manual_seed(1))
            held_out = F.cross_entropy(network(pairs), following).item()
        print(json.dumps({"step": given.steps, "loss": held_out}), file=metrics)


if __name__ == "__main__":
    main()
