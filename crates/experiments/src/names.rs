//! Names that people give: to arms, families, checks.

use anyhow::{Result, ensure};

/// Refuses a name that cannot stand in the name of a file or a series, and one that is given twice. Errors call one of the
/// named `one`, several `several`: `an arm`, `arms`.
pub(crate) fn check_names<'a>(
    one: &str,
    several: &str,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<()> {
    let mut known: Vec<&String> = Vec::new();
    for name in names {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        ensure!(
            plain && !name.is_empty(),
            "{one}'s name is made of letters, digits, - and _, got `{name}`"
        );
        ensure!(!known.contains(&name), "two {several} are called `{name}`");
        known.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], refused: Option<&str>) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let found = check_names("an arm", "arms", &names).err().map(|error| error.to_string());
        assert_eq!(found.as_deref(), refused, "{names:?}");
    }

    #[test]
    fn names_are_plain_and_given_once() {
        check(&["w32", "pre-ln", "a_b"], None);
        let plain = "an arm's name is made of letters, digits, - and _, got";
        check(&["a", ""], Some(&format!("{plain} ``")));
        check(&["../b"], Some(&format!("{plain} `../b`")));
        check(&["é"], Some(&format!("{plain} `é`")));
        check(&["a", "b", "a"], Some("two arms are called `a`"));
    }
}
