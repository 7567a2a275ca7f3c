"""Makes sentencepiece.json: a small BPE of SentencePiece's with byte fallback, as Llama 2 has it, and its ids of texts.

    pip install sentencepiece==0.2.3 && python make_sentencepiece.py TEXT_FILE texts.json sentencepiece.json
"""

import io
import json
import sys

import sentencepiece as spm

model = io.BytesIO()
text = open(sys.argv[1], encoding="utf-8").read()
lines = [line for line in text.split("\n") if line.strip()]
spm.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=700, character_coverage=0.999,
    byte_fallback=True, split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
    allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2,
)
sp = spm.SentencePieceProcessor(model_proto=model.getvalue())


def kind(i):
    """The numbers of tokenizer.ggml.token_type."""
    return 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1


pieces = [[sp.id_to_piece(i), sp.get_score(i), kind(i)] for i in range(len(sp))]
texts = [text for text in json.load(open(sys.argv[2], encoding="utf-8"))] + [text[:2000]]
cases = [{"text": text, "ids": sp.encode(text)} for text in texts]
with open(sys.argv[3], "w", encoding="utf-8") as file:
    json.dump({"source": f"sentencepiece {spm.__version__}", "pieces": pieces, "cases": cases}, file, ensure_ascii=False)
