use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::*;

#[test]
fn the_alphabet_is_that_of_the_tokenizers_library() {
    let ours: std::collections::BTreeSet<char> = CHARS.iter().copied().collect();
    let theirs = ByteLevel::alphabet().into_iter().collect();
    assert_eq!(ours, theirs);
    assert_eq!(to_text(b"a b\n"), "aĠbĊ");
}

#[test]
fn every_byte_comes_back() {
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    assert_eq!(to_bytes(&to_text(&bytes)), bytes);
}

#[test]
fn a_token_outside_the_alphabet_stands_for_itself() {
    assert_eq!(to_bytes("a日"), "a日".as_bytes());
    assert_eq!(to_bytes("a b"), b"a b");
}
