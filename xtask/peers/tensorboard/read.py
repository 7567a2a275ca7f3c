"""Reads the event files of a folder with TensorBoard itself and prints each scalar and text as one JSON line."""

import json
import struct
import sys
from importlib.metadata import version

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util


def bits(value):
    """The 32 bits of a float, which tell what `==` does not; any NaN is as good as another."""
    return "nan" if value != value else "%08x" % struct.unpack("<I", struct.pack("<f", value))


def main(folder):
    # 0: keep everything, drop nothing by sampling.
    reader = EventAccumulator(folder, size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    print(json.dumps({"tensorboard": version("tensorboard")}))
    tags = reader.Tags()
    for tag in tags["scalars"]:
        for event in reader.Scalars(tag):
            show(event, {"tag": tag, "scalar": bits(event.value)})
    for tag in tags["tensors"]:
        for event in reader.Tensors(tag):
            value = tensor_util.make_ndarray(event.tensor_proto)
            if value.dtype.kind == "f" and value.ndim == 0:
                show(event, {"tag": tag, "scalar": bits(float(value))})
            else:
                show(event, {"tag": tag, "text": value.item().decode()})


def show(event, fields):
    print(json.dumps(fields | {"step": event.step, "wall_time": event.wall_time}))


if __name__ == "__main__":
    main(sys.argv[1])
