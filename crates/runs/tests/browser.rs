//! Opens the gallery of reports in a real browser, where there is one: at the widths of a phone
//! and a desk, light and dark, without console message, network request or sideways scrolling.
//!
//! With `FORERUN_SCREENSHOTS=FOLDER` it also leaves pictures of the whole page there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "browser/driver.rs"]
mod driver;
#[path = "../examples/report_gallery/gallery.rs"]
mod gallery;

#[test]
fn report_opens_in_chromium() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    std::fs::write(&page, gallery::report().to_html()).unwrap();
    driver::check_page(&page, "Length extrapolation", 8);
}
