//! Transformer blocks and whole decoder models on libtorch.
