//! Makes text that came from data or models harmless where people read it: HTML, SVG,
//! Markdown and terminals.

/// Replaces what changes a page or terminal without being seen: control characters (also the
/// escape that starts a terminal sequence), bidirectional controls, line separators and
/// characters that XML forbids become a visible `\u{…}`. Newlines and tabs stay.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        match c {
            '\n' | '\t' => out.push(c),
            _ if is_hidden(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

/// [`visible`] on one line: every run of white space becomes one space.
pub(crate) fn one_line(text: &str) -> String {
    let spaced: String =
        text.chars().map(|c| if matches!(c, '\n' | '\r' | '\t') { ' ' } else { c }).collect();
    visible(&spaced).split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Text for an element or a quoted attribute of HTML or SVG, line breaks kept.
pub(crate) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// [`html`] in which pairs of backticks mark code; without pairs, or around nothing, they are backticks.
pub(crate) fn html_with_code(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    let is_code = |place: usize| place % 2 == 1;
    let none = |(place, part): (usize, &&str)| is_code(place) && part.trim().is_empty();
    if parts.len().is_multiple_of(2) || parts.iter().enumerate().any(none) {
        return html(text);
    }
    let tagged = |(place, part): (usize, &&str)| match is_code(place) {
        false => html(part),
        true => format!("<code>{}</code>", html(part)),
    };
    parts.iter().enumerate().map(tagged).collect()
}

/// One line of Markdown (CommonMark with tables) that renders as exactly `text`.
pub(crate) fn markdown(text: &str) -> String {
    let line = one_line(text);
    let mut out = String::with_capacity(line.len() + 8);
    for (at, c) in line.char_indices() {
        let rest = &line[at..];
        let next = rest.chars().nth(1).unwrap_or(' ');
        let starts_block = match c {
            '-' | '+' | '=' | '#' => at == 0 && (next == ' ' || next == c),
            '.' | ')' => next == ' ' && line[..at].bytes().all(|before| before.is_ascii_digit()),
            _ => false,
        };
        let autolinks = rest.starts_with("://")
            || (c == '.' && line[..at].to_ascii_lowercase().ends_with("www"));
        let special =
            matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '$');
        if starts_block || autolinks || special {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A fenced Markdown block whose fence is longer than any run of backticks in `text`.
pub(crate) fn markdown_fence(text: &str, language: &str) -> String {
    let text = visible(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end_matches('\n'))
}

/// Lines of `text` with at most `width` characters, broken between words where possible.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in one_line(text).split(' ') {
        let mut rest: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + rest.len() > width {
            lines.push(String::new());
            used = 0;
        }
        while !rest.is_empty() {
            let gap = usize::from(used > 0);
            let part: String = rest.drain(..rest.len().min(width - used - gap)).collect();
            used += gap + part.chars().count();
            if let Some(line) = lines.last_mut() {
                line.push_str(&" "[..gap]);
                line.push_str(&part);
            }
            if !rest.is_empty() {
                lines.push(String::new());
                used = 0;
            }
        }
    }
    lines
}

fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{fdd0}'..='\u{fdef}' | '\u{e0000}'..='\u{e0fff}')
        || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests;
