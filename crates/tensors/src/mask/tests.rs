use proptest::prelude::*;
use tch::{Device, Kind};

use super::Mask;

fn any_mask() -> impl Strategy<Value = Mask> {
    prop_oneof![
        Just(Mask::Causal),
        (1i64..9).prop_map(|block_size| Mask::BlockwiseCausal { block_size }),
        (1i64..9).prop_map(|window| Mask::SlidingWindow { window }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_tensor_is_what_each_query_sees(mask in any_mask(), q in 0i64..30, n in 0i64..12, k in 0i64..30, m in 0i64..12) {
        let allowed = mask.allowed(q..q + n, k..k + m, Device::Cpu).unwrap();
        prop_assert_eq!((allowed.size(), allowed.kind()), (vec![n, m], Kind::Bool));
        for i in 0..n {
            for j in 0..m {
                prop_assert_eq!(allowed.int64_value(&[i, j]) == 1, mask.sees(q + i, k + j));
            }
        }
    }

    #[test]
    fn the_first_key_is_the_lowest_one_seen(mask in any_mask(), query in 0i64..60) {
        let seen: Vec<i64> = (0..=query + 20).filter(|&key| mask.sees(query, key)).collect();
        prop_assert_eq!(seen[0], mask.first_key(query));
        prop_assert_eq!(*seen.last().unwrap(), query);
        prop_assert_eq!(seen.len() as i64, query - seen[0] + 1, "one stretch without holes");
    }
}

#[test]
fn blockwise_causal_is_the_own_block_and_the_one_before() {
    // The paper's figure 3 with blocks of two.
    let mask = Mask::BlockwiseCausal { block_size: 2 };
    let rows = mask.allowed(0..6, 0..6, Device::Cpu).unwrap();
    let rows: Vec<i64> = Vec::try_from(rows.to_kind(Kind::Int64).flatten(0, -1)).unwrap();
    #[rustfmt::skip]
    assert_eq!(rows, [
        1, 0, 0, 0, 0, 0,
        1, 1, 0, 0, 0, 0,
        1, 1, 1, 0, 0, 0,
        1, 1, 1, 1, 0, 0,
        0, 0, 1, 1, 1, 0,
        0, 0, 1, 1, 1, 1,
    ]);
}

#[test]
fn sizes_and_ranges_are_checked_by_name() {
    let check = |mask: Mask, queries, keys, want: &str| {
        let message = mask.allowed(queries, keys, Device::Cpu).unwrap_err().to_string();
        assert_eq!(message, want);
    };
    let blocks = Mask::BlockwiseCausal { block_size: 0 };
    check(blocks, 0..1, 0..1, "block_size must be positive, got 0");
    check(Mask::SlidingWindow { window: -3 }, 0..1, 0..1, "window must be positive, got -3");
    check(Mask::Causal, -1..1, 0..1, "queries must be a rising range from 0 or above, got -1..1");
    #[expect(clippy::reversed_empty_ranges, reason = "refused")]
    check(Mask::Causal, 0..1, 4..1, "keys must be a rising range from 0 or above, got 4..1");
    // The scalar forms have no way to refuse and must not divide by zero.
    assert!(blocks.sees(5, 4) && !blocks.sees(5, 3));
    assert_eq!(blocks.first_key(5), 4);
}

#[test]
fn masks_read_well_in_configs() {
    let check = |json: &str, mask: Mask| {
        assert_eq!(serde_json::from_str::<Mask>(json).unwrap(), mask);
        assert_eq!(serde_json::to_string(&mask).unwrap(), json);
    };
    check(r#""causal""#, Mask::Causal);
    check(r#"{"blockwise_causal":{"block_size":256}}"#, Mask::BlockwiseCausal { block_size: 256 });
    check(r#"{"sliding_window":{"window":64}}"#, Mask::SlidingWindow { window: 64 });
    assert!(serde_json::from_str::<Mask>(r#"{"sliding_window":{"window":64,"x":1}}"#).is_err());
}
