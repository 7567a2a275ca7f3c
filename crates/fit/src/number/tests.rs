use super::*;

#[test]
fn suffixes_are_understood() {
    let check = |text: &str, expected: f64| assert_eq!(parse(text).unwrap(), expected, "{text}");
    check("7B", 7e9);
    check(" 1.5T ", 1.5e12);
    check("3e-4", 3e-4);
    check("405M", 405e6);
    check("2k", 2000.);
    assert_eq!(parse("many").unwrap_err().to_string(), "`many` is no number (write 7e9, or 7B)");
    assert!(parse("inf").is_err() && parse("").is_err() && parse("B").is_err());
}

#[test]
fn pairs_are_names_and_numbers() {
    assert_eq!(pairs("n=7B,d=1T").unwrap(), [("n".to_owned(), 7e9), ("d".to_owned(), 1e12)]);
    assert_eq!(pairs("n").unwrap_err().to_string(), "`n` must be NAME=VALUE");
}

#[test]
fn counts_are_positive() {
    assert_eq!(positive("7B").unwrap(), 7e9);
    assert_eq!(positive("-1").unwrap_err().to_string(), "must be positive, got -1");
    assert!(positive("0").is_err() && positive("many").is_err());
    let bad = |text: &str| positive_pairs(text).unwrap_err().to_string();
    assert_eq!(bad("n=7B,d=-1"), "`d` must be positive, got -1");
    assert_eq!(bad("n=0"), "`n` must be positive, got 0");
    assert_eq!(bad("p=-0.1"), "`p` must be positive, got -0.1");
    assert_eq!(positive_pairs("p_a=0,n=1").unwrap().len(), 2);
}

#[test]
fn short_numbers_keep_five_digits() {
    let check = |value: f64, expected: &str| assert_eq!(short(value), expected);
    check(0., "0");
    check(1.8172180974, "1.8172");
    check(0.3473104953, "0.34731");
    check(477.8258, "477.83");
    check(7e9, "7.000e9");
    check(-0.02, "-0.02");
    check(100., "100");
}

#[test]
fn counts_have_suffixes() {
    let check = |value: f64, expected: &str| assert_eq!(counted(value), expected);
    check(1e8, "100M");
    check(3.2e9, "3.2B");
    check(7e9, "7B");
    check(999.9e6, "1B");
    check(1.28e11, "128B");
    check(1.4e12, "1.4T");
    check(131_072., "131k");
    check(512., "512");
}
