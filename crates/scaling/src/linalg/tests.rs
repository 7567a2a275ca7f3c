use super::*;

/// A positive definite matrix with very unequal scales.
fn matrix() -> Vec<f64> {
    vec![4e12, 0., 0., 1.9e6, 1., 0., 1e3, 4e-4, 1e-6]
}

#[test]
fn a_solution_satisfies_the_equations_at_unequal_scales() {
    let lower = matrix();
    let mut factor = lower.clone();
    let mut scale = [0.; 3];
    assert!(cholesky(&mut factor, &mut scale, 0.));
    let mut x = [3e6, 1., 2e-3];
    solve(&factor, &scale, &mut x);
    for (i, want) in [3e6, 1., 2e-3].into_iter().enumerate() {
        let got: f64 = (0..3).map(|j| lower[i.max(j) * 3 + i.min(j)] * x[j]).sum();
        assert!((got / want - 1.).abs() < 1e-12, "{got} {want}");
    }
}

#[test]
fn an_indefinite_matrix_is_refused() {
    let mut scale = [0.; 2];
    assert!(!cholesky(&mut [1., 0., 2., 1.], &mut scale, 0.));
    assert!(!cholesky(&mut [1., 0., 0., -1.], &mut scale, 0.));
    assert!(cholesky(&mut [1., 0., 2., 1.], &mut scale, 1.5), "damping makes it definite");
}

#[test]
fn an_inverse_inverts_and_the_condition_is_of_the_scaled_matrix() {
    let (inverse, condition) = inverse(&[4., 0., 1., 1.], 2).unwrap();
    let expected = [1. / 3., -1. / 3., -1. / 3., 4. / 3.];
    assert!(inverse.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-14));
    assert!((condition - 3.).abs() < 1e-12, "a correlation of one half: (1 + 1/2) / (1 - 1/2)");
}

#[test]
fn eigenvalues_of_a_known_matrix() {
    let values = eigenvalues(vec![2., -1., 0., -1., 2., -1., 0., -1., 2.], 3);
    let root = 2_f64.sqrt();
    for (value, expected) in values.iter().zip([2. - root, 2., 2. + root]) {
        assert!((value - expected).abs() < 1e-12);
    }
}

#[test]
fn least_squares_of_a_line_and_of_dependent_columns() {
    let ones = [1.; 4];
    let x = [0., 1., 2., 3.];
    let y = [1., 3., 5., 7.];
    let line = least_squares(&[&ones, &x], &y, &[1., 2., 1., 5.]).unwrap();
    assert!((line[0] - 1.).abs() < 1e-12 && (line[1] - 2.).abs() < 1e-12);
    assert!(least_squares(&[&ones, &ones], &y, &ones).is_none());
}

#[test]
fn eigenvectors_give_the_matrix_back() {
    let matrix = [4., 1., -2., 1., 3., 0.5, -2., 0.5, -1.];
    let (values, vectors) = eigen(matrix.to_vec(), 3);
    for i in 0..3 {
        for j in 0..3 {
            let sum: f64 =
                (0..3).map(|k| values[k] * vectors[k * 3 + i] * vectors[k * 3 + j]).sum();
            assert!((sum - matrix[i * 3 + j]).abs() < 1e-12, "{i} {j}: {sum}");
        }
    }
}

#[test]
fn a_general_system_is_solved_and_a_singular_one_refused() {
    let matrix = [0., 2e6, 1e6, 1., -1., 3., 1e-3, 0., 2e-3];
    let want = [1., -2., 3.];
    let mut x: Vec<f64> =
        (0..3).map(|i| (0..3).map(|j| matrix[i * 3 + j] * want[j]).sum()).collect();
    assert!(solve_square(&mut matrix.clone(), &mut x));
    assert!(x.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{x:?}");
    assert!(!solve_square(&mut [1., 2., 2., 4.], &mut [1., 2.]));
}
