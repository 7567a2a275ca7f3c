//! Tokenizers, token shards, packing and sampling.
