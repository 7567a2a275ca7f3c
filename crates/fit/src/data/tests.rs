use forerun_scaling::OutlierRule;

use super::*;

fn table() -> Table {
    let text = "size,tokens,val,loss\n1e8,2e9,a,3.5\n2e8,2e9,b,3.2\n4e8,4e9,a,NaN\n8e8,8e9,a,2.9\n";
    Table::parse_csv(text, Some(Path::new("runs.csv"))).unwrap()
}

fn rows(filters: &[&str]) -> Vec<usize> {
    let filters: Vec<String> = filters.iter().map(|f| (*f).to_owned()).collect();
    filter(table(), &filters).unwrap().0.row_numbers().to_vec()
}

#[test]
fn filters_keep_what_they_say() {
    assert_eq!(rows(&["val==a"]), [1, 3, 4]);
    assert_eq!(rows(&["val == a and size < 5e8"]), [1, 3]);
    assert_eq!(rows(&["loss > 0"]), [1, 2, 4]);
    assert_eq!(rows(&["size>=200M", "val!=b"]), [3, 4]);
}

#[test]
fn outlier_rules_are_filters_too() {
    let rule = |text: &str| filter(table(), &[text.to_owned()]).unwrap().1;
    assert_eq!(rule("drop-worst 5"), OutlierRule::DropHighest(5));
    assert_eq!(rule("residual>4"), OutlierRule::ResidualBeyond(4.));
}

#[test]
fn a_filter_that_cannot_be_read_says_so() {
    let check = |text: &str, expected: &str| {
        let error = filter(table(), &[text.to_owned()]).unwrap_err();
        assert_eq!(format!("{error:#}"), expected);
    };
    check("size > 1e12", "--filter \"size > 1e12\" leaves no row");
    check("val < a", "--filter \"val < a\": `a` is no number, and < needs one");
    check(
        "drop-worst many",
        "--filter \"drop-worst many\": `many` is no count: invalid digit found in string",
    );
    assert!(
        filter(table(), &["size".into()])
            .unwrap_err()
            .to_string()
            .contains("must be COLUMN OP VALUE")
    );
}

#[test]
fn columns_are_found_or_named() {
    let columns = Columns::parse(Some("n=size")).unwrap();
    assert_eq!(columns.require(&table(), "n").unwrap(), "size");
    assert_eq!(columns.require(&table(), "d").unwrap(), "tokens");
    let message = Columns::default().require(&table(), "n").unwrap_err().to_string();
    assert_eq!(
        message,
        "`runs.csv`, column `n`: no column for this (parameters of the model, a raw count); \
         there are size, tokens, val, loss; name one with --columns n=COLUMN"
    );
    assert!(Columns::parse(Some("n=sizes")).unwrap().require(&table(), "n").is_err());
}
