//! Words with placeholders: `{lr}` stands for a value, `{{` and `}}` for a brace.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// A piece of a template.
enum Piece {
    Text(String),
    Placeholder(String),
}

/// The template with every placeholder replaced by its value.
///
/// # Errors
/// Names a placeholder without a value, and the template if its braces are not in pairs.
pub(crate) fn fill(template: &str, values: &BTreeMap<String, String>) -> Result<String> {
    let mut text = String::new();
    for piece in pieces(template)? {
        match piece {
            Piece::Text(piece) => text.push_str(&piece),
            Piece::Placeholder(name) => {
                let value = values.get(&name).with_context(|| {
                    let names: Vec<String> =
                        values.keys().map(|name| format!("{{{name}}}")).collect();
                    format!("`{template}`: there is no {{{name}}}; there are: {}", names.join(", "))
                })?;
                text.push_str(value);
            }
        }
    }
    Ok(text)
}

/// The names of the placeholders of a template.
///
/// # Errors
/// As [`fill`] for braces.
pub(crate) fn placeholders(template: &str) -> Result<Vec<String>> {
    let name = |piece| match piece {
        Piece::Text(_) => None,
        Piece::Placeholder(name) => Some(name),
    };
    Ok(pieces(template)?.into_iter().filter_map(name).collect())
}

fn pieces(template: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(place) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(place);
        pieces.push(Piece::Text(before.to_owned()));
        rest = if let Some(after) = from.strip_prefix("{{") {
            pieces.push(Piece::Text("{".to_owned()));
            after
        } else if let Some(after) = from.strip_prefix("}}") {
            pieces.push(Piece::Text("}".to_owned()));
            after
        } else {
            let name = from.strip_prefix('{').and_then(|from| from.split_once('}'));
            let Some((name, after)) = name.filter(|(name, _)| is_name(name)) else {
                bail!(
                    "`{template}`: a placeholder is a name in braces; write {{{{ or }}}} for a brace"
                );
            };
            pieces.push(Piece::Placeholder(name.to_owned()));
            after
        };
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
