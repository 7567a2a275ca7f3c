//! A run from TensorBoard event files.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::summary;
use crate::results::Row;
use crate::tensorboard::{Content, Event};

/// One row: the folder's name, and what each scalar series says.
pub(super) fn run(path: &Path, events: &[Event]) -> Row {
    let mut series: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for event in events {
        if let Content::Scalar { tag, value } = &event.content {
            series.entry(tag).or_default().push((event.step as f64, f64::from(*value)));
        }
    }
    let mut row = Row::new();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    row.insert("name".into(), name.map_or(Value::Null, Value::from));
    for (tag, points) in &mut series {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        summary::add(&mut row, tag, points);
    }
    row
}
