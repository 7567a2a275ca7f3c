use super::*;

fn points() -> Observations {
    Observations::new("loss", vec![3., 2.5, 2.]).with_input("n", vec![1., 2., 3.])
}

fn message(observations: &Observations) -> String {
    observations.check().unwrap_err().to_string()
}

#[test]
fn faults_name_row_and_column() {
    assert_eq!(message(&Observations::new("loss", vec![])), "column `loss`: there are no rows");
    let short = points().with_input("d", vec![1.]);
    assert_eq!(message(&short), "column `d`: 1 values for 3 points");
    let hole = points().with_input("n", vec![1., f64::NAN, 3.]).with_rows(vec![4, 7, 9]);
    assert_eq!(message(&hole), "row 7, column `n`: must be a finite number, got NaN");
    let negative = points().with_target(vec![3., 2., -1.]);
    assert_eq!(message(&negative), "row 3, column `loss`: must be positive, got -1");
    let weight = points().with_weights(vec![1., -2., 1.]);
    assert_eq!(message(&weight), "row 2, column `weights`: must not be negative");
    assert_eq!(
        message(&points().with_clusters(vec![1])),
        "column `clusters`: 1 groups for 3 points"
    );
}

#[test]
fn a_selection_keeps_everything_together() {
    let all = points().with_weights(vec![1., 2., 3.]).with_clusters(vec![5, 5, 6]);
    let some = all.select(&[2, 0, 2]);
    assert_eq!(some.target(), [2., 3., 2.]);
    assert_eq!(some.input("n"), Some(&[3., 1., 3.][..]));
    assert_eq!((some.weights(), some.clusters()), (Some(&[3., 1., 3.][..]), Some(&[6, 5, 6][..])));
    assert_eq!(some.rows(), [3, 1, 3]);
}
