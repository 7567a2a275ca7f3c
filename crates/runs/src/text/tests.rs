use proptest::prelude::*;

use super::{html, html_with_code, markdown, markdown_fence, one_line, visible, wrap};

/// What the commonest HTML parser reads out of an escaped text.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

/// What CommonMark shows for a line in which only backslash escapes are active.
fn without_backslashes(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().expect("an escaped character") } else { c });
    }
    out
}

#[test]
fn markup_and_quotes_are_escaped_in_html() {
    assert_eq!(
        html("<script>alert(\"x\" & 'y')</script>"),
        "&lt;script&gt;alert(&quot;x&quot; &amp; &#39;y&#39;)&lt;/script&gt;"
    );
}

#[test]
fn control_and_bidi_characters_become_visible() {
    assert_eq!(visible("a\u{1b}[31mb"), "a\\u{1b}[31mb");
    assert_eq!(visible("user\u{202e}gpj.exe\u{2066}"), "user\\u{202e}gpj.exe\\u{2066}");
    assert_eq!(visible("two\r\nlines\tand\u{0}nul"), "two\nlines\tand\\u{0}nul");
    assert_eq!(visible("naïve 漢字 👩‍👧 é"), "naïve 漢字 👩‍👧 é");
}

#[test]
fn one_line_folds_white_space() {
    assert_eq!(one_line("  a\n\n b\t c "), "a b c");
}

#[test]
fn markdown_special_characters_are_escaped() {
    assert_eq!(markdown("*a* _b_ `c` [d](e) | f"), "\\*a\\* \\_b\\_ \\`c\\` \\[d\\](e) \\| f");
    assert_eq!(markdown("# not a heading"), "\\# not a heading");
    assert_eq!(markdown("1. not a list"), "1\\. not a list");
    assert_eq!(markdown("- not a list, -3.5"), "\\- not a list, -3.5");
    assert_eq!(markdown("-3.5"), "-3.5");
    assert_eq!(markdown("0.25 or 1) or --- or ="), "0.25 or 1) or --- or =");
    assert_eq!(markdown("---"), "\\---");
    assert_eq!(markdown("https://a.example www.b.example"), "https\\://a.example www\\.b.example");
    assert_eq!(markdown("<b>&amp;</b>"), "\\<b\\>\\&amp;\\</b\\>");
}

#[test]
fn a_fence_outgrows_the_backticks_inside() {
    assert_eq!(markdown_fence("a ```` b", "text"), "`````text\na ```` b\n`````\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn html_is_inert_and_reads_back(text in any::<String>()) {
        let escaped = html(&text);
        prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
        prop_assert!(!escaped.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        prop_assert_eq!(unescape(&escaped), visible(&text));
    }

    #[test]
    fn markdown_stays_on_one_line_and_reads_back(text in "[ -~\\n\\u{202a}-\\u{202e}é]{0,40}") {
        let escaped = markdown(&text);
        prop_assert!(!escaped.contains('\n'));
        prop_assert_eq!(without_backslashes(&escaped), one_line(&text));
    }

    #[test]
    fn wrapping_keeps_the_text_and_the_width(text in "[a-z \\n]{0,60}", width in 1..20_usize) {
        let lines = wrap(&text, width);
        prop_assert!(lines.iter().all(|line| line.chars().count() <= width), "{:?}", lines);
        let without_spaces = |text: &str| text.replace(' ', "");
        prop_assert_eq!(without_spaces(&lines.concat()), without_spaces(&one_line(&text)));
    }

    #[test]
    fn a_fenced_block_ends_where_it_should(text in "[`a\\n]{0,30}") {
        let block = markdown_fence(&text, "text");
        let fence: String = block.chars().take_while(|&c| c == '`').collect();
        prop_assert_eq!(block.lines().filter(|line| line.starts_with(&fence)).count(), 2);
    }
}

#[test]
fn pairs_of_backticks_are_code() {
    let check = |text: &str, expected: &str| assert_eq!(html_with_code(text), expected);
    check("a `<b>` c", "a <code>&lt;b&gt;</code> c");
    check("`a``b`", "<code>a</code><code>b</code>");
    check("one ` alone", "one ` alone");
    check("``a``", "``a``"); // around nothing
    check("&", "&amp;");
}
