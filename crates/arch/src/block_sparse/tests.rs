use super::*;

#[test]
fn it_is_the_rule_in_words() {
    let sparse = BlockSparse { block_size: 3, n_local_blocks: 2, vertical_stride: 3 };
    let (heads, queries, keys) = (4, 5..29, 2..29);
    let got = sparse.allowed(heads, queries.clone(), keys.clone(), Device::Cpu).unwrap();
    let mut seen_far = 0;
    for head in 0..heads {
        for query in queries.clone() {
            for key in keys.clone() {
                let (q, k) = (query / 3, key / 3);
                let (near, nth) = (q - k < 2, (k + head + 1) % 3 == 0);
                let want = key <= query && (near || nth);
                seen_far += i64::from(want && !near);
                let place = [head, query - queries.start, key - keys.start];
                assert_eq!(got.int64_value(&place) == 1, want, "head {head}, {query} on {key}");
            }
        }
    }
    assert!(seen_far > 100);
}

#[test]
fn sizes_must_be_positive() {
    let sparse = BlockSparse { block_size: 3, n_local_blocks: 0, vertical_stride: 3 };
    let error = sparse.blocks(2, 2, Device::Cpu).unwrap_err();
    assert_eq!(error.to_string(), "n_local_blocks must be positive, got 0");
}
