"""Makes gguf_blocks.json: random blocks of each type, and what the package gguf makes of them.

    pip install gguf==0.19.0 && python make_gguf_blocks.py 0.19.0 gguf_blocks.json
"""

import json, sys
import numpy as np
import gguf
from gguf import GGMLQuantizationType as T, quants

rng = np.random.default_rng(20261123)
# type, where its half-precision scales lie in a block
types = [(T.F32, []), (T.F16, []), (T.BF16, []), (T.Q8_0, [0]), (T.Q4_0, [0]), (T.Q4_1, [0, 2]),
         (T.Q5_0, [0]), (T.Q5_1, [0, 2]), (T.Q4_K, [0, 2]), (T.Q5_K, [0, 2]), (T.Q6_K, [208])]
out = {}
for kind, scales in types:
    values, size = gguf.GGML_QUANT_SIZES[kind]
    n = 512 // values
    if values == 1:
        rows = rng.standard_normal(n).astype(np.float32)
        blocks = rows.view(np.uint8) if kind == T.F32 else quants.quantize(rows.reshape(1, -1), kind).view(np.uint8).reshape(-1)
        if kind == T.F16:
            # every exponent: also subnormal numbers, infinities (no NaN)
            special = np.array([0, 0x8000, 1, 0x3ff, 0x83ff, 0x400, 0x7bff, 0xfbff, 0x7c00, 0xfc00] + [e << 10 | 0x155 for e in range(31)], np.uint16)
            blocks[:2 * len(special)] = special.view(np.uint8)
    else:
        blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
        for at in scales:
            blocks[:, at:at + 2] = (rng.standard_normal((n, 1)) * 0.05).astype(np.float16).view(np.uint8)
    blocks = np.ascontiguousarray(blocks).reshape(1, -1)
    want = quants.dequantize(blocks.view(np.float32) if kind == T.F32 else blocks.view(np.float16) if kind == T.F16 else blocks, kind)
    want = np.asarray(want, np.float32).reshape(-1)
    assert want.size == 512, (kind, want.size)
    out[kind.name] = {"blocks": blocks.tobytes().hex(), "values": want.astype('<f4').tobytes().hex()}
json.dump({"source": f"gguf {sys.argv[1]} (PyPI), numpy {np.__version__}, seed 20261123", "types": out}, open(sys.argv[2], 'w'), indent=1)
