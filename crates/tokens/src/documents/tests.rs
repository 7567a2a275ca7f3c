use std::fs;

use arrow::array::{
    ArrayRef, DictionaryArray, Int64Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray,
};
use arrow::datatypes::Int8Type;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::*;
use crate::testing::{BOOKS, TEXT, flipped, folder, gzip, parquet, source, write_parquet, zstd};

fn read(source: &TextSource) -> Result<Vec<(u64, String)>> {
    documents(source)?.map(|document| document.map(|d| (d.row, d.text))).collect()
}

/// Reads `contents` as a file called `name`.
fn read_file(
    name: &str,
    contents: &[u8],
    edit: impl FnOnce(&mut TextSource),
) -> Result<Vec<(u64, String)>, String> {
    let folder = folder();
    let path = folder.path().join(name);
    fs::write(&path, contents).unwrap();
    let mut source = source(&path);
    edit(&mut source);
    read(&source).map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "DIR"))
}

fn check(name: &str, contents: &[u8], expected: &[(u64, &str)]) {
    let read = read_file(name, contents, |_| {}).unwrap();
    let read: Vec<_> = read.iter().map(|(row, text)| (*row, text.as_str())).collect();
    assert_eq!(read, expected);
}

fn check_error(name: &str, contents: &[u8], expected: &str) {
    assert_eq!(read_file(name, contents, |_| {}).unwrap_err(), expected);
}

/// Reads the string columns as Parquet.
fn read_columns(
    columns: &[(&str, Vec<Option<&str>>)],
    edit: impl FnOnce(&mut TextSource),
) -> Result<Vec<(u64, String)>, String> {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    parquet(&path, columns, 2);
    read_file("a.parquet", &fs::read(path).unwrap(), edit)
}

fn check_columns(names: &[&str], column: Option<&str>, expected: Result<&str, &str>) {
    let columns: Vec<_> = names.iter().map(|&name| (name, vec![Some(name)])).collect();
    let read = read_columns(&columns, |source| source.column = column.map(str::to_owned));
    let read = read.map(|rows| rows[0].1.clone());
    assert_eq!(read.as_deref().map_err(String::as_str), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn texts_come_back_from_every_format(texts in prop::collection::vec(any::<String>(), 1..20), group_rows in 1..9_usize) {
        let expected: Vec<_> = (1..).zip(texts.iter().cloned()).collect();
        let lines: String = texts.iter().map(|text| format!("{}\n", serde_json::json!({"id": 1, "text": text}))).collect();
        for (name, contents) in [
            ("a.jsonl", lines.as_bytes().to_vec()),
            ("a.NDJSON.gz", gzip(lines.as_bytes())),
            ("a.jsonl.zst", zstd(lines.as_bytes())),
        ] {
            prop_assert_eq!(read_file(name, &contents, |_| {}).unwrap(), expected.clone());
        }
        let folder = folder();
        let path = folder.path().join("a.parquet");
        let column = texts.iter().map(|text| Some(text.as_str())).collect();
        parquet(&path, &[("id", vec![None; texts.len()]), ("text", column)], group_rows);
        prop_assert_eq!(read(&source(&path)).unwrap(), expected);
    }
}

#[test]
fn plain_text_is_one_document_a_file() {
    check("a.txt", b"one\r\ntwo", &[(1, "one\r\ntwo")]);
    check("a.md.gz", &gzip(TEXT.as_bytes()), &[(1, TEXT)]);
    check("a.text.zst", &zstd(TEXT.as_bytes()), &[(1, TEXT)]);
    check("a.txt", "\u{feff}marked".as_bytes(), &[(1, "marked")]);
}

#[test]
fn streams_of_several_parts_are_read_to_the_end() {
    let halves = |pack: fn(&[u8]) -> Vec<u8>| [pack(b"one "), pack(b"two")].concat();
    check("a.txt.gz", &halves(gzip), &[(1, "one two")]);
    check("a.txt.zst", &halves(zstd), &[(1, "one two")]);
}

#[test]
fn blank_lines_count_but_hold_nothing() {
    check("a.jsonl", b"\n{\"text\": \"one\"}\n  \n\n{\"text\":\"\"}", &[(2, "one"), (5, "")]);
    check("a.jsonl", "\u{feff}{\"te\\u0078t\": \"one\"}\r\n".as_bytes(), &[(1, "one")]);
}

#[test]
fn the_text_column_is_found_or_named() {
    check_columns(&["a", "document", "content", "text"], None, Ok("text"));
    check_columns(&["a", "document", "content"], None, Ok("content"));
    check_columns(&["a", "document"], None, Ok("document"));
    check_columns(&["a"], None, Ok("a"));
    check_columns(&["a", "text"], Some("a"), Ok("a"));
    let several =
        "`DIR/a.parquet`: several columns could hold the text; name one of these: `a`, `b`";
    check_columns(&["a", "b"], None, Err(several));
    let none = "`DIR/a.parquet`: there is no column `c`; name one of these: `a`, `b`";
    check_columns(&["a", "b"], Some("c"), Err(none));
}

#[test]
fn keys_are_found_or_named_like_columns() {
    check(
        "a.jsonl",
        b"{\"n\": 1, \"content\": \"one\"}\n{\"content\": \"two\"}",
        &[(1, "one"), (2, "two")],
    );
    check("a.jsonl", b"{\"n\": 1, \"story\": \"one\"}", &[(1, "one")]);
    check_error(
        "a.jsonl",
        b"{\"a\": \"1\", \"b\": \"2\"}",
        "`DIR/a.jsonl` row 1: several columns could hold the text; name one of these: `a`, `b`",
    );
    check_error(
        "a.jsonl",
        b"{\"a\": 1}",
        "`DIR/a.jsonl` row 1: no column holds strings; give a file that has one; the columns are `a`",
    );
}

#[test]
fn every_kind_of_string_column_is_read() {
    let texts = ["one", "two"];
    let dictionary: DictionaryArray<Int8Type> = texts.into_iter().collect();
    let columns: [ArrayRef; 4] = [
        Arc::new(StringArray::from(texts.to_vec())),
        Arc::new(LargeStringArray::from(texts.to_vec())),
        Arc::new(StringViewArray::from(texts.to_vec())),
        Arc::new(dictionary),
    ];
    for column in columns {
        let folder = folder();
        let path = folder.path().join("a.parquet");
        write_parquet(&path, &RecordBatch::try_from_iter([("text", column)]).unwrap(), 10);
        assert_eq!(read(&source(&path)).unwrap(), [(1, "one".to_owned()), (2, "two".to_owned())]);
    }
}

#[test]
fn a_column_that_holds_no_strings_is_refused_by_name() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    write_parquet(&path, &RecordBatch::try_from_iter([("text", numbers)]).unwrap(), 10);
    let bytes = fs::read(path).unwrap();
    check_error(
        "a.parquet",
        &bytes,
        "`DIR/a.parquet`: no column holds strings; give a file that has one; the columns are `text`",
    );
    let named = read_file("a.parquet", &bytes, |source| source.column = Some("text".to_owned()));
    assert_eq!(
        named.unwrap_err(),
        "`DIR/a.parquet`: column `text` does not hold strings; name another column; the columns are `text`"
    );
}

#[test]
fn a_filter_keeps_rows_and_their_numbers() {
    let split = |value: &'static str| {
        move |source: &mut TextSource| {
            source.filter = BTreeMap::from([("split".to_owned(), value.to_owned())]);
        }
    };
    let splits = vec![Some("train"), Some("test"), None, Some("train")];
    let texts = vec![Some("a"), Some("b"), None, Some("d")];
    let columns = [("split", splits), ("text", texts)];
    let train = [(1, "a".to_owned()), (4, "d".to_owned())];
    assert_eq!(read_columns(&columns, split("train")).unwrap(), train);
    let message = "`DIR/a.parquet`: no document has `split` = `dev`; change the filter; values there are `null`, `test`, `train`";
    assert_eq!(read_columns(&columns, split("dev")).unwrap_err(), message);
    let message = "`DIR/a.parquet`: there is no column `split`; filter by one of these: `text`";
    assert_eq!(read_columns(&columns[1..], split("dev")).unwrap_err(), message);

    let lines = b"{\"split\": \"train\", \"text\": \"a\"}\n{\"split\": 3, \"text\": \"b\"}\n";
    assert_eq!(read_file("a.jsonl", lines, split("train")).unwrap(), train[..1]);
    assert_eq!(read_file("a.jsonl", lines, split("3")).unwrap(), [(2, "b".to_owned())]);
    let missing = read_file("a.jsonl", b"{\"text\": \"a\"}", split("train")).unwrap_err();
    assert_eq!(
        missing,
        "`DIR/a.jsonl` row 1: there is no key `split`; add it, remove the line, or name another key; those here are `text`"
    );
    let plain = read_file("a.txt", b"a", split("train")).unwrap_err();
    assert_eq!(
        plain,
        "`DIR/a.txt`: plain text has no columns, and so no `split`; leave column and filter out, or give Parquet or JSONL"
    );
}

#[test]
fn text_that_is_not_utf8_is_named_by_row() {
    let remedy = "convert the file, for example with `iconv -t utf-8`";
    check_error(
        "a.txt",
        b"one\ntw\xe9o",
        &format!("`DIR/a.txt` row 2: is not UTF-8: byte 0xE9 at offset 2 of the row; {remedy}"),
    );
    check_error(
        "a.txt",
        b"one\n\xe6\x97",
        &format!(
            "`DIR/a.txt` row 2: is not UTF-8: a cut-off character at offset 0 of the row; {remedy}"
        ),
    );
    check_error(
        "a.jsonl",
        b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}\n",
        &format!("`DIR/a.jsonl` row 2: is not UTF-8: byte 0xFF at offset 10 of the row; {remedy}"),
    );

    let mut rows = vec![b"good".as_slice(); 7];
    rows[4] = b"b\xe9d";
    let expected = "`DIR/a.parquet` row 5: ";
    let message = read_file("a.parquet", &parquet_of_bytes(&rows), |_| {}).unwrap_err();
    assert!(message.starts_with(expected) && message.contains("non UTF-8 data"), "{message}");
    assert!(message.ends_with("; write the text as UTF-8"), "{message}");
}

/// A Parquet file, two rows a group, that calls these bytes UTF-8.
fn parquet_of_bytes(rows: &[&[u8]]) -> Vec<u8> {
    let schema = parse_message_type("message m { required binary text (UTF8); }").unwrap();
    let mut bytes = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::default()).unwrap();
    for rows in rows.chunks(2) {
        let values: Vec<_> = rows.iter().map(|row| ByteArray::from(row.to_vec())).collect();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

#[test]
fn lines_that_are_no_objects_are_named() {
    let check = |line: &str, reason: &str| {
        let contents = format!("{{\"text\": \"a\"}}\n\n{line}\n");
        check_error("a.jsonl", contents.as_bytes(), &format!("`DIR/a.jsonl` row 3: {reason}"));
    };
    check(
        "{\"text\": \"b",
        "is no JSON object on one line: control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0; the line is damaged: write or fetch the file again, or remove the line",
    );
    check(
        "{\"text\": \"b\"",
        "is no JSON object on one line: EOF while parsing an object at line 2 column 0; the line is cut off: write or fetch the file again, or remove the line",
    );
    check(
        "[1]",
        "is no JSON object on one line: invalid type: sequence, expected an object at column 0; the line is damaged: write or fetch the file again, or remove the line",
    );
    check("{\"text\": 5}", "key `text` does not hold a string; make it one, or remove the line");
    check(
        "{\"body\": \"b\"}",
        "there is no key `text`; add it, remove the line, or name another key; those here are `body`",
    );
    check(
        "{}",
        "there is no key `text`; add it, remove the line, or name another key; those here are none",
    );
}

#[test]
fn a_null_text_is_named_by_row() {
    let read = read_columns(&[("text", vec![Some("a"), Some("b"), Some("c"), None])], |_| {});
    assert_eq!(
        read.unwrap_err(),
        "`DIR/a.parquet` row 4: column `text` is null; drop the row, or fill it with text"
    );
}

#[test]
fn files_without_documents_are_named() {
    for name in ["a.txt", "a.jsonl", "a.jsonl.gz", "a.parquet", "a.txt.zst"] {
        check_error(
            name,
            b"",
            &format!("`DIR/{name}`: the file is empty; remove it from the input or write it again"),
        );
    }
    let none = |name: &str| {
        format!(
            "`DIR/{name}`: the file holds no documents; remove it from the input or write it again"
        )
    };
    check_error("a.jsonl", b"\n \n", &none("a.jsonl"));
    check_error("a.txt.gz", &gzip(b""), &none("a.txt.gz"));
    check_error("a.txt", "\u{feff}".as_bytes(), &none("a.txt"));
    assert_eq!(read_columns(&[("text", vec![])], |_| {}).unwrap_err(), none("a.parquet"));
}

#[test]
fn streams_that_are_cut_off_are_named_by_row() {
    let lines: Vec<u8> = (0..2000)
        .flat_map(|i| format!("{{\"text\": \"{}\"}}\n", i * i % 977).into_bytes())
        .collect();
    for (name, packed) in [("a.jsonl.gz", gzip(&lines)), ("a.jsonl.zst", zstd(&lines))] {
        for n_bytes in [1, packed.len() / 2, packed.len() - 1] {
            let message = read_file(name, &packed[..n_bytes], |_| {}).unwrap_err();
            assert!(message.starts_with(&format!("`DIR/{name}` row ")), "{message}");
            assert!(message.contains("cannot be decompressed: "), "{message}");
            assert!(message.ends_with("cut off: fetch or compress it again"), "{message}");
        }
        let damaged = read_file(name, &flipped(&packed, 4 * packed.len()), |_| {});
        assert!(damaged.unwrap_err().starts_with(&format!("`DIR/{name}` row ")));
    }
}

/// Bytes that no writer wrote give an error or, where Parquet itself has no checksum, other text;
/// never a panic.
#[test]
fn damaged_parquet_does_not_get_past_the_reader() {
    let folder = folder();
    let path = folder.path().join("a.parquet");
    parquet(&path, &[("text", vec![Some("one"), Some("two"), Some("three")])], 2);
    let bytes = fs::read(&path).unwrap();
    let step = if std::env::var_os("RUN_SLOW").is_some() { 1 } else { 31 };
    for n_bytes in (0..bytes.len()).step_by(step) {
        let message = read_file("a.parquet", &bytes[..n_bytes], |_| {}).unwrap_err();
        assert!(message.starts_with("`DIR/a.parquet`"), "{message}");
    }
    for bit in (0..8 * bytes.len()).step_by(step) {
        if let Err(message) = read_file("a.parquet", &flipped(&bytes, bit), |_| {}) {
            assert!(message.starts_with("`DIR/a.parquet`"), "{message}");
        }
    }
}

#[test]
fn reading_ends_at_the_first_error() {
    let folder = folder();
    let path = folder.path().join("a.jsonl");
    fs::write(&path, "{\"text\": \"a\"}\n[]\n{\"text\": \"c\"}\n").unwrap();
    let mut documents = documents(&source(&path)).unwrap();
    assert_eq!(documents.next().unwrap().unwrap().text, "a");
    assert!(documents.next().unwrap().is_err());
    assert!(documents.next().is_none());
}

#[test]
fn the_embedded_books_are_four_and_one_is_for_validation() {
    let of = |split: &str| {
        let filter = BTreeMap::from([("split".to_owned(), split.to_owned())]);
        read(&TextSource { filter, ..TextSource::new(BOOKS) }).unwrap()
    };
    let rows: Vec<_> = of("train").iter().map(|(row, text)| (*row, text.len())).collect();
    assert_eq!(rows, [(1, 1_209_230), (2, 1_321_811), (3, 1_374_666)]);
    assert_eq!(of("validation")[0].1.len(), 1_041_311);
}
