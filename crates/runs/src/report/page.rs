//! The HTML page around the blocks: head, list of contents, sections.

use super::html::block;
use super::{Block, Report};
use crate::plot::style_sheet;
use crate::text::{self, one_line};

/// Nothing may be loaded or run, whatever text slips through; the icon is empty so that the
/// browser does not look for one.
const HEAD: &str = concat!(
    "<meta charset=\"utf-8\">\n",
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; ",
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">\n",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
    "<meta name=\"referrer\" content=\"no-referrer\">\n",
    "<link rel=\"icon\" href=\"data:,\">\n",
);

pub(super) fn render(report: &Report) -> String {
    let title = text::html(&one_line(&report.title));
    let mut body = String::new();
    let mut n_sections = 0;
    for part in &report.blocks {
        if let Block::Heading(heading) = part {
            body.push_str(if n_sections > 0 { "</section>\n" } else { "" });
            n_sections += 1;
            body.push_str(&format!("<section id=\"section-{n_sections}\">\n"));
            body.push_str(&format!("<h2>{}</h2>\n", text::html(&one_line(heading))));
        } else {
            body.push_str(&block(part));
        }
    }
    body.push_str(if n_sections > 0 { "</section>\n" } else { "" });
    let summary = match report.summary.is_empty() {
        true => String::new(),
        false => format!("<p class=\"summary\">{}</p>\n", text::html_with_code(&report.summary)),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n{HEAD}<title>{title}</title>\n<style>\n{}{STYLE}</style>\n\
         </head>\n<body>\n<div class=\"page\">\n{}<main>\n<header>\n<p class=\"kicker\">Forerun report</p>\n\
         <h1>{title}</h1>\n{summary}</header>\n{body}</main>\n</div>\n</body>\n</html>\n",
        style_sheet(),
        contents(report),
    )
}

/// Links to the sections, for two of them or more.
fn contents(report: &Report) -> String {
    let headings = report.blocks.iter().filter_map(|block| match block {
        Block::Heading(heading) => Some(text::html(&one_line(heading))),
        _ => None,
    });
    let links: Vec<String> = headings
        .enumerate()
        .map(|(i, heading)| format!("<li><a href=\"#section-{}\">{heading}</a></li>\n", i + 1))
        .collect();
    if links.len() < 2 {
        return String::new();
    }
    format!("<nav aria-label=\"Contents\">\n<ol>\n{}</ol>\n</nav>\n", links.concat())
}

const STYLE: &str = include_str!("report.css");
