//! What the report says in words.

use std::collections::BTreeMap;

use forerun_runs::report::Block;
use forerun_runs::stats::{self, Interval};
use forerun_scaling::mixture::Weighing;

use super::findings::{Findings, Found, HeldOut};
use crate::config::{self, Experiment};
use crate::multilingual::MixtureConfig;
use crate::multilingual::fit::CAPPED;
use crate::multilingual::place::Stage;
use crate::multilingual::predictions::Predictor;
use crate::multilingual::verdicts::{COMPARED, LEVEL, RELATIVE, TRANSFERRED, UNIFORM};
use crate::plan::{counted, quantity};
use crate::report_parts::{self, Mean, list, more_seeds, try_next};

/// The unit of a claim's effect.
pub(super) fn unit(claim: &config::Claim) -> &'static str {
    match claim.a.series.as_str() {
        RELATIVE => "of the own share's effect",
        _ => "",
    }
}

/// `400 k`.
pub(super) fn tokens(tokens: u64) -> String {
    quantity(tokens as f64).trim_end().to_owned()
}

pub(super) fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Design => "small models that laws are fitted to",
        Stage::Check => "small models that no law has seen",
        Stage::Own => "design of the larger size",
        Stage::Transfer => "larger models on the compared mixtures",
    }
}

/// What mixtures are judged by.
pub(super) fn objective(body: &MixtureConfig) -> &'static str {
    match body.mixing.weighing {
        Weighing::Normalised => {
            "the weighted mean of held-out losses per character, each relative to what the family would reach alone"
        }
        Weighing::Sum => "the weighted mean of held-out losses per character",
    }
}

pub(super) fn summary(findings: &Findings<'_>) -> String {
    let body = findings.body;
    let n_small = findings.of(Stage::Design).count() as u64;
    let what = format!(
        "{} were trained on mixtures of {}, their laws fitted, and the best mixture carried to models of {} \
         non-embedding parameters.",
        counted(n_small, "small model"),
        list(&body.labels()),
        quantity(findings.size(&body.transfer.arm, body.transfer.tokens).0).trim_end()
    );
    match (&findings.small, findings.regret()) {
        (Some(found), Some(regret)) => format!(
            "{what} Small models find {} best; at the larger size that is {:.2} % {} the best other mixture.",
            in_words(findings, found),
            regret.value.abs(),
            if regret.value > 0.0 { "worse than" } else { "better than" }
        ),
        _ => what,
    }
}

/// `Chinese 38, Tibetan 62`: parts of a whole, per cent, largest first.
pub(super) fn parts(parts: &BTreeMap<String, u64>) -> String {
    let total = parts.values().sum::<u64>().max(1) as f64;
    let mut parts: Vec<(&String, u64)> = parts.iter().map(|(name, &n)| (name, n)).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.1));
    let part = |(name, n): &(&String, u64)| format!("{name} {:.0}", 100.0 * *n as f64 / total);
    parts.iter().map(part).collect::<Vec<String>>().join(", ")
}

/// `17 % Romance, 21 % Slavic and 62 % Indic`.
fn in_words(findings: &Findings<'_>, found: &Found) -> String {
    let labels = findings.body.labels();
    let parts: Vec<String> = labels
        .iter()
        .zip(&found.shares)
        .map(|(label, share)| format!("{:.0} % {label}", 100.0 * share))
        .collect();
    list(&parts)
}

pub(super) fn what_was_seen(findings: &Findings<'_>) -> Vec<String> {
    let mut seen = Vec::new();
    match &findings.small {
        Some(found) => seen.push(format!(
            "The laws of {} put the best mixture at {}.",
            counted(found.n_models, "small model"),
            in_words(findings, found)
        )),
        None => seen.push("No laws could be fitted to the small models.".to_owned()),
    }
    if let Some(found) = &findings.own {
        seen.push(format!(
            "A design at the larger size itself puts it at {}.",
            in_words(findings, found)
        ));
    }
    seen.extend(errors_in_words(findings));
    seen.extend(independence_in_words(findings));
    seen.extend(transfer_in_words(findings));
    seen
}

fn errors_in_words(findings: &Findings<'_>) -> Option<String> {
    let sets = findings.held_out();
    let of = |set: &HeldOut<'_>| -> Option<String> {
        let error = |by| findings.predictions.mean_error(by, set.models.iter().copied());
        let (law, nearest) = (error(Predictor::Law), error(Predictor::NearestMixture));
        law.is_finite()
            .then(|| format!("{}: {law:.2} % (nearest mixture {nearest:.2} %)", set.label))
    };
    let told: Vec<String> = sets.iter().filter_map(of).collect();
    (!told.is_empty()).then(|| {
        format!(
            "Mean size of the laws' errors on models that they have not seen, beside a law without shares that is \
             corrected by the nearest mixture of the design: {}.",
            told.join("; ")
        )
    })
}

fn independence_in_words(findings: &Findings<'_>) -> Option<String> {
    let companions = findings.companions.as_ref()?;
    let strongest = companions.strongest(None)?;
    let labels = findings.body.labels();
    let Interval { low, high } = companions.interval(strongest);
    let mut text = format!(
        "The companion that does most is {} for {}: {:+.2} [{low:+.2}, {high:+.2}] of what the family's own share does.",
        labels[strongest.companion], labels[strongest.family], strongest.effect
    );
    let Some(test) = findings.test("levels") else { return Some(text) };
    let found: Vec<&str> = labels
        .iter()
        .zip(&test.p_holm)
        .filter(|(_, p)| **p < LEVEL)
        .map(|(label, _)| *label)
        .collect();
    let explained = |r2: &[f64]| 100.0 * stats::mean(r2);
    if explained(&test.r2_all).is_finite() {
        text.push_str(&format!(
            " The own share explains {:.1} % of the differences between mixtures, all shares {:.1} %; F-tests at equal own \
             share find companions for {}.",
            explained(&test.r2_own),
            explained(&test.r2_all),
            if found.is_empty() { "no family".to_owned() } else { list(&found) }
        ));
    }
    Some(text)
}

fn transfer_in_words(findings: &Findings<'_>) -> Option<String> {
    let (winner, _) = findings.winner()?;
    let others: Vec<String> = COMPARED
        .iter()
        .filter(|(name, _)| *name != TRANSFERRED)
        .map(|(name, label)| (findings.above_transferred(name), label))
        .filter(|(above, _)| above.value.is_finite())
        .map(|(above, label)| format!("{label} {}", per_cent(above)))
        .collect();
    let seen = format!("At the larger size the lowest mean is that of the {winner} mixture.");
    if others.is_empty() {
        return Some(seen); // The small models found no mixture to compare with.
    }
    Some(format!(
        "{seen} Above the small models' optimum lie: {}. Against the best other mixture, chosen for each seed by the other \
         seeds, its regret is {}; that of the uniform mixture {}.",
        list(&others),
        per_cent(findings.regret_of(TRANSFERRED)),
        per_cent(findings.regret_of(UNIFORM))
    ))
}

fn per_cent(mean: Mean) -> String {
    match mean.interval {
        Some(Interval { low, high }) => format!("{:+.2} % [{low:+.2}, {high:+.2}]", mean.value),
        None => format!("{:+.2} %", mean.value),
    }
}

pub(super) fn sizes(findings: &Findings<'_>) -> String {
    let body = findings.body;
    let n = findings.size(&body.transfer.arm, body.transfer.tokens).0;
    format!(
        "carried to models of {} non-embedding parameters and {} tokens at most",
        quantity(n).trim_end(),
        tokens(body.transfer.tokens)
    )
}

pub(super) fn one_domain() -> &'static str {
    "shares of tokens of this vocabulary, for this text"
}

pub(super) fn regret_in_words(findings: &Findings<'_>) -> Option<String> {
    let regret = findings.regret()?;
    Some(format!(
        "regret of the whole mixture at the larger size, against the best other: {}",
        per_cent(regret)
    ))
}

pub(super) fn cap_in_words(findings: &Findings<'_>, family: usize) -> Option<String> {
    let label = &findings.body.families[family].name;
    let names = |warning: &&String| {
        let (names, text) = warning.split_once(": ").unwrap_or_default();
        text.starts_with(CAPPED) && names.split(", ").any(|name| name == label)
    };
    let capped = findings.small.as_ref()?.warnings.iter().find(names)?;
    Some(capped.clone())
}

pub(super) fn about_effects() -> &'static str {
    "The paper's first hypothesis is measured, not assumed. Every share of a family comes beside different shares of every \
     other. An effect is the gain from a companion's share, taken evenly from the other companions, as a part of the gain \
     from the family's own share at the uniform mixture: at 0.2, five points of that companion are worth one point of the \
     family's own text; below 0 they cost as much."
}

pub(super) fn about_tests() -> &'static str {
    "F-tests say whether companions do anything at all, which enough models will always find. Models of one stack have \
     size, horizon, first weights and order of data in common, so that each stack has a level of its own. “At levels” \
     gives every own share an effect of its own: what the others then explain is theirs. “The straight line” assumes that \
     ln L falls in proportion to ln p; what is not straight is noise to it, or is laid to the others."
}

pub(super) fn about_the_paper() -> &'static str {
    "The paper's column is second-hand: its table of fits is not known. Gammas are inferred from the uniform mixture's \
     normalised losses at 1.2B as a review of the first version quotes them, with the order of families assumed; the best \
     shares follow from them in closed form; the gain is 5.895 against 5.912 at 85M. Its models have 85M to 1.2B \
     parameters and its text is CommonCrawl. Whether its losses are per token or per character is not stated where we \
     could read it; here they are per character, which changes no gamma, as one vocabulary serves all mixtures."
}

pub(super) fn caveats(findings: &Findings<'_>) -> Vec<String> {
    let experiment = &findings.outcome.experiment;
    let body = findings.body;
    let mut caveats = report_parts::caveats(experiment);
    if experiment.data.embedded.is_some() {
        caveats.push(
            "The text is software help in every language, much of it translations of the same pages: families do not \
             differ in domain, but what they share is more than languages of the open web do."
                .to_owned(),
        );
        caveats.push(
            "Families are what the text has of them, see the table of families: most of Sino-Tibetan is Dzongkha, which has \
             nothing on paper in common with Chinese, the paper's only language of it; most of Indic is GNOME \
             documentation, where the others are nearly all LibreOffice help."
                .to_owned(),
        );
    }
    let most = (0..body.families.len())
        .map(|family| (findings.most_epochs(family), &body.families[family].label))
        .filter(|found| found.0.is_finite())
        .max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((epochs, label)) = most {
        caveats.push(format!(
            "{label} is scarcest: its text is read up to {epochs:.1} times in a training ({} are allowed), and a law of \
             its share is then one of repetition too.",
            body.mixing.max_epochs
        ));
    }
    caveats.push(
        "One learning rate for each size, the same for every mixture and horizon; none was tuned."
            .to_owned(),
    );
    caveats.push(format!(
        "All losses are on the same {} tokens of held-out text of each family: intervals are over trainings, not over \
         texts.",
        tokens(body.mixing.held_out_tokens)
    ));
    caveats.push(
        "Every seed is held against the same laws: intervals of their errors are over trainings, and say nothing of what \
         other designs would have made of the laws."
            .to_owned(),
    );
    caveats.push(
        "UniMax is not among the mixtures: where no text is read too often it is the uniform one."
            .to_owned(),
    );
    for (found, whose) in
        [(&findings.small, "the small models"), (&findings.own, "the larger size")]
    {
        let warnings = found.iter().flat_map(|found| &found.warnings);
        caveats.extend(warnings.map(|warning| format!("The fits to {whose} say: {warning}.")));
    }
    let gap = findings.above_transferred(UNIFORM);
    if gap.interval.is_some_and(|interval| interval.contains(0.0)) {
        caveats.push(
            "These seeds do not tell the small models' optimum from the uniform mixture."
                .to_owned(),
        );
    }
    caveats
}

pub(super) fn next_steps(experiment: &Experiment) -> Vec<Block> {
    let steps = [
        (
            "More seeds, for narrower intervals (laws stay as they are, and finished trainings are reused)",
            more_seeds(experiment),
        ),
        (
            "By the sum of losses (the laws' models are reused, the larger ones trained again)",
            "--set mixing.weighing=sum".to_owned(),
        ),
        ("If one family counts twice (likewise)", "--set families.indic.weight=2.0".to_owned()),
        (
            "On your own texts: Parquet or JSONL with a column `family` that has the configuration's names",
            "--data my.parquet".to_owned(),
        ),
    ];
    steps.map(|(label, options)| try_next(experiment, label, &options)).into()
}
