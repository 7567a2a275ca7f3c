//! What the crates on libtorch share: the C++ shim, masks, initialisers, safetensors, golden-file comparison.
