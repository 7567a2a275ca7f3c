//! Blocks as HTML.

use super::claim::{percent, rule_in_words, symbol};
use super::{Block, Claim, Command, KeyNumber, KeyValues, Sample};
use crate::number::{shortest, typographic};
use crate::plot::{Figure, Forest, Size, draw_forest};
use crate::recommendation::Recommendation;
use crate::text::{self, one_line};
use crate::verdict::{Direction, Effect, Rule, Verdict};

/// One block; headings are the page's.
pub(super) fn block(block: &Block) -> String {
    match block {
        Block::Heading(_) => String::new(),
        Block::Paragraph(content) => element("p", "", content),
        Block::List(items) => {
            let items: String = items.iter().map(|item| element("li", "", item)).collect();
            format!("<ul>\n{items}</ul>\n")
        }
        Block::KeyNumbers(numbers) => key_numbers(numbers),
        Block::Verdicts(claims) => claims.iter().map(claim).collect(),
        Block::Recommendations(list) => list.iter().map(recommendation).collect(),
        Block::Table(table) => table.to_html(),
        Block::Figure(content) => figure(content),
        Block::Sample(content) => sample(content),
        Block::Note(content) => aside("note", "Note", content),
        Block::Caveat(content) => aside("caveat", "Caveat", content),
        Block::Command(content) => command(content),
        Block::KeyValues(content) => key_values(content),
    }
}

fn element(tag: &str, class: &str, content: &str) -> String {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    format!("<{tag}{class}>{}</{tag}>\n", text::html_with_code(content))
}

fn aside(class: &str, label: &str, content: &str) -> String {
    let content = text::html_with_code(content);
    format!("<aside class=\"{class}\"><p><strong>{label}.</strong> {content}</p></aside>\n")
}

fn key_numbers(numbers: &[KeyNumber]) -> String {
    let mut out = String::from("<dl class=\"numbers\">\n");
    for KeyNumber { value, unit, label } in numbers {
        let value = text::html(&typographic(&one_line(value)));
        let unit = match unit.is_empty() {
            true => String::new(),
            false => format!(" <small>{}</small>", text::html(unit)),
        };
        out.push_str(&format!("<div><dt>{}</dt><dd>{value}{unit}</dd></div>\n", text::html(label)));
    }
    out + "</dl>\n"
}

fn claim(claim: &Claim) -> String {
    let verdict = claim.judgement.verdict;
    let class = match verdict {
        Verdict::Reproduced => "reproduced",
        Verdict::NotReproduced => "not-reproduced",
        Verdict::Inconclusive => "inconclusive",
    };
    let mut out = format!(
        "<article class=\"claim {class}\">\n<p class=\"badge\"><span aria-hidden=\"true\">{}</span> {verdict}</p>\n",
        symbol(verdict)
    );
    out.push_str(&element("h3", "", &claim.text));
    out.push_str(&forest(claim));
    let effect = typographic(&claim.effect_in_words());
    let (basis, n) = claim.basis();
    out.push_str("<dl>\n");
    let pairs = [
        ("Effect", text::html(&effect)),
        (if basis == "seeds" { "Seeds" } else { "From" }, text::html(&n)),
        ("Rule", text::html(&typographic(&rule_in_words(&claim.rule)))),
        ("Reason", text::html_with_code(&typographic(&claim.judgement.reason))),
    ];
    for (name, value) in pairs {
        out.push_str(&format!("<div><dt>{name}</dt><dd>{value}</dd></div>\n"));
    }
    out + "</dl>\n</article>\n"
}

fn forest(claim: &Claim) -> String {
    let Some(effect) = claim.judgement.effect.filter(|effect| effect.is_finite()) else {
        return String::new();
    };
    let (neutral, claimed) = claimed(&claim.rule);
    let interval = claim.judgement.interval.map(|interval| (interval.low, interval.high));
    let forest = Forest { effect, interval, neutral, claimed };
    draw_forest(&forest, &format!("Effect {}", claim.effect_in_words()))
}

/// No effect, and where the claim puts the effect.
fn claimed(rule: &Rule) -> (f64, (f64, f64)) {
    let neutral = match rule.effect {
        Effect::Difference => 0.0,
        Effect::Ratio => 1.0,
    };
    let (up, down) = (neutral + rule.margin, neutral - rule.margin);
    match rule.direction {
        Direction::Higher => (neutral, (up, f64::INFINITY)),
        Direction::Lower => (neutral, (f64::NEG_INFINITY, down)),
        Direction::Same => (neutral, (down, up)),
    }
}

fn recommendation(recommendation: &Recommendation) -> String {
    let Recommendation { setting, unit, basis, caveats, .. } = recommendation;
    let unit =
        unit.as_deref().map_or(String::new(), |u| format!(" <small>{}</small>", text::html(u)));
    let value = text::html(&typographic(&super::value_text(&recommendation.value)));
    let interval = recommendation.interval.map_or(String::new(), |interval| {
        let (low, high) = (shortest(interval.low), shortest(interval.high));
        let words = format!("[{low}, {high}] at {}", percent(interval.confidence));
        format!("<p class=\"interval\">{}</p>\n", text::html(&typographic(&words)))
    });
    let mut out = format!(
        "<article class=\"recommendation\">\n<p class=\"badge\">recommended</p>\n\
         <p class=\"setting\"><code>{}</code> <strong>{value}{unit}</strong></p>\n{interval}",
        text::html(&one_line(setting)),
    );
    out.push_str(&element("p", "", basis));
    if !caveats.is_empty() {
        let items: String = caveats.iter().map(|caveat| element("li", "", caveat)).collect();
        out.push_str(&format!("<ul class=\"caveats\">\n{items}</ul>\n"));
    }
    out + "</article>\n"
}

fn figure(figure: &Figure) -> String {
    let caption = match figure.caption.is_empty() {
        true => String::new(),
        false => format!(" <span>{}</span>", text::html_with_code(&figure.caption)),
    };
    format!(
        "<figure>\n<figcaption><strong>{}</strong>{caption}</figcaption>\n{}{}\
         <details><summary>Numbers of this figure</summary>\n{}</details>\n</figure>\n",
        text::html(&figure.title),
        figure.to_fragment(Size::Wide),
        figure.to_fragment(Size::Narrow),
        figure.to_table().to_html(),
    )
}

fn sample(sample: &Sample) -> String {
    let mut out = String::from("<figure class=\"sample\">\n");
    if !sample.title.is_empty() {
        out.push_str(&element("figcaption", "", &sample.title));
    }
    out.push_str("<blockquote dir=\"auto\">");
    if !sample.prompt.is_empty() {
        out.push_str(&format!("<b>{}</b>", text::html(&sample.prompt)));
    }
    out + &text::html(&sample.text) + "</blockquote>\n</figure>\n"
}

fn command(command: &Command) -> String {
    let lines: Vec<String> = command.lines.iter().map(|line| text::html(line)).collect();
    let label = if command.label.is_empty() {
        String::new()
    } else {
        element("p", "label", &command.label)
    };
    format!(
        "<div class=\"command\">\n{label}<pre tabindex=\"0\"><code>{}</code></pre>\n</div>\n",
        lines.join("\n")
    )
}

fn key_values(content: &KeyValues) -> String {
    let caption = if content.caption.is_empty() { "names and values" } else { &content.caption };
    let mut out = format!(
        "<div class=\"table-box\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">\n<table class=\"pairs\">\n",
        text::html(&one_line(caption))
    );
    if !content.caption.is_empty() {
        out.push_str(&element("caption", "", &content.caption));
    }
    out.push_str("<tbody>\n");
    for (name, value) in &content.pairs {
        let (name, value) = (text::html(name), text::html(value));
        out.push_str(&format!("<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>\n"));
    }
    out + "</tbody>\n</table>\n</div>\n"
}
