//! Claims with their verdicts in words.

use crate::number::{shortest, significant, with_range};
use crate::text;
use crate::verdict::{Direction, Diverged, Effect, Judgement, Replicate, Rule, Verdict};

/// A claim, the rule that was written before the run, and what came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The claim as a sentence.
    pub text: String,
    /// Unit of the metric; empty for none.
    pub unit: String,
    /// The rule.
    pub rule: Rule,
    /// What came out.
    pub judgement: Judgement,
}

impl Claim {
    /// The verdict and what it rests on, in lines of at most `width` characters.
    pub fn to_terminal(&self, width: usize) -> String {
        let verdict = self.judgement.verdict;
        let head = format!("{} {verdict}: {}", symbol(verdict), self.text);
        let (basis, n) = self.basis();
        let parts = [
            ("effect", self.effect_in_words()),
            (basis, n),
            ("rule", rule_in_words(&self.rule)),
            ("reason", self.judgement.reason.clone()),
        ];
        let mut out = text::wrap(&head, width.saturating_sub(2)).join("\n  ") + "\n";
        for (name, content) in parts {
            let lines = text::wrap(&content, width.saturating_sub(10));
            out.push_str(&format!("  {name:<8}{}\n", lines.join("\n          ")));
        }
        out
    }

    /// What the verdict rests on: `seeds`, `5`, or `from`, `16 pieces of text`.
    pub(super) fn basis(&self) -> (&'static str, String) {
        let (replicate, n_seeds) = (&self.rule.replicate, self.judgement.n_seeds);
        match replicate.is_seed() {
            true => ("seeds", n_seeds.to_string()),
            false => ("from", replicate.counted(n_seeds)),
        }
    }

    /// The effect with its interval and unit: `-0.312 [-0.351, -0.274] nats at 95 %`.
    pub(super) fn effect_in_words(&self) -> String {
        let unit = match (self.rule.effect, self.unit.is_empty()) {
            (Effect::Ratio, _) => " times".to_owned(),
            (_, true) => String::new(),
            (_, false) => format!(" {}", text::one_line(&self.unit)),
        };
        match (self.judgement.effect, self.judgement.interval) {
            (None, _) => "not known".to_owned(),
            (Some(effect), None) => format!("{}{unit}, no interval", significant(effect, 3)),
            (Some(effect), Some(interval)) => {
                let range = with_range(effect, interval.low, interval.high);
                format!("{range}{unit} at {}", percent(self.rule.confidence))
            }
        }
    }
}

/// Sign of a verdict, so that it does not hang on colour.
pub(super) fn symbol(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Reproduced => "✓",
        Verdict::NotReproduced => "✗",
        Verdict::Inconclusive => "?",
    }
}

/// A rule as a sentence that somebody who does not know the config understands.
pub fn rule_in_words(rule: &Rule) -> String {
    let Rule { metric, arm, baseline, .. } = rule;
    let Replicate { one, many } = &rule.replicate;
    let against = match rule.effect {
        Effect::Difference => "minus",
        Effect::Ratio => "divided by",
    };
    let mut words = format!("{metric} of {arm} {against} that of {baseline} lies {}", border(rule));
    words.push_str(&format!(
        ", with the whole {} interval over at least {} {}{many}",
        percent(rule.confidence),
        rule.min_seeds,
        if rule.paired { "paired " } else { "" },
    ));
    match rule.diverged {
        Diverged::Inconclusive => {}
        Diverged::Drop => words.push_str(&format!("; {many} that diverged are left out")),
        Diverged::Value(value) => {
            words.push_str(&format!("; a {one} that diverged counts as {}", shortest(value)));
        }
    }
    words
}

/// Where the effect has to lie.
fn border(rule: &Rule) -> String {
    let neutral = match rule.effect {
        Effect::Difference => 0.0,
        Effect::Ratio => 1.0,
    };
    let (up, down) = match rule.effect {
        Effect::Difference => (rule.margin, -rule.margin),
        Effect::Ratio => (1.0 + rule.margin, 1.0 - rule.margin),
    };
    let number = |value: f64| shortest((value * 1e9).round() / 1e9);
    match rule.direction {
        Direction::Higher => format!("above {}", number(up)),
        Direction::Lower => format!("below {}", number(down)),
        Direction::Same => {
            format!("between {} and {} (around {})", number(down), number(up), number(neutral))
        }
    }
}

/// A share as a percentage: `95 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", shortest((share * 1e6).round() / 1e4))
}
