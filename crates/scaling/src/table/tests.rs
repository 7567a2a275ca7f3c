use super::*;

const TEXT: &str = "name,N,loss\n\"a, \"\"b\"\"\",1e9,2.5\r\nc,2e9,\n\nd,x,3\n";

fn table() -> Table {
    Table::parse_csv(TEXT, Some(Path::new("runs.csv"))).unwrap()
}

#[test]
fn quotes_blank_lines_and_empty_cells_are_read() {
    let table = table();
    assert_eq!(table.text("name").unwrap(), ["a, \"b\"", "c", "d"]);
    let loss = table.numbers("loss").unwrap();
    assert!(loss[0] == 2.5 && loss[1].is_nan() && loss[2] == 3.);
    assert_eq!((table.len(), table.is_empty()), (3, false));
}

#[test]
fn messages_name_file_row_and_column() {
    let table = table();
    let check = |error: Error, want: &str| assert_eq!(error.to_string(), want);
    check(table.numbers("N").unwrap_err(), "`runs.csv`, row 3, column `N`: `x` is no number");
    check(
        table.numbers("D").unwrap_err(),
        "`runs.csv`, column `D`: no such column; there are name, N, loss",
    );
    let sound = table.filter(|row| row < 2);
    check(
        sound.observations("loss", &[("n", "N")]).unwrap_err(),
        "`runs.csv`, row 2, column `loss`: must be a finite number, got NaN",
    );
    let ragged = Table::parse_csv("a,b\n1,2\n3\n", Some(Path::new("x.csv"))).unwrap_err();
    check(ragged, "`x.csv`, row 2, column `b`: the row has 1 cells, the header 2");
    assert!(
        Table::read_csv(Path::new("nowhere.csv"))
            .unwrap_err()
            .to_string()
            .starts_with("cannot read `nowhere.csv`")
    );
}

#[test]
fn filtered_rows_keep_their_numbers() {
    let rows = table().filter(|row| row != 1);
    assert_eq!(rows.row_numbers(), [1, 3]);
}
