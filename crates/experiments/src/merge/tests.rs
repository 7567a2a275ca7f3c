use super::*;

fn table(text: &str) -> Table {
    text.parse().unwrap()
}

#[track_caller]
fn check(base: &str, assignment: &str, expected: &str) {
    let mut base = table(base);
    set(&mut base, assignment).unwrap();
    assert_eq!(base, table(expected));
}

#[test]
fn tables_merge_and_values_are_replaced() {
    let mut base = table("a = 1\n[t]\nx = 1\ny = 2");
    merge(&mut base, &table("a = 2\n[t]\ny = 3\nz = 4"));
    assert_eq!(base, table("a = 2\n[t]\nx = 1\ny = 3\nz = 4"));
}

#[test]
fn another_kind_replaces_a_table_whole() {
    let mut base = table("positions = { kind = 'xpos', scale_base = 64 }");
    merge(&mut base, &table("positions = { kind = 'rope', base = 1e4 }"));
    assert_eq!(base, table("positions = { kind = 'rope', base = 1e4 }"));
}

#[test]
fn another_variant_replaces_a_table_whole() {
    let mut base = table("schedule = { cosine = { final_fraction = 0.1 } }");
    merge(&mut base, &table("schedule = { linear = { final_fraction = 0.0 } }"));
    assert_eq!(base, table("schedule = { linear = { final_fraction = 0.0 } }"));
}

#[test]
fn a_table_upon_a_list_goes_to_the_items_it_names() {
    let mut base = table("[[arms]]\nname = 'a'\nx = 1\n[[arms]]\nname = 'b'\nx = 1");
    merge(&mut base, &table("[arms.b]\nx = 2"));
    assert_eq!(base, table("[[arms]]\nname = 'a'\nx = 1\n[[arms]]\nname = 'b'\nx = 2"));
}

#[test]
fn set_reads_numbers_strings_lists_and_arms() {
    check("[t]\nlr = 1e-3", "t.lr=3e-4", "[t]\nlr = 3e-4");
    check("", "a.b=[1, 2]", "[a]\nb = [1, 2]");
    check("p = 'f32'", "p=bf16", "p = 'bf16'");
    check("[[arms]]\nname = 'rope'", "arms.rope.lr=2", "[[arms]]\nname = 'rope'\nlr = 2");
}

#[test]
fn a_malformed_assignment_says_what_is_wrong() {
    let message = |assignment| {
        format!("{:#}", set(&mut table("a = 1\n[[arms]]\nname = 'x'"), assignment).unwrap_err())
    };
    assert!(message("lr").contains("wants KEY=VALUE"));
    assert_eq!(message("a.b=1"), "--set a.b=1: `a` is a value, not a table");
    assert_eq!(
        message("arms.y.lr=1"),
        "--set arms.y.lr=1: `arms` is a list; name one of its items and a field of it"
    );
    assert_eq!(message("a..b=1"), "--set: `a..b` has an empty key");
}
