use proptest::prelude::*;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::tokenizer::Trainer;

use super::*;
use crate::testing::TEXT;

/// The algorithm as the paper has it: count all pairs anew for every merge.
fn oracle(words: &BTreeMap<Vec<u8>, u64>, config: &BpeConfig) -> Merges {
    let mut words: Vec<Word> = words
        .iter()
        .map(|(bytes, &count)| Word { ids: bytes.iter().map(|&b| b.into()).collect(), count })
        .collect();
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).chain([vec![]]).collect();
    let mut pairs = Vec::new();
    while tokens.len() < config.vocab_size as usize {
        let mut counts = BTreeMap::new();
        for word in &words {
            for pair in pairs_of(word) {
                *counts.entry(pair).or_default() += word.count;
            }
        }
        let best =
            counts.into_iter().max_by_key(|&(pair, count): &(Pair, u64)| (count, Reverse(pair)));
        let Some((pair, _)) = best.filter(|&(_, count)| count >= config.min_frequency) else {
            break;
        };
        let bytes = [tokens[pair.0 as usize].clone(), tokens[pair.1 as usize].clone()].concat();
        let known = tokens.iter().position(|token| *token == bytes);
        let new = known.unwrap_or(tokens.len()) as u32;
        if known.is_none() {
            tokens.push(bytes);
        }
        pairs.push(pair);
        for word in &mut words {
            let mut merged = Vec::new();
            let mut rest = word.ids.as_slice();
            while let Some((&first, tail)) = rest.split_first() {
                let is_pair = tail.first().is_some_and(|&second| (first, second) == pair);
                merged.push(if is_pair { new } else { first });
                rest = &tail[usize::from(is_pair)..];
            }
            word.ids = merged;
        }
    }
    Merges { pairs, tokens }
}

fn check_error(texts: Vec<Result<&str>>, config: BpeConfig, expected: &str) {
    assert_eq!(train_bpe(texts, &config).unwrap_err().to_string(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn merges_are_those_of_counting_anew(
        words in prop::collection::btree_map("[abc]{1,9}".prop_map(String::into_bytes), 1..20_u64, 1..12),
        min_frequency in 1..6_u64,
    ) {
        let config = BpeConfig { vocab_size: 290, min_frequency };
        prop_assert_eq!(merge(words.clone(), &config), oracle(&words, &config));
    }

    #[test]
    fn the_order_of_texts_does_not_matter(texts in Just(TEXT.split(' ').collect::<Vec<_>>()).prop_shuffle()) {
        let config = BpeConfig { vocab_size: 290, min_frequency: 2 };
        let train = |texts: Vec<&str>| train_bpe(texts.into_iter().map(Ok), &config).unwrap().hash();
        prop_assert_eq!(train(texts), train(TEXT.split(' ').collect()));
    }
}

#[test]
fn repeated_letters_merge_like_the_oracle() {
    let words = BTreeMap::from([(b"aaaaaaaaaaa".to_vec(), 3), (b"aaaab".to_vec(), 2)]);
    let config = BpeConfig { vocab_size: 280, min_frequency: 1 };
    assert_eq!(merge(words.clone(), &config), oracle(&words, &config));
}

#[test]
fn bytes_and_the_end_of_a_document_come_first() {
    let tokenizer =
        train_bpe([Ok(TEXT)], &BpeConfig { vocab_size: 257, min_frequency: 1 }).unwrap();
    assert_eq!(tokenizer.vocab_size(), 257);
    assert_eq!(tokenizer.end_of_document(), Some(256));
    assert_eq!(tokenizer.encode(TEXT).unwrap(), Tokenizer::bytes().encode(TEXT).unwrap());
}

#[test]
fn training_ends_early_when_the_pairs_run_out() {
    let tokenizer =
        train_bpe([Ok("ab ab")], &BpeConfig { vocab_size: 400, min_frequency: 2 }).unwrap();
    assert_eq!(tokenizer.vocab_size(), 258);
    assert_eq!(tokenizer.encode("ab").unwrap(), [257]);
}

/// As good as the library's own trainer, which breaks ties differently.
#[test]
fn compression_equals_that_of_the_tokenizers_library() {
    let text = crate::testing::some_book();
    let config = BpeConfig { vocab_size: 500, min_frequency: 2 };
    let ours = train_bpe([Ok(&text)], &config).unwrap();
    assert_eq!(ours.vocab_size(), 500);

    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(499) // it has no end of a document
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let words = words_of(&text).unwrap();
    let repeated = words
        .iter()
        .flat_map(|(word, &count)| std::iter::repeat_n(byte_level::to_text(word), count as usize));
    trainer.feed(repeated, |word| Ok(vec![word.to_owned()])).unwrap();
    let mut model = tokenizers::models::bpe::BPE::default();
    trainer.train(&mut model).unwrap();
    let mut theirs = tokenizers::Tokenizer::new(model);
    theirs.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));

    let n_ours = ours.encode(&text).unwrap().len() as f64;
    let n_theirs = theirs.encode(text.as_str(), false).unwrap().len() as f64;
    // Which of two equally frequent pairs comes first moves a few words in a thousand.
    assert!((n_ours / n_theirs - 1.0).abs() < 0.005, "{n_ours} against {n_theirs}");
}

#[test]
fn bad_settings_are_refused_by_name() {
    let good = BpeConfig { vocab_size: 300, min_frequency: 2 };
    let small = BpeConfig { vocab_size: 256, ..good };
    check_error(vec![Ok("a")], small, "vocab_size must be from 257 to 16777216, got 256");
    let never = BpeConfig { min_frequency: 0, ..good };
    check_error(vec![Ok("a")], never, "min_frequency must be positive, got 0");
    check_error(vec![], good, "texts must be at least one word, got none");
    let failed = Err(Error::tokenizer("x", "y"));
    check_error(vec![Ok("a"), failed], good, "tokenizer `x`: y");
}
