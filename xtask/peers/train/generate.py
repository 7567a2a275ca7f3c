"""Hugging Face transformers reading and continuing prompts, told by lines on standard input.

One JSON object as the first argument sets it up. It answers with one JSON object a line: once when it is ready, and
then after each line `prompt N` (reads N tokens of each prompt) or `decode N` (continues each by N tokens, greedily).
The loop is written out: `generate()` does more between two tokens.
"""

import json
import sys
import time

import torch
import transformers

from rival import answer


class Writer:
    def __init__(self, given):
        self.batch_size = given["batch_size"]
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[given["precision"]]
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            given["model"], dtype=dtype, attn_implementation="sdpa"
        ).eval()
        self.cache, self.last = None, None

    def forward(self, ids):
        out = self.model(
            input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1
        )
        self.cache = out.past_key_values
        self.last = out.logits[:, -1].argmax(-1, keepdim=True)

    def prompt(self, n):
        vocab = self.model.config.vocab_size
        row, place = torch.arange(self.batch_size)[:, None], torch.arange(n)[None, :]
        ids = (7 + 31 * place + 101 * row) % vocab
        self.cache = None
        start = time.perf_counter()
        self.forward(ids)
        ids = self.last[:, 0].tolist()
        return {"seconds": time.perf_counter() - start, "ids": ids}

    def decode(self, n):
        start = time.perf_counter()
        ids = []
        for _ in range(n):
            self.forward(self.last)
            ids += self.last[:, 0].tolist()
        return {"seconds": time.perf_counter() - start, "ids": ids}


def main():
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.set_grad_enabled(False)
    transformers.logging.set_verbosity_error()
    writer = Writer(given)
    answer(
        ready=True,
        parameters=sum(p.numel() for p in writer.model.parameters()),
        threads=torch.get_num_threads(),
        versions=f"transformers {transformers.__version__}, torch {torch.__version__}",
    )
    for line in sys.stdin:
        match line.split():
            case ["prompt", n]:
                fields = writer.prompt(int(n))
            case ["decode", n]:
                fields = writer.decode(int(n))
            case _:
                sys.exit(f"not understood: {line.strip()}")
        answer(tokens=int(n) * writer.batch_size, **fields)


if __name__ == "__main__":
    main()
