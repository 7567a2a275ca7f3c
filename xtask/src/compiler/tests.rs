use super::*;

#[test]
fn this_machines_compiler_is_accepted() {
    check().unwrap();
}
