#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    for c in forerun_scaling::golden::check_folder(dir.as_ref()).unwrap() {
        println!("{} known {} pass {} cases {} worst {:?}", c.name, c.is_known, c.passes(), c.cases, c.worst);
        for p in c.problems.iter().take(30) { println!("     {p}"); }
    }
}
