use std::fs;

use tempfile::TempDir;

use super::*;
use crate::results::write_results;
use crate::tensorboard::EventWriter;

fn folder_with(name: &str, content: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    (dir, path)
}

fn read_text(name: &str, content: &str) -> Imported {
    let (_dir, path) = folder_with(name, content);
    read(&path).unwrap()
}

fn refusal(name: &str, content: &str) -> String {
    let (dir, path) = folder_with(name, content);
    read(&path).unwrap_err().to_string().replace(&format!("{}/", dir.path().display()), "")
}

fn get(row: &Row, name: &str) -> f64 {
    row.get(name).and_then(Value::as_f64).unwrap_or_else(|| panic!("{name} of {row:?}"))
}

const RUNS: &str = "Name,State,n_params,tokens,learning_rate,val_loss\n\
    \"a, first\",finished,1000000,2e9,0.003,2.5\nb,crashed,1000000,2e9,0.01,NaN\nc,finished,,4e9,0.003,2.4\n";

#[test]
fn a_table_of_runs_keeps_its_columns() {
    let imported = read_text("export.csv", RUNS);
    assert_eq!(imported.format, Format::Csv);
    assert_eq!(imported.rows[0]["Name"], "a, first");
    assert_eq!(imported.rows[1]["val_loss"], "NaN");
    assert_eq!(imported.rows[2]["n_params"], Value::Null);
}

#[test]
fn columns_are_found_by_what_others_call_them() {
    let rows = read_text("export.csv", RUNS).rows;
    let observed = observations(&rows, &Naming::default()).unwrap();
    assert_eq!(observed.columns, ["name", "n", "d", "flops", "lr", "loss"]);
    assert_eq!(get(&observed.rows[0], "flops"), 6. * 1e6 * 2e9);
    assert!(observed.notes.contains(&"loss = `val_loss`".to_owned()), "{:?}", observed.notes);
    assert!(observed.notes.contains(&"flops = 6 n d in 2 of 3 rows".to_owned()));
    let csv = to_csv(&observed.rows, &observed.columns);
    assert!(csv.starts_with("name,n,d,flops,lr,loss\n\"a, first\",1000000,2000000000.0,"), "{csv}");
    assert!(csv.contains("\nc,,4000000000.0,,0.003,2.4\n"), "{csv}");
}

#[test]
fn what_the_caller_says_wins() {
    let rows = read_text("export.csv", RUNS).rows;
    let naming = Naming {
        columns: [("loss".to_owned(), "learning_rate".to_owned())].into(),
        constants: [("n".to_owned(), 7.)].into(),
    };
    let observed = observations(&rows, &naming).unwrap();
    assert_eq!(get(&observed.rows[2], "n"), 7.);
    assert_eq!(get(&observed.rows[0], "loss"), 0.003);
    let check = |naming: Naming, expected: &str| {
        assert_eq!(observations(&rows, &naming).unwrap_err().to_string(), expected);
    };
    let unknown = [("x".to_owned(), "tokens".to_owned())].into();
    check(
        Naming { columns: unknown, ..Naming::default() },
        "`columns` must be names among n, d, flops, batch, steps, seq_len, lr, loss, got x",
    );
    let absent = [("n".to_owned(), "size".to_owned())].into();
    check(
        Naming { columns: absent, ..Naming::default() },
        "`n` must be a column of the source (Name, State, learning_rate, n_params, tokens, val_loss), got size",
    );
}

#[test]
fn a_chart_becomes_one_row_a_run() {
    let text = "Step,fast - train/loss,fast - train/loss__MIN,fast - train/loss__MAX,slow - train/loss\n\
        0,5,5,5,6\n10,3,3,3,\n20,NaN,NaN,NaN,4\n";
    let imported = read_text("chart.csv", text);
    assert_eq!(imported.format, Format::WandbChart);
    let [fast, slow] = &imported.rows[..] else { panic!() };
    assert_eq!((fast["name"].as_str(), &fast["train/loss"]), (Some("fast"), &Value::from("NaN")));
    assert_eq!((get(slow, "train/loss"), get(slow, "steps")), (4., 20.));
    assert_eq!(get(slow, "train/loss.min"), 4.);
}

#[test]
fn nested_objects_are_flattened_and_pythons_nan_is_read() {
    let text = "{\"config\": {\"n_params\": 1e6}, \"eval_loss\": NaN, \"note\": \"a NaN \\\" b\"}\n\n{\"eval_loss\": 2.0}\n";
    let rows = read_text("runs.jsonl", text).rows;
    assert_eq!(rows[0]["config.n_params"], 1e6);
    assert_eq!(rows[0]["note"], "a NaN \" b");
    assert_eq!(rows[0]["eval_loss"], "NaN");
    let observed = observations(&rows, &Naming::default()).unwrap();
    assert_eq!(get(&observed.rows[0], "n"), 1e6);
    assert!(observed.notes.iter().any(|note| note.starts_with("d is missing")));
    assert_eq!(read_text("runs.json", "[{\"a\": 1}]").rows[0]["a"], 1);
}

const STATE: &str = r#"{"global_step": 200, "total_flos": 1.2e15, "train_batch_size": 8, "best_metric": null,
    "log_history": [
        {"step": 100, "loss": 4.0, "learning_rate": 0.001, "grad_norm": 1.0},
        {"step": 100, "eval_loss": 3.9},
        {"step": 200, "loss": 3.0, "learning_rate": 0.0001},
        {"step": 200, "eval_loss": 3.1, "eval_runtime": 5.0}]}"#;

#[test]
fn a_trainers_state_is_one_run() {
    let imported = read_text("trainer_state.json", STATE);
    assert_eq!(imported.format, Format::TrainerState);
    let naming = Naming {
        constants: [("n".to_owned(), 1e6), ("seq_len".to_owned(), 512.)].into(),
        ..Naming::default()
    };
    let observed = observations(&imported.rows, &naming).unwrap();
    let row = &observed.rows[0];
    assert_eq!((get(row, "loss"), get(row, "lr"), get(row, "steps")), (3.1, 0.001, 200.));
    assert_eq!(get(row, "d"), 200. * 8. * 512.);
}

#[test]
fn of_a_runs_checkpoints_the_newest_counts() {
    let dir = TempDir::new().unwrap();
    for (step, loss) in [(9, 3.5), (100, 3.1)] {
        let folder = dir.path().join(format!("tiny/checkpoint-{step}"));
        fs::create_dir_all(&folder).unwrap();
        let text = STATE.replace("3.1", &loss.to_string());
        fs::write(folder.join("trainer_state.json"), text).unwrap();
    }
    let rows = read(dir.path()).unwrap().rows;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0]["name"].as_str(), get(&rows[0], "eval_loss")), (Some("tiny"), 3.1));
}

#[test]
fn folders_of_event_files_are_runs() {
    let dir = TempDir::new().unwrap();
    for (name, loss) in [("one", 2.0), ("two", 3.0)] {
        let mut writer = EventWriter::create(&dir.path().join(name), "test", 1.0).unwrap();
        for step in 1..=40 {
            writer.scalar("train/loss", step, loss + 1. / step as f64, 2.0).unwrap();
            writer.scalar("train/lr", step, 1e-3 / step as f64, 2.0).unwrap();
        }
    }
    let imported = read(dir.path()).unwrap();
    assert_eq!(imported.format, Format::TensorBoard);
    let [one, two] = &imported.rows[..] else { panic!() };
    assert_eq!((one["name"].as_str(), two["name"].as_str()), (Some("one"), Some("two")));
    assert!((get(one, "peak_lr") - 1e-3).abs() < 1e-9 && get(one, "steps") == 40.);
    // The last twentieth of 40 points: 39 and 40.
    let expected = 2. + 0.5 * (1. / 39. + 1. / 40.);
    assert!((get(one, "train/loss.tail_mean") - expected).abs() < 1e-6);
}

#[test]
fn parquet_of_results_is_read_back() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("runs.parquet");
    let rows = read_text("export.csv", "n,loss,name\n5,2.5,a\n6,2.25,b\n").rows;
    write_results(&path, &rows).unwrap();
    let imported = read(&path).unwrap();
    assert_eq!((imported.format, imported.rows), (Format::Parquet, rows));
}

#[test]
fn what_is_no_table_says_where() {
    assert_eq!(refusal("a.csv", "x,y\n1,2\n3\n"), "`a.csv` line 3: 1 cells, the header has 2");
    assert_eq!(refusal("a.csv", "x,y\n1,\"2\n"), "`a.csv` line 2: a quote is not closed");
    assert_eq!(refusal("a.csv", ""), "`a.csv` line 1: there is no header");
    assert_eq!(refusal("a.jsonl", "{}\n[1]\n"), "`a.jsonl` line 2: expected an object");
    assert_eq!(
        refusal("a.json", "{}"),
        "`a.json` is damaged or of another kind: expected an array of objects, or `log_history` of a trainer's state"
    );
    let dir = TempDir::new().unwrap();
    let message = read(dir.path()).unwrap_err().to_string();
    assert!(
        message.ends_with("neither event files nor `trainer_state.json` in it or below it"),
        "{message}"
    );
}

#[test]
fn tables_of_spreadsheets_are_read_as_they_are_meant() {
    let check = |text: &str, commas: &str| {
        assert_eq!(with_commas(Path::new("a.csv"), text).unwrap(), commas);
        let imported = read_text("a.csv", text);
        assert_eq!((get(&imported.rows[0], "n"), get(&imported.rows[0], "loss")), (1e6, 2.5));
    };
    check("n,loss\n1e6,2.5\n", "n,loss\n1e6,2.5\n");
    check("\u{feff}n;loss;\"a;b\"\r\n1e6;2,5;x\r\n", "n,loss,a;b\n1e6,2.5,x\n");
    check("n;loss\n1000000;2,5e0\n", "n,loss\n1000000,2.5e0\n");
    check("n\tloss\tnote\n1e6\t2.5\ta, \"\"b\"\"\n", "n,loss,note\n1e6,2.5,\"a, b\"\n");
    // A comma between tabs may be for thousands: it stays, and no number is made of it.
    assert_eq!(read_text("a.tsv", "n\tloss\n1,000\t2\n").rows[0]["n"], "1,000");
    let short = refusal("a.csv", "n;loss\n1;2\n3\n");
    assert_eq!(short, "`a.csv` line 3: 1 cells, the header has 2");
}
