//! The report of a real run in a real browser.

#[path = "../../../runs/tests/browser/driver.rs"]
mod driver;

pub(crate) use driver::check_page;

use crate::program::Place;

#[test]
fn the_report_of_a_run_opens_in_chromium() {
    let place = Place::new();
    place.succeed(&["run", "quickstart", "--scale", "smoke", "--seeds", "2"]);
    let page = place.only_run("quickstart").join("report.html");
    check_page(&page, "Quickstart: reading beyond the training length", 3);
}
