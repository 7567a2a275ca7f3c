//! The kinds of files of the folder `arch`.

use std::path::Path;

use forerun_tensors::testing::Golden;

use crate::report::{Line, Status, Tally};
use crate::{attention, checkpoint, decoder, init, phi3_small};

/// What came of looking at a file.
pub(crate) enum Outcome {
    Checked(Tally),
    NotImplemented(String),
}

/// Checks `stem.json` with its companion.
pub(crate) fn check(folder: &Path, stem: &str) -> Line {
    match look(folder, stem) {
        Ok(Outcome::Checked(tally)) => tally.line(stem),
        Ok(Outcome::NotImplemented(reason)) => Line::not_implemented(stem, &reason),
        Err(error) => {
            let problems = vec![format!("{error:#}")];
            Line { name: stem.to_owned(), status: Status::Fail, cases: 0, worst: None, problems }
        }
    }
}

fn look(folder: &Path, stem: &str) -> anyhow::Result<Outcome> {
    let golden = Golden::open(&folder.join(format!("{stem}.json")))?;
    let source = golden.json()["source"].as_str().unwrap_or_default();
    if stem.starts_with("xpos") {
        attention::check_xpos(&golden).map(Outcome::Checked)
    } else if stem.starts_with("bca_resolution") {
        attention::check_bca_resolution(&golden).map(Outcome::Checked)
    } else if stem.starts_with("init") && golden.json()["rows"].is_array() {
        init::check(&golden).map(Outcome::Checked)
    } else if stem.starts_with("phi3small") {
        phi3_small::check(&golden).map(Outcome::Checked)
    } else if let Some(folder) = checkpoint::folder(&golden) {
        checkpoint::check(&golden, &folder).map(Outcome::Checked)
    } else if stem.contains("decoder") && source.contains("(decoder-only)") {
        decoder::check(&golden)
    } else {
        Ok(Outcome::NotImplemented(format!("files like `{stem}`")))
    }
}
