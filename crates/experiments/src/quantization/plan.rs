//! The cells: the model's weights as folders of safetensors, one for each format, a measurement of each, and turns of timing.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use forerun_arch::LmConfig;
use forerun_runs::atomic::sha256_hex;
use forerun_runs::seed::Seed;
use forerun_tensors::kernels::WeightFormat;
use forerun_tokens::gguf::Gguf;
use serde_json::{Value, json};
use tch::Kind;

use super::make::{MakeWeights, Origin};
use super::measure::MeasureWeights;
use super::stored::stored_kind;
use super::timing::TimeWeights;
use super::{Arm, PlainPrecision, QuantizationConfig, ReadingConfig, Rounding, Weights};
use crate::cell::{Cell, Cost, Task};
use crate::commands::quantize::{blocks_at_once, hessian_bytes};
use crate::config::Experiment;
use crate::data::{Input, Prepared};
use crate::environment;
use crate::plan::{LIBTORCH_BYTES, PlannedCell, cell};
use crate::pretrained::{Place, Pretrained};

/// Name of the input that is the model.
pub(super) const MODEL: &str = "model";
/// What the results call the format that most weights of a GGUF file have.
pub(super) const ROUNDED_TO: &str = "rounded_to";

/// Weights first, each format's measurement right after them; then all formats are timed, turn by turn.
pub(crate) fn cells(
    experiment: &Experiment,
    body: &QuantizationConfig,
    data: &Prepared,
) -> Result<Vec<PlannedCell>> {
    let (place, model) = (body.place()?, body.model_config()?);
    let before = match &place {
        Some(place) => Pretrained::ids(place.tokenizer(None)?.encode_prompt("")?),
        None => Vec::new(),
    };
    check(experiment, body, data, &model, before.len())?;
    let stored = match &place {
        Some(Place::Folder(folder)) => stored_kind(folder, &body.model)?,
        _ => None,
    };
    let input = place.as_ref().map(input).transpose()?;
    let mut layout = Layout { experiment, body, data, model, before, stored, input, base: None };
    let mut cells = Vec::new();
    if !matches!(place, Some(Place::Folder(_))) {
        let base = layout.base(place.as_ref().map(rounded_to).transpose()?);
        layout.base = Some(base.key.clone());
        cells.push(base);
    }
    let mut weights = Vec::new();
    for arm in body.possible_arms(&layout.model) {
        let (needs, made) = layout.made(arm);
        cells.extend(made);
        cells.push(PlannedCell::new(layout.measured(arm, needs.clone())));
        weights.push((arm, needs));
    }
    cells.extend(layout.turns(&weights)?);
    Ok(cells)
}

/// A hash of all that speeds depend on beside the work itself, and of what they are compared with: `weights` are the keys of the cells
/// with the formats; a format without one is in the model's own folder.
pub(super) fn together(
    weights: &[Option<&str>],
    model: Option<&Input>,
    program: &str,
    processor: Option<&str>,
) -> String {
    let model = model.map(|model| &model.hash);
    let held = json!([weights, model, program, processor]);
    let mut hash = sha256_hex(held.to_string().as_bytes());
    hash.truncate(32);
    hash
}

fn check(
    experiment: &Experiment,
    body: &QuantizationConfig,
    data: &Prepared,
    model: &LmConfig,
    n_before: usize,
) -> Result<()> {
    ensure!(
        data.vocab_size <= model.vocab_size,
        "the tokenizer has {} ids, the model only {}",
        data.vocab_size,
        model.vocab_size
    );
    let n_pieces = experiment.seeds.max(body.timing.n_pieces);
    let wanted = n_pieces.saturating_mul(body.reading.piece_tokens as u64);
    ensure!(
        data.validation.n_tokens >= wanted,
        "the held-out text has {} tokens, fewer than {n_pieces} pieces of {}",
        data.validation.n_tokens,
        body.reading.piece_tokens
    );
    let wanted = body.calibration.n_pieces.saturating_mul(body.calibration.piece_tokens as u64);
    ensure!(
        !body.has_gptq() || data.train.n_tokens >= wanted,
        "the training text has {} tokens, fewer than {} pieces of {} to calibrate on",
        data.train.n_tokens,
        body.calibration.n_pieces,
        body.calibration.piece_tokens
    );
    let made_for = usize::try_from(model.max_seq_len).unwrap_or(usize::MAX);
    let most = made_for.saturating_sub(n_before);
    let (read, calibrated) = (body.reading.piece_tokens, body.calibration.piece_tokens);
    for (name, n, is_read) in
        [("reading", read, true), ("calibration", calibrated, body.has_gptq())]
    {
        ensure!(
            !is_read || n <= most,
            "{name}.piece_tokens must be at most {most}, as the model was made for {made_for} tokens and {n_before} come before \
             a text, got {n}"
        );
    }
    Ok(())
}

/// The model as an input of cells: where it lies, and a hash of the files that decide about it.
fn input(place: &Place) -> Result<Input> {
    let path = std::path::absolute(place.path())?;
    Ok(Input { path, hash: place.fingerprint()?, tokens: None })
}

/// The format that most numbers of a GGUF file have.
fn rounded_to(place: &Place) -> Result<String> {
    let file = Gguf::open(place.path())?;
    let mut by_kind = BTreeMap::<String, usize>::new();
    for tensor in file.tensors() {
        *by_kind.entry(tensor.kind.to_string()).or_default() += tensor.n_values();
    }
    let most = by_kind.into_iter().max_by_key(|(_, n_values)| *n_values);
    Ok(most.map_or_else(|| "nothing".to_owned(), |(kind, _)| kind))
}

struct Layout<'a> {
    experiment: &'a Experiment,
    body: &'a QuantizationConfig,
    data: &'a Prepared,
    model: LmConfig,
    /// Tokens before every text.
    before: Vec<i64>,
    /// The format of a folder's weights.
    stored: Option<Kind>,
    /// None if the model is drawn.
    input: Option<Input>,
    /// The cell with the model as a folder, where it is none.
    base: Option<String>,
}

impl Layout<'_> {
    /// A folder in f32 of a model that is in none.
    fn base(&self, rounded_to: Option<String>) -> PlannedCell {
        let origin = match self.input {
            Some(_) => Origin::Input,
            None => {
                Origin::Drawn { seed: Seed::new(self.experiment.root_seed).child("model").root() }
            }
        };
        let weights = Weights::Plain { precision: PlainPrecision::F32 };
        let task = MakeWeights { origin, weights, calibration: None, before: Vec::new() };
        let disk = self.bytes(weights);
        let cost = self.cost(0.0, 0, 2.0 * disk, disk);
        let tags = [
            ("arm", json!("model")),
            ("step", json!("make")),
            ("seed", json!(0)),
            (ROUNDED_TO, json!(rounded_to)),
        ];
        let cell =
            self.cell(Task::MakeWeights(task), "weights as a folder".to_owned(), &tags, cost);
        PlannedCell::new(Cell { inputs: self.inputs(self.input.is_some()), ..cell })
    }

    /// The cell whose weights an arm is measured with, if it is not the model's own folder, and the cell to be made for it.
    fn made(&self, arm: &Arm) -> (Option<String>, Option<PlannedCell>) {
        let plain = match arm.weights {
            Weights::Plain { precision } => Some(precision),
            Weights::Packed { .. } => None,
        };
        match (&self.base, plain) {
            (Some(base), Some(PlainPrecision::F32)) => return (Some(base.clone()), None),
            (None, Some(precision)) if self.stored == Some(precision.precision().kind()) => {
                return (None, None);
            }
            _ => {}
        }
        let made = PlannedCell::new(self.weights(arm));
        (Some(made.key.clone()), Some(made))
    }

    fn weights(&self, arm: &Arm) -> Cell {
        let calibrated = matches!(arm.weights, Weights::Packed { method: Rounding::Gptq, .. });
        let calibration = calibrated.then(|| self.body.calibration.clone());
        let n_tokens = calibration.as_ref().map_or(0, |c| c.n_pieces * c.piece_tokens as u64);
        let origin = if self.base.is_some() { Origin::Needed } else { Origin::Input };
        let task = MakeWeights {
            origin,
            weights: arm.weights,
            calibration,
            before: if calibrated { self.before.clone() } else { Vec::new() },
        };
        let disk = self.bytes(arm.weights);
        // Reading the text once more for each part of the blocks is left out: a small model has one part.
        let flops = n_tokens as f64 * (2.0 * self.n_params() as f64 + self.hessian_flops())
            + if calibrated { self.rounding_flops() } else { 0.0 };
        let memory = self.source_bytes() + if calibrated { self.rounding_bytes() } else { 0.0 };
        let cost = self.cost(flops, n_tokens, memory, disk);
        let tags = [("arm", json!(arm.name)), ("step", json!("make")), ("seed", json!(0))];
        let label = format!("weights {}", arm.name);
        let mut cell = self.cell(Task::MakeWeights(task), label, &tags, cost);
        cell.inputs = self.inputs(self.base.is_none());
        if let Some(train) = calibrated.then(|| self.data.train.input.clone()) {
            cell.inputs.insert("train".to_owned(), train);
        }
        cell.needs = self.base.iter().cloned().collect();
        cell
    }

    fn measured(&self, arm: &Arm, made: Option<String>) -> Cell {
        let n_pieces = self.experiment.seeds;
        let reading = self.body.reading.clone();
        let n_tokens = n_pieces * reading.piece_tokens as u64;
        let (of_writing, n_written) = self.writing(1);
        let flops = 2.0 * n_tokens as f64 * self.n_params() as f64 + of_writing;
        let memory = self.memory(arm);
        let cost = self.cost(flops, n_tokens + n_written, memory, 20_000.0);
        let origin = if made.is_some() { Origin::Needed } else { Origin::Input };
        let task = MeasureWeights { origin, n_pieces, reading, before: self.before.clone() };
        let tags = [
            ("arm", json!(arm.name)),
            ("step", json!("measure")),
            ("model", json!(self.body.model)),
        ];
        let mut cell =
            self.cell(Task::MeasureWeights(task), format!("measure {}", arm.name), &tags, cost);
        cell.inputs = self.inputs(made.is_none());
        cell.inputs.insert("validation".to_owned(), self.data.validation.input.clone());
        cell.needs = made.into_iter().collect();
        let member = |piece: u64| BTreeMap::from([("seed".to_owned(), json!(piece))]);
        cell.members = (0..n_pieces).map(member).collect();
        cell
    }

    /// In each turn every format is timed once: what changes slowly on a machine meets all of them alike. Every turn begins one
    /// format later, as what runs first, or after which other, may matter too.
    fn turns(&self, weights: &[(&Arm, Option<String>)]) -> Result<Vec<PlannedCell>> {
        let keys: Vec<Option<&str>> = weights.iter().map(|(_, made)| made.as_deref()).collect();
        let program = environment::program_sha256()?;
        let processor = environment::processor();
        let together = together(&keys, self.input.as_ref(), &program, processor.as_deref());
        let mut cells = Vec::new();
        for turn in 0..self.body.timing.turns {
            let first = usize::try_from(turn % weights.len().max(1) as u64)?;
            let (later, sooner) = weights.split_at(first);
            for (arm, made) in sooner.iter().chain(later) {
                cells.push(PlannedCell::new(self.timed(arm, turn, made.clone(), &together)));
            }
        }
        Ok(cells)
    }

    fn timed(&self, arm: &Arm, turn: u64, made: Option<String>, together: &str) -> Cell {
        let reading = self.body.reading.clone();
        let n_pieces = self.body.timing.n_pieces;
        let (flops, n_tokens) = self.writing(n_pieces + 1); // one before the clock runs
        let cost = self.cost(flops, n_tokens, self.memory(arm), 20_000.0);
        let origin = if made.is_some() { Origin::Needed } else { Origin::Input };
        let (before, together) = (self.before.clone(), together.to_owned());
        let task = TimeWeights { origin, turn, n_pieces, reading, before, together };
        let tags = [("arm", json!(arm.name)), ("step", json!("time")), ("seed", json!(turn))];
        let label = format!("time {}, turn {}", arm.name, turn + 1);
        let mut cell = self.cell(Task::TimeWeights(task), label, &tags, cost);
        cell.inputs = self.inputs(made.is_none());
        cell.inputs.insert("validation".to_owned(), self.data.validation.input.clone());
        cell.needs = made.into_iter().collect();
        cell
    }

    /// FLOP and tokens of `n` prompts with what is written after them.
    fn writing(&self, n: u64) -> (f64, u64) {
        let ReadingConfig { prompt_tokens, decode_tokens, .. } = self.body.reading;
        // What is read one by one takes some ten times as long as what is read at once.
        let tokens = n as f64 * (prompt_tokens as f64 + 10.0 * decode_tokens as f64);
        (2.0 * tokens * self.n_params() as f64, n * (prompt_tokens + decode_tokens) as u64)
    }

    /// Bytes of a model in a format that reads and writes.
    fn memory(&self, arm: &Arm) -> f64 {
        self.bytes(arm.weights) + 600.0 * self.model.vocab_size as f64 * 4.0
    }

    fn cell(&self, task: Task, label: String, tags: &[(&str, Value)], cost: Cost) -> Cell {
        cell(self.experiment, task, label, tags, cost)
    }

    fn inputs(&self, with_model: bool) -> BTreeMap<String, Input> {
        let model = self.input.clone().filter(|_| with_model);
        model.into_iter().map(|model| (MODEL.to_owned(), model)).collect()
    }

    fn cost(&self, flops: f64, n_tokens: u64, memory: f64, disk: f64) -> Cost {
        Cost {
            n_params: self.n_params(),
            n_tokens,
            flops,
            memory_bytes: (LIBTORCH_BYTES + memory) as u64,
            disk_bytes: disk as u64,
        }
    }

    /// Input and output widths of the linear maps of a block, as a Llama has them.
    fn maps(&self) -> [(i64, i64); 7] {
        let LmConfig { d_model, n_heads, n_kv_heads, head_dim, d_ff, .. } = self.model;
        let (d_q, d_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        [
            (d_model, d_q),
            (d_model, d_kv),
            (d_model, d_kv),
            (d_q, d_model),
            (d_model, d_ff),
            (d_model, d_ff),
            (d_ff, d_model),
        ]
    }

    fn table_params(&self) -> i64 {
        self.model.vocab_size * self.model.d_model * if self.model.tie_embeddings { 1 } else { 2 }
    }

    fn block_params(&self) -> i64 {
        self.model.n_layers * self.maps().iter().map(|(i, o)| i * o).sum::<i64>()
    }

    fn n_params(&self) -> i64 {
        self.table_params() + self.block_params()
    }

    /// For each token: the products of each two input channels of each map.
    fn hessian_flops(&self) -> f64 {
        self.model.n_layers as f64
            * self.maps().iter().map(|(i, _)| 2.0 * (i * i) as f64).sum::<f64>()
    }

    /// Decompositions, and the errors that columns hand on.
    fn rounding_flops(&self) -> f64 {
        let map = |&(i, o): &(i64, i64)| 2.0 * (i * i) as f64 * (i + o) as f64;
        self.model.n_layers as f64 * self.maps().iter().map(map).sum::<f64>()
    }

    /// Bytes of the model's weights in a format.
    fn bytes(&self, weights: Weights) -> f64 {
        let (tables, blocks) = (self.table_params() as f64, self.block_params() as f64);
        let packed = |format: WeightFormat| match format {
            WeightFormat::Int8 => 1.0,
            WeightFormat::Int8Grouped => 1.0 + 2.0 / 32.0,
            WeightFormat::Int4 { group } => 0.5 + 4.0 / group as f64,
        };
        match weights {
            Weights::Plain { precision: PlainPrecision::F32 } => 4.0 * (tables + blocks),
            Weights::Plain { precision: PlainPrecision::Bf16 } => 2.0 * (tables + blocks),
            Weights::Packed { blocks: of_blocks, tables: of_tables, .. } => {
                packed(of_blocks) * blocks + packed(of_tables) * tables
            }
        }
    }

    fn source_bytes(&self) -> f64 {
        let precision = match self.stored {
            Some(Kind::BFloat16 | Kind::Half) => PlainPrecision::Bf16,
            _ => PlainPrecision::F32,
        };
        self.bytes(Weights::Plain { precision })
    }

    /// What GPTQ holds beside the model: the products of input channels of as many blocks as it looks at together, and one
    /// map's, decomposed in f64.
    fn rounding_bytes(&self) -> f64 {
        let LmConfig { n_layers, d_model, d_ff, .. } = self.model;
        let n_blocks = n_layers.min(blocks_at_once(&self.model) as i64);
        let widest = d_model.max(d_ff) as f64;
        (n_blocks * hessian_bytes(&self.model)) as f64 + 4.0 * 8.0 * widest * widest
    }
}

/// The folder or file of the model that a cell reads.
pub(super) fn place_of(path: &Path) -> Place {
    if path.is_dir() { Place::Folder(path.to_owned()) } else { Place::Gguf(path.to_owned()) }
}
