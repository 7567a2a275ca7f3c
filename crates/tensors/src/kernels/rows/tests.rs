use proptest::prelude::*;

use super::{RowsMut, parts};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn parts_cover_every_row_once_and_no_two_groups(
        rows in 0..3000usize,
        groups in 1..6usize,
        width in 0..3000usize,
    ) {
        let parts = parts(rows * groups, groups, width);
        let mut next = 0;
        for part in &parts {
            prop_assert_eq!(part.rows.start, next);
            prop_assert!(!part.rows.is_empty());
            prop_assert_eq!(part.rows.start / rows, part.group);
            prop_assert_eq!((part.rows.end - 1) / rows, part.group);
            next = part.rows.end;
        }
        prop_assert_eq!(next, rows * groups);
        prop_assert!(parts.len() <= 16 * groups);
    }

    #[test]
    fn split_rows_are_the_rows(n in 1..2000usize, width in 1..20usize, gap in 0..3usize) {
        let stride = width + gap;
        let mut data: Vec<usize> = (0..n * stride - gap).collect();
        let parts = parts(n, 1, 200);
        let split = RowsMut::new(&mut data, n, width, stride).split(&parts);
        for (part, mut rows) in parts.iter().zip(split) {
            for (i, row) in part.rows.clone().enumerate() {
                let want: Vec<usize> = (row * stride..row * stride + width).collect();
                prop_assert_eq!(&*rows.row(i), want.as_slice());
            }
        }
    }
}
