mod synthetic;

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::laws::FittedScale;
use super::place::{Place, Stage};
use super::*;
use crate::catalog;
use crate::cell::Task;
use crate::config::{Body, Overrides, Scale};
use crate::data::{Group, Input, Part, Prepared};

fn experiment(scale: Scale, changes: &[&str]) -> Result<(Experiment, MixtureConfig)> {
    let set = changes.iter().map(|&change| change.to_owned()).collect();
    let overrides = Overrides { scale, set, ..Overrides::default() };
    let experiment = Experiment::resolve(&catalog::find("multilingual-mixture")?, &overrides)?;
    let Body::MultilingualMixture(body) = experiment.body.clone() else { bail!("another kind") };
    Ok((experiment, body))
}

#[track_caller]
fn check_refused(change: &str, reason: &str) {
    let error = format!("{:#}", experiment(Scale::Smoke, &[change]).unwrap_err());
    assert!(error.contains(reason), "{change}: {error}");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    check_refused("design.tokens=[4096, 2048]", "design.tokens must ascend");
    check_refused("design.arms=['w33']", "design: there is no arm `w33`");
    check_refused("design.arms=['w32', 'w32']", "design.arms names `w32` twice");
    check_refused("checks.longer.tokens=64", "checks.longer: w32 at 64 tokens");
    let same = experiment(Scale::Smoke, &["checks.wider.arm=w32", "checks.wider.tokens=8192"]);
    let error = format!("{:#}", same.unwrap_err());
    assert!(
        error.contains("checks.wider has the size and the horizon of checks.longer"),
        "{error}"
    );
    check_refused("design.blocks=0", "design.blocks must be positive");
    check_refused("transfer.blocks=0", "transfer.blocks must be positive");
    check_refused("design.levels=[0.5, 0.5]", "design.levels must be 5, one a family, got 2");
    let levels = "checks.wider.levels=[0.5, 0.2, 0.2, 0.2, 0.2]";
    check_refused(levels, "checks.wider.levels must be positive and 1");
    check_refused("transfer.arm=big", "transfer: there is no arm `big`");
    check_refused("transfer.exponent=inf", "transfer.exponent must be finite");
    check_refused("mixing.max_epochs=0.0", "mixing.max_epochs must be positive");
    check_refused("mixing.draws=0", "mixing.draws must be positive");
    check_refused("families.indic.weight=-1.0", "families.indic.weight must be positive, got -1");
    check_refused("families.indic.available=0", "families.indic.available must be positive");
    check_refused("families.indic.name=slavic", "two families are called `slavic`");
    check_refused("arms.w32.model.n_heads=3", "arms.w32.model");
}

#[test]
fn a_claim_about_what_is_not_measured_is_refused() {
    let (mut experiment, body) = experiment(Scale::Smoke, &[]).unwrap();
    let mut check = |arm: &str, series: &str, reason: &str| {
        experiment.claims[0].a.arm = arm.to_owned();
        experiment.claims[0].a.series = series.to_owned();
        let error = format!("{:#}", body.validate(&experiment).unwrap_err());
        assert!(error.contains(reason), "{error}");
    };
    check("unimax", "objective", "the arm `unimax`; there are: law, law-with-others, law-without");
    check("law", "objective", "`objective` of `law`; there are: held-out-error");
}

#[test]
fn a_place_is_read_back_as_it_was_written() {
    for stage in Stage::ALL {
        let mixture = "own".to_owned();
        let place = Place { stage, arm: "w64".to_owned(), tokens: 800_000, mixture };
        assert_eq!(place.to_string().parse::<Place>().unwrap(), place);
    }
    for text in ["law", "design/w64/3", "other/w64/3/0", "design/w64/x/0"] {
        assert!(text.parse::<Place>().is_err(), "{text}");
    }
}

/// Families with so many tokens to train on.
fn prepared(body: &MixtureConfig, tokens: &[u64]) -> Prepared {
    let part = |n_tokens| Part {
        input: Input { path: PathBuf::from("x"), hash: "0".to_owned(), tokens: None },
        n_tokens,
    };
    let group = |(family, &n): (&FamilyConfig, &u64)| Group {
        name: family.name.clone(),
        train: part(n),
        validation: part(30_000),
        characters: 2 * n,
        characters_per_token: 2.0,
    };
    Prepared {
        vocab_size: 1024,
        tokenizer: None,
        train: part(tokens[0]),
        validation: part(30_000),
        sources: Vec::new(),
        groups: body.families.iter().zip(tokens).map(group).collect(),
    }
}

const TOKENS: [u64; 5] = [600_000, 600_000, 700_000, 120_000, 500_000];

#[test]
fn the_plan_has_a_stack_for_every_size_horizon_and_block_and_two_fits() {
    let (experiment, body) = experiment(Scale::Small, &[]).unwrap();
    let cells = cells(&experiment, &body, &prepared(&body, &TOKENS)).unwrap();
    let of = |stage: &str| cells.iter().filter(|cell| cell.cell.tags["step"] == stage).count();
    let counts = ["own-design", "design", "fit", "transfer", "check", "assess"].map(of);
    assert_eq!(counts, [2, 3 * 3 * 4, 2, 5, 2 * 5, 2]);
    let keys: BTreeSet<&str> = cells.iter().map(|cell| cell.key.as_str()).collect();
    assert_eq!(keys.len(), cells.len());
    // A fit needs all trainings of its design, a transfer both fits, and what is needed comes before.
    for (place, planned) in cells.iter().enumerate() {
        let needs = planned.cell.needs.iter();
        assert!(needs.clone().all(|need| cells[..place].iter().any(|cell| cell.key == *need)));
        let fitted = match &planned.cell.task {
            Task::FitMixture(task) => &task.fitted,
            Task::AssessMixture(task) => &task.fitted,
            Task::TrainMixture(task) => {
                assert_eq!(task.members.len(), 5);
                continue;
            }
            _ => panic!("another kind of cell"),
        };
        let n = if fitted.scale == FittedScale::Many { 36 } else { 2 };
        assert_eq!(needs.len(), n);
        let caps: Vec<f64> = fitted.families.iter().map(|family| family.cap).collect();
        assert_eq!(caps, [1.0, 1.0, 1.0, 0.75, 1.0], "Indic lasts for 4 x 120,000");
    }
}

fn keys(changes: &[&str], but: &str) -> BTreeSet<String> {
    let (experiment, body) = experiment(Scale::Small, changes).unwrap();
    let cells = cells(&experiment, &body, &prepared(&body, &TOKENS)).unwrap();
    let others = cells.into_iter().filter(|cell| cell.cell.tags["step"] != but);
    others.map(|cell| cell.key).collect()
}

#[test]
fn more_seeds_find_all_that_fewer_have_left_and_change_no_law() {
    let (five, nine) = (keys(&[], ""), keys(&["seeds=9"], ""));
    assert!(five.is_subset(&nine));
    assert_eq!(nine.len() - five.len(), 4 * (1 + 2), "a transfer and two checks for each seed");
}

#[test]
fn draws_of_the_bootstrap_train_nothing_anew() {
    assert_eq!(keys(&[], "assess"), keys(&["mixing.draws=50"], "assess"));
    assert_ne!(keys(&[], ""), keys(&["mixing.draws=50"], ""));
}

#[test]
fn a_text_that_does_not_last_is_refused_by_name() {
    let (experiment, body) = experiment(Scale::Small, &[]).unwrap();
    let error =
        cells(&experiment, &body, &prepared(&body, &[600_000, 600_000, 600_000, 50_000, 500_000]));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("a share of 0.45 of 640000 tokens reads the text of `indic` 5.8 times"),
        "{error}"
    );
    assert!(error.contains("mixing.max_epochs is 4"), "{error}");
}

#[test]
fn the_paper_scale_asks_for_more_text() {
    let (experiment, body) = experiment(Scale::Paper, &[]).unwrap();
    let error = cells(&experiment, &body, &prepared(&body, &TOKENS)).unwrap_err().to_string();
    assert!(error.contains("give more text"), "{error}");
}

fn language(code: &str) -> &str {
    match code {
        "ca" => "Catalan",
        "cs" => "Czech",
        "da" => "Danish",
        "de" => "German",
        "dz" => "Dzongkha",
        "en" => "English",
        "es" => "Spanish",
        "fr" => "French",
        "gl" => "Galician",
        "gu" => "Gujarati",
        "hi" => "Hindi",
        "hr" => "Croatian",
        "it" => "Italian",
        "mr" => "Marathi",
        "nl" => "Dutch",
        "pl" => "Polish",
        "pt" | "pt_br" => "Portuguese",
        "ru" => "Russian",
        "sl" => "Slovene",
        "sr" => "Serbian",
        "sv" => "Swedish",
        "uk" => "Ukrainian",
        "zh_cn" | "zh_tw" => "Chinese",
        other => panic!("`{other}`"),
    }
}

#[test]
fn the_families_have_the_languages_and_sources_that_the_configuration_says() {
    let (_, body) = experiment(Scale::Small, &[]).unwrap();
    let assets = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/multilingual");
    let files = [
        ("LibreOffice help", "mpl-2.0/help.parquet"),
        ("GNOME user documentation", "cc-by-sa-3.0/user-docs.parquet"),
    ];
    let mut languages: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut sources = languages.clone();
    for (source, file) in files {
        for row in forerun_runs::results::read_results(&assets.join(file)).unwrap() {
            if row["split"] != "train" {
                continue;
            }
            let word = |name: &str| row[name].as_str().unwrap().to_owned();
            let language = language(&word("language")).to_owned();
            let n = word("text").chars().count() as u64;
            *languages.entry((word("family"), language)).or_default() += n;
            *sources.entry((word("family"), source.to_owned())).or_default() += n;
        }
    }
    let configured = |of: fn(&FamilyConfig) -> &BTreeMap<String, u64>| {
        let pairs = |family: &FamilyConfig| {
            let of = of(family).iter();
            of.map(|(part, &n)| ((family.name.clone(), part.clone()), n)).collect::<Vec<_>>()
        };
        body.families.iter().flat_map(pairs).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(configured(|family| &family.languages), languages);
    assert_eq!(configured(|family| &family.sources), sources);
}
