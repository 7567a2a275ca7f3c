//! Training several models of one shape at once.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::batch::StackData;
use crate::config::TrainConfig;
use crate::error::{Result, ensure};
use crate::evaluate::EvalSet;
use crate::members::Members;
use crate::model::Model;
use crate::observer::Observer;
use crate::run::{Run, Settings};
use crate::train::Outcome;

/// What one member of a stack has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Peak learning rate, in place of `optimiser.lr`.
    pub lr: f64,
}

/// How the run of a stack ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StackOutcome {
    /// How it ended for each member, in order.
    pub members: Vec<Outcome>,
}

impl StackOutcome {
    /// Whether the observer asked for the end before the last update: the run can be resumed.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.members.iter().any(|outcome| matches!(outcome, Outcome::Stopped { .. }))
    }
}

/// Trains every member of the stack `model` as [`train`](crate::train()) would train it alone, all at once.
///
/// `config` holds for all of them, but for `optimiser.lr`, which is not used: each has its own in `members`, in their
/// order in the stack. A batch has `batch_size` rows of each member. What a member computes equals what it would alone
/// up to the rounding of matrix products; only dropout, which all draw from one generator, is different. Gradients are
/// clipped by each member's own norm.
///
/// A member whose loss is not a number or above `max_loss`, or whose gradient is not finite, has diverged: the observer
/// hears of it, its parameters stay as they were before that update, and the others go on, to the bit as if it had not.
/// The run ends early only when all have diverged. Its place in the stack is still computed.
///
/// Evaluation rows are the same for all members. Checkpoints and resumption are as for one model; a checkpoint holds the
/// whole stack.
///
/// # Errors
/// As for [`train`](crate::train()); [`Error::Config`](crate::Error::Config) also if `model` is not a stack of as many
/// as `members`, or there are not as many sources of data.
pub fn train_stack(
    model: &dyn Model,
    data: StackData<'_>,
    eval: Option<EvalSet<'_>>,
    config: &TrainConfig,
    members: &[Member],
    checkpoints_dir: &Path,
    observer: &mut dyn Observer,
) -> Result<StackOutcome> {
    config.validate()?;
    validate(model, &data, members)?;
    let fields = fields(config, members)?;
    let settings = Settings { config, members, fields };
    let members = Run::new(model, data, eval, settings, checkpoints_dir, observer).end()?;
    Ok(StackOutcome { members })
}

fn validate(model: &dyn Model, data: &StackData<'_>, members: &[Member]) -> Result<()> {
    let layout = Members::of(model);
    let n = members.len();
    ensure(layout != Members::Single, "model", "a stack", "a single model")?;
    let want = format!("as many as the stack has ({})", layout.count());
    ensure(layout.count() == n as i64, "members", want, n)?;
    layout.ensure_fits(model.parameters())?;
    if let StackData::Own(own) = data {
        ensure(own.len() == n, "data", format!("one source for each of {n} members"), own.len())?;
    }
    for (index, &Member { lr }) in members.iter().enumerate() {
        let got = format!("{lr} for member {index}");
        ensure(lr > 0.0 && lr.is_finite(), "lr", "finite and above 0", got)?;
    }
    Ok(())
}

/// What a checkpoint must agree with: `members.0.lr` and so on in place of `optimiser.lr`.
fn fields(config: &TrainConfig, members: &[Member]) -> Result<BTreeMap<String, Value>> {
    let mut fields = config.fields()?;
    fields.remove("optimiser.lr");
    for (index, member) in members.iter().enumerate() {
        fields.insert(format!("members.{index}.lr"), member.lr.into());
    }
    Ok(fields)
}
