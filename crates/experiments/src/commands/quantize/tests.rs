use std::cell::Cell;

use super::*;
use crate::pretrained::write_drawn;

#[track_caller]
fn check(lengths: &[usize], n_tokens: usize, piece: usize, expected: &[(i64, usize)]) {
    let mut next = 0;
    let texts: Vec<Vec<i64>> = lengths
        .iter()
        .map(|&n| {
            let text = (next..next + n as i64).collect();
            next += n as i64;
            text
        })
        .collect();
    let found: Vec<_> =
        spread(&texts, n_tokens, piece).iter().map(|piece| (piece[0], piece.len())).collect();
    assert_eq!(found, expected, "{lengths:?}");
}

#[test]
fn pieces_are_spread_over_the_texts() {
    check(&[100], 40, 10, &[(0, 10), (20, 10), (50, 10), (70, 10)]);
    check(&[20, 45], 30, 10, &[(0, 10), (20, 10), (40, 10)]);
    check(&[25], 1000, 10, &[(0, 10), (10, 10)]); // as many as there are
    check(&[5, 3, 1], 1000, 10, &[(0, 5), (5, 3)]); // one token predicts nothing
    check(&[1], 10, 10, &[]);
    check(&[100], 0, 10, &[]);
}

fn args(format: Format, group: Option<i64>, method: Rounding) -> QuantizeArgs {
    QuantizeArgs {
        model: "nowhere".to_owned(),
        out: PathBuf::new(),
        format,
        group,
        method,
        tables: Tables::Int8,
        text: Vec::new(),
        text_tokens: 10,
        tokenizer: None,
        threads: None,
    }
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    let refused = |args: &QuantizeArgs| args.config().unwrap_err().to_string();
    assert_eq!(
        refused(&args(Format::Int8, Some(64), Rounding::Nearest)),
        "--group 64 makes no sense at 8 bits, where each row has one scale"
    );
    assert_eq!(
        refused(&args(Format::Int4, Some(48), Rounding::Gptq)),
        "--group must be 32, 64 or 128, got 48"
    );
    let text = vec!["a.txt".into()];
    let args = QuantizeArgs { text, ..args(Format::Int4, None, Rounding::Nearest) };
    assert_eq!(refused(&args), "--text is for gptq; --method nearest reads none");
}

#[test]
fn options_are_the_librarys() {
    let config = args(Format::Int4, None, Rounding::Gptq).config().unwrap();
    assert_eq!(config.blocks, WeightFormat::Int4 { group: 64 });
    assert_eq!(config.tables, Some(WeightFormat::Int8));
    assert_eq!(config.method, Method::Gptq(Gptq::default()));
    let keep = QuantizeArgs { tables: Tables::Keep, ..args(Format::Int8, None, Rounding::Nearest) };
    let config = keep.config().unwrap();
    assert_eq!((config.blocks, config.tables), (WeightFormat::Int8, None));
}

#[test]
fn tokens_that_stand_before_a_text_are_none_of_it() {
    let pieces = [vec![7, 1, 2], vec![7, 3, 4]];
    assert_eq!(calibrating_on(&pieces, 1, 2), "calibrating on 4 tokens of 2 texts");
    assert_eq!(calibrating_on(&pieces[..1], 2, 1), "calibrating on 1 token of 1 text");
}

#[test]
fn a_stop_between_two_pieces_reads_no_more_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    write_drawn(&from, 1).unwrap();
    let config = args(Format::Int4, None, Rounding::Gptq).config().unwrap();
    let pieces = vec![vec![1, 2, 3, 4]; 5];
    let asked = Cell::new(0);
    let run = |stop_at: usize| {
        asked.set(0);
        let stopped = || {
            asked.set(asked.get() + 1);
            asked.get() == stop_at
        };
        let mut go_on = |_, _| ControlFlow::Continue(());
        quantized(&from, &to, &config, &pieces, &mut go_on, &stopped)
    };
    assert!(run(2).is_err());
    assert_eq!(asked.get(), 2);
    assert!(!to.exists());
    // What is never stopped is asked before each piece.
    run(usize::MAX).unwrap();
    assert_eq!(asked.get(), pieces.len());
    assert!(to.join("model.safetensors").is_file());
}
