//! Means of grades.

use std::collections::BTreeMap;

use forerun_runs::stats;
use forerun_runs::table::{Cell, Column, Table};

use super::Question;
use super::files::Grade;
use crate::plan::{counted, wrapped};

/// Grades of each category and turn, then of all.
pub(super) fn in_words(questions: &[Question], grades: &[Grade], judge: &str) -> String {
    let columns = vec![
        Column::text("category"),
        Column::number("turn 1", ""),
        Column::number("turn 2", ""),
        Column::number("both", ""),
        Column::number("grades", ""),
    ];
    let mut by_category: BTreeMap<&str, Vec<&Grade>> = BTreeMap::new();
    let mut of_these = Vec::new();
    for grade in grades {
        let question = questions.iter().find(|question| question.question_id == grade.question_id);
        let Some(question) = question else { continue };
        by_category.entry(&question.category).or_default().push(grade);
        of_these.push(grade);
    }
    let mut rows: Vec<Vec<Cell>> =
        by_category.iter().map(|(category, grades)| row(category, grades)).collect();
    rows.push(row("all", &of_these));
    let unread = of_these.iter().filter(|grade| grade.rating.is_none()).count();
    let mut note = format!("Grades from 1 to 10 by {judge}, one for each turn.");
    if unread > 0 {
        let it = if unread == 1 { "it" } else { "them" };
        let answers = counted(unread as u64, "answer");
        note.push_str(&format!(" {answers} of the judge had no grade in {it}, left out."));
    }
    let lacks = |grade: &&&Grade| {
        let question = questions.iter().find(|question| question.question_id == grade.question_id);
        question.is_some_and(|question| question.lacks_references(grade.turn))
    };
    let n_lacking = of_these.iter().filter(lacks).count();
    if n_lacking > 0 {
        note.push_str(&format!(
            " Of those in mathematics, reasoning and coding {n_lacking} {} given without a reference answer, which the authors \
             show for all of them.",
            if n_lacking == 1 { "was" } else { "were" }
        ));
    }
    let table = Table { caption: String::new(), columns, rows }.to_terminal(80);
    format!("{table}\n{}", wrapped("", "", &note))
}

fn row(name: &str, grades: &[&Grade]) -> Vec<Cell> {
    let of_turn = |turn: Option<usize>| -> Vec<f64> {
        let chosen = grades.iter().filter(|grade| turn.is_none_or(|turn| grade.turn == turn));
        chosen.filter_map(|grade| grade.rating).collect()
    };
    let mean = |turn: Option<usize>| match of_turn(turn).as_slice() {
        [] => Cell::Empty,
        some => Cell::number(stats::mean(some), 3),
    };
    let n = of_turn(None).len() as u64;
    vec![Cell::from(name), mean(Some(1)), mean(Some(2)), mean(None), Cell::Count(n)]
}
