use super::*;
use crate::testing::folder;

/// A folder with these files, and the names that `patterns` give.
fn check(patterns: &[&str], expected: &[&str]) {
    let folder = folder();
    fs::create_dir_all(folder.path().join("sub")).unwrap();
    for file in ["b.txt", "a.txt", "c.jsonl", "sub/d.txt", "sub/e[1].txt", "f.bin"] {
        fs::write(folder.path().join(file), file).unwrap();
    }
    let root = folder.path().to_str().unwrap();
    let paths = patterns.iter().map(|pattern| format!("{root}/{pattern}")).collect();
    let files = TextSource { paths, ..TextSource::default() }.files().map_err(|e| e.to_string());
    let names = files.map(|files| {
        let relative = |file: &PathBuf| file.strip_prefix(root).unwrap().display().to_string();
        files.iter().map(relative).collect::<Vec<_>>().join(" ")
    });
    let names = names.unwrap_or_else(|message| message.replace(root, "ROOT"));
    assert_eq!(names, expected.join(" "));
}

#[test]
fn files_come_in_the_order_of_patterns_and_names_and_once() {
    check(&["*.txt"], &["a.txt", "b.txt"]);
    check(&["**/*.txt"], &["a.txt", "b.txt", "sub/d.txt", "sub/e[1].txt"]);
    check(&["c.jsonl", "*.txt"], &["c.jsonl", "a.txt", "b.txt"]);
    check(&["b.txt", "*.txt", "sub/../a.txt"], &["b.txt", "a.txt"]);
}

#[test]
fn a_file_whose_name_looks_like_a_pattern_is_a_file() {
    check(&["sub/e[1].txt"], &["sub/e[1].txt"]);
}

#[test]
fn what_names_no_text_is_refused() {
    check(
        &["*.csv"],
        &[
            "`ROOT/*.csv`: no file matches the pattern; check the pattern and the folder it starts from",
        ],
    );
    check(
        &["sub"],
        &["`ROOT/sub`: is a folder; name the files in it, such as `ROOT/sub/*.parquet`"],
    );
    check(&["x.txt"], &["cannot open `ROOT/x.txt`: No such file or directory (os error 2)"]);
    check(
        &["f.bin"],
        &[
            "`ROOT/f.bin`: the name does not say what the file holds; rename it to end in .parquet, .jsonl or .txt, the last two with .gz or .zst where they are compressed",
        ],
    );
    let none = TextSource::default().files().unwrap_err();
    assert_eq!(none.to_string(), "``: no input is named; name a file or a pattern");
}

#[test]
fn a_pattern_that_is_none_is_refused() {
    let message = TextSource::new("a**b.txt").files().unwrap_err().to_string();
    let expected = "`a**b.txt`: is no pattern: Pattern syntax error near position 0: recursive \
                    wildcards must form a single path component; see the rules of the `glob` crate, \
                    or name the files one by one";
    assert_eq!(message, expected);
}

#[test]
fn the_hash_follows_content_and_choice_but_not_place() {
    let folder = folder();
    let at = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        TextSource::new(path.to_str().unwrap())
    };
    let source = at("a.jsonl", "x");
    let hash = source.hash().unwrap();
    assert_eq!(at("b.jsonl", "x").hash().unwrap(), hash);
    assert_ne!(at("b.txt", "x").hash().unwrap(), hash);
    assert_ne!(at("b.jsonl", "y").hash().unwrap(), hash);
    assert_ne!(TextSource { column: Some("a".to_owned()), ..source.clone() }.hash().unwrap(), hash);
    let filter = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    assert_ne!(TextSource { filter, ..source }.hash().unwrap(), hash);
}

#[test]
fn a_source_reads_from_a_config() {
    let json = r#"{"paths": ["a.parquet"], "filter": {"split": "train"}}"#;
    let source: TextSource = serde_json::from_str(json).unwrap();
    assert_eq!(source.filter["split"], "train");
    serde_json::from_str::<TextSource>(r#"{"paths": [], "colunm": "a"}"#).unwrap_err();
}
