//! The report in a real browser, where there is one, at the widths of a phone and a desk; see the driver.

use tempfile::TempDir;

use crate::support::{data, run};

#[path = "../../../runs/tests/browser/driver.rs"]
mod driver;

#[test]
fn reports_open_in_chromium() {
    let folder = TempDir::new().unwrap();
    for (law, table, extra, figures) in [
        ("chinchilla", "chinchilla_epoch245.csv", &["--filter", "drop-worst 5"][..], 5),
        ("lr-horizon", "synth_lr_A.csv", &[], 4),
        ("multilingual", "synth_multilingual_A.csv", &["--predict", "n=7B,d=1T"], 4),
    ] {
        let (table, report) = (data(table), folder.path().join(law));
        let (table, out) = (table.to_string_lossy(), report.to_string_lossy());
        let words = ["fit", "--law", law, "--data", &table, "--report", &out];
        run(&[&words, extra].concat()).unwrap();
        driver::check_page(&report.join("report.html"), &format!("Scaling law: {law}"), figures);
    }
}
