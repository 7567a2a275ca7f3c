use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{Cell, Column, Table};

fn example() -> Table {
    Table {
        caption: "Validation loss by *arm*".to_owned(),
        columns: vec![
            Column::text("arm"),
            Column::number("loss", "nats per token"),
            Column::number("tokens", ""),
            Column::text("remark"),
        ],
        rows: vec![
            vec![
                "xPos".into(),
                Cell::plus_minus(3.2142, 0.0312),
                Cell::Count(1_048_576),
                "<script>alert(1)</script> | done".into(),
            ],
            vec![
                "RoPE".into(),
                Cell::range(3.4, 3.31, 3.52),
                Cell::Count(512),
                "two\nlines".into(),
            ],
            vec!["none".into(), f64::NAN.into()],
        ],
    }
}

fn check(actual: &str, expected: Expect) {
    expected.assert_eq(actual);
}

#[test]
fn a_table_in_markdown() {
    check(
        &example().to_markdown(),
        expect![[r#"
        **Validation loss by \*arm\***

        | arm | loss (nats per token) | tokens | remark |
        | :-- | --: | --: | :-- |
        | xPos | 3.214 ± 0.031 | 1048576 | \<script\>alert(1)\</script\> \| done |
        | RoPE | 3.40 \[3.31, 3.52\] | 512 | two lines |
        | none | NaN |  |  |
    "#]],
    );
}

#[test]
fn a_table_in_a_terminal() {
    check(
        &example().to_terminal(80),
        expect![[r#"
        Validation loss by *arm*

         arm    loss (nats per token)    tokens   remark
        ───────────────────────────────────────────────────────────────────────────
         xPos           3.214 ± 0.031   1048576   <script>alert(1)</script> | done
         RoPE       3.40 [3.31, 3.52]       512   two lines
         none                     NaN
    "#]],
    );
}

#[test]
fn a_table_that_is_too_wide_becomes_records() {
    let mut table = example();
    table.columns.extend((0..9).map(|i| Column::number(format!("metric {i}"), "nats")));
    table.rows[0].extend((0..9).map(|i| Cell::number(f64::from(i) / 7.0, 3)));
    table.rows.truncate(1);
    check(
        &table.to_terminal(80),
        expect![[r#"
        Validation loss by *arm*

         arm                     xPos
         loss (nats per token)   3.214 ± 0.031
         tokens                  1048576
         remark                  <script>alert(1)</script> | done
         metric 0 (nats)         0
         metric 1 (nats)         0.143
         metric 2 (nats)         0.286
         metric 3 (nats)         0.429
         metric 4 (nats)         0.571
         metric 5 (nats)         0.714
         metric 6 (nats)         0.857
         metric 7 (nats)         1.00
         metric 8 (nats)         1.14
    "#]],
    );
}

#[test]
fn a_table_in_html() {
    check(
        &example().to_html(),
        expect![[r#"
        <div class="table-box" tabindex="0" role="region" aria-label="Validation loss by *arm*">
        <table>
        <caption>Validation loss by *arm*</caption>
        <thead><tr><th scope="col">arm</th><th scope="col" class="number">loss <span class="unit">nats per token</span></th><th scope="col" class="number">tokens</th><th scope="col">remark</th></tr></thead>
        <tbody>
        <tr><th scope="row">xPos</th><td class="number">3.214 ± 0.031</td><td class="number">1 048 576</td><td>&lt;script&gt;alert(1)&lt;/script&gt; | done</td></tr>
        <tr><th scope="row">RoPE</th><td class="number">3.40 [3.31, 3.52]</td><td class="number">512</td><td>two
        lines</td></tr>
        <tr><th scope="row">none</th><td class="number">NaN</td><td class="number"></td><td></td></tr>
        </tbody>
        </table>
        </div>
    "#]],
    );
}

#[test]
fn decimal_points_of_a_column_are_aligned() {
    let table = Table {
        caption: String::new(),
        columns: vec![Column::text("arm"), Column::number("loss", "")],
        rows: vec![
            vec!["a".into(), Cell::number(3.25, 3)],
            vec!["b".into(), Cell::number(12.5, 3)],
            vec!["c".into(), Cell::Count(7)],
        ],
    };
    let html = table.to_html();
    assert!(html.contains("<td class=\"number\">3.25</td>"));
    assert!(html.contains("<td class=\"number\">12.5<i aria-hidden=\"true\">0</i></td>"));
    assert!(html.contains("<td class=\"number\">7<i aria-hidden=\"true\">.00</i></td>"));
}

#[test]
fn a_row_longer_than_the_heading_is_shown_whole() {
    let table = Table {
        columns: vec![Column::text("a")],
        rows: vec![vec!["1".into(), "kept".into()]],
        ..Table::default()
    };
    for shown in [table.to_markdown(), table.to_html(), table.to_terminal(80)] {
        assert!(shown.contains("kept"), "{shown}");
    }
}

fn any_cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        any::<String>().prop_map(Cell::Text),
        "[ -~]{0,60}".prop_map(Cell::Text),
        any::<u64>().prop_map(Cell::Count),
        any::<f64>().prop_map(Cell::from),
        (any::<f64>(), any::<f64>()).prop_map(|(value, by)| Cell::plus_minus(value, by)),
        (any::<f64>(), any::<f64>(), any::<f64>())
            .prop_map(|(v, low, high)| Cell::range(v, low, high)),
    ]
}

fn any_table() -> impl Strategy<Value = Table> {
    let column = ("[a-z]{0,12}", "[a-z]{0,6}", any::<bool>()).prop_map(|(name, unit, right)| {
        if right { Column::number(name, unit) } else { Column::text(name) }
    });
    let rows = proptest::collection::vec(proptest::collection::vec(any_cell(), 0..9), 0..6);
    ("[ -~]{0,120}", proptest::collection::vec(column, 0..9), rows)
        .prop_map(|(caption, columns, rows)| Table { caption, columns, rows })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_markdown_row_has_as_many_cells(table in any_table()) {
        let bars = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
        let markdown = table.to_markdown();
        let body = match table.caption.is_empty() {
            true => markdown.as_str(),
            false => markdown.split_once("\n\n").unwrap().1,
        };
        let columns = table.rows.iter().map(Vec::len).max().unwrap_or(0).max(table.columns.len());
        prop_assert_eq!(body.lines().count(), table.rows.len() + 2);
        for line in body.lines() {
            prop_assert_eq!(bars(line), columns.max(1) + 1, "{}", line);
        }
    }

    #[test]
    fn a_terminal_table_fits_80_columns(table in any_table()) {
        let drawn = table.to_terminal(80);
        for line in drawn.lines() {
            prop_assert!(comfy_width(line) <= 80, "{}", line);
        }
        prop_assert_eq!(drawn.find('\u{1b}'), None);
    }
}

/// Columns that a terminal needs for `line`, as the table library counts them.
fn comfy_width(line: &str) -> usize {
    let mut probe = comfy_table::Table::new();
    probe.load_preset(comfy_table::presets::NOTHING).add_row([line]);
    probe.column_max_content_widths()[0].into()
}
