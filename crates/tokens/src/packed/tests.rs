use proptest::prelude::*;

use super::*;
use crate::shard::ShardWriter;
use crate::testing::folder;

const END: u32 = 9;

fn shards(documents: &[Vec<u32>]) -> Arc<Shards> {
    let folder = folder();
    let mut writer = ShardWriter::create(folder.path().join("a.tokens"), 10, END).unwrap();
    for document in documents {
        writer.push(document).unwrap();
    }
    // The map outlives the file's name.
    Arc::new(writer.finish().unwrap())
}

/// The stream, written out.
fn stream(documents: &[Vec<u32>], chosen: &[usize]) -> Vec<i64> {
    let ids = chosen.iter().flat_map(|&index| documents[index].iter().chain([&END]));
    ids.map(|&id| id.into()).collect()
}

fn check_error<T: std::fmt::Debug>(result: Result<T>, expected: &str) {
    assert_eq!(result.unwrap_err().to_string(), expected);
}

/// Checks rows, tail and starts of documents against `stream`, preceded by `before`.
fn check_rows(packed: &Packed, before: i64, stream: &[i64]) {
    let seq_len = packed.seq_len();
    let padded = [&[before], stream].concat();
    let mut predicted = Vec::new();
    for index in 0..packed.len() {
        let row = packed.row(index).unwrap();
        let start = index as usize * seq_len;
        assert_eq!(row, padded[start..start + seq_len + 1]);
        predicted.extend_from_slice(&row[1..]);
        let starts: Vec<_> = (1..=seq_len).filter(|&at| row[at - 1] == i64::from(END)).collect();
        assert_eq!(packed.document_starts(index).unwrap(), starts);
    }
    let tail = packed.tail();
    assert_ne!(tail.len(), 1, "a tail predicts something");
    assert_eq!(tail.first(), (tail.len() > 1).then(|| &padded[predicted.len()]));
    predicted.extend(tail.iter().skip(1));
    assert_eq!(predicted, stream, "every id is predicted exactly once");
    assert_eq!(packed.n_tokens(), stream.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn packing_loses_nothing(
        documents in prop::collection::vec(prop::collection::vec(0..9_u32, 0..12), 1..8),
        seq_len in 1..20_usize,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
    ) {
        let shards = shards(&documents);
        for chosen in [
            (0..documents.len()).collect::<Vec<_>>(),
            picks.iter().map(|pick| pick.index(documents.len())).collect(),
        ] {
            let stream = stream(&documents, &chosen);
            let packed = Packed::of_documents(Arc::clone(&shards), chosen, seq_len);
            if stream.len() < seq_len {
                prop_assert!(packed.is_err());
            } else {
                check_rows(&packed.unwrap(), END.into(), &stream);
            }
        }
    }

    #[test]
    fn parts_make_up_the_whole(
        documents in prop::collection::vec(prop::collection::vec(0..9_u32, 1..12), 2..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let stream = stream(&documents, &(0..documents.len()).collect::<Vec<_>>());
        let packed = Packed::new(shards(&documents), 1).unwrap();
        let cut = 1 + cut.index(stream.len() - 1);
        let first = packed.part(0..cut as u64).unwrap();
        let second = packed.part(cut as u64..stream.len() as u64).unwrap();
        check_rows(&first, END.into(), &stream[..cut]);
        check_rows(&second, stream[cut - 1], &stream[cut..]);
        if cut > 1 {
            check_rows(&first.part(1..cut as u64).unwrap(), stream[0], &stream[1..cut]);
        }
    }
}

#[test]
fn rows_overlap_by_one() {
    let packed = Packed::new(shards(&[vec![1, 2, 3], vec![4, 5, 6, 7]]), 4).unwrap();
    assert_eq!(packed.row(0).unwrap(), [9, 1, 2, 3, 9]);
    assert_eq!(packed.row(1).unwrap(), [9, 4, 5, 6, 7]);
    assert_eq!(packed.tail(), [7, 9]);
    assert_eq!((packed.len(), packed.n_tokens()), (2, 9));
    assert_eq!(packed.document_starts(0).unwrap(), [1]);
    assert_eq!(packed.document_starts(1).unwrap(), [1]);
    let mut rows = packed.row(1).unwrap();
    packed.extend_with_row(0, &mut rows).unwrap();
    assert_eq!(rows, [9, 4, 5, 6, 7, 9, 1, 2, 3, 9]);
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let shards = shards(&[vec![1, 2, 3]]);
    let new = |seq_len| Packed::new(Arc::clone(&shards), seq_len);
    check_error(new(0), "seq_len must be positive, got 0");
    check_error(new(5), "seq_len must be at most 4, the number of tokens there are, got 5");
    check_error(new(4).unwrap().row(1), "row must be below 1, got 1");
    check_error(new(4).unwrap().document_starts(1), "row must be below 1, got 1");
    check_error(new(2).unwrap().part(3..5), "part must be within 0..4, got 3..5");
    let other = Packed::of_documents(Arc::clone(&shards), vec![0, 1], 2);
    check_error(other, "document must be below 1, got 1");
}
