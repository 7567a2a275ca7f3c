//! Small dense linear algebra: a handful of parameters, row-major lower triangles.

use crate::kernels;

/// Factors the lower triangle of a symmetric `p × p` matrix in place; false unless it is positive definite.
///
/// The matrix is scaled to a unit diagonal first (`scale` receives the factors): with `A` and `alpha` as correlated as
/// scaling laws make them, that leaves a condition number of thousands in place of 1e11.
pub(crate) fn cholesky(matrix: &mut [f64], scale: &mut [f64], damping: f64) -> bool {
    let p = scale.len();
    for i in 0..p {
        let diagonal = matrix[i * p + i];
        if !(diagonal > 0. && diagonal.is_finite()) {
            return false;
        }
        scale[i] = 1. / diagonal.sqrt();
    }
    for i in 0..p {
        for j in 0..=i {
            let mut sum = matrix[i * p + j] * scale[i] * scale[j];
            if i == j {
                sum += damping;
            }
            for k in 0..j {
                sum -= matrix[i * p + k] * matrix[j * p + k];
            }
            if i == j {
                if sum.is_nan() || sum < 1e-14 {
                    return false;
                }
                matrix[i * p + i] = sum.sqrt();
            } else {
                matrix[i * p + j] = sum / matrix[j * p + j];
            }
        }
    }
    true
}

/// Solves with the factor and scale of [`cholesky`], in place.
pub(crate) fn solve(factor: &[f64], scale: &[f64], x: &mut [f64]) {
    let p = scale.len();
    for i in 0..p {
        let mut sum = x[i] * scale[i];
        for k in 0..i {
            sum -= factor[i * p + k] * x[k];
        }
        x[i] = sum / factor[i * p + i];
    }
    for i in (0..p).rev() {
        let mut sum = x[i];
        for k in i + 1..p {
            sum -= factor[k * p + i] * x[k];
        }
        x[i] = sum / factor[i * p + i];
    }
    for (x, scale) in x.iter_mut().zip(scale) {
        *x *= scale;
    }
}

/// Solves a general square system in place by elimination with row pivots, each row in units of its largest element;
/// false if it is singular.
pub(crate) fn solve_square(matrix: &mut [f64], x: &mut [f64]) -> bool {
    let n = x.len();
    if n == 0 {
        return true;
    }
    for (row, x) in matrix.chunks_exact_mut(n).zip(x.iter_mut()) {
        let largest = row.iter().fold(0., |largest: f64, value| largest.max(value.abs()));
        row.iter_mut().for_each(|value| *value /= largest);
        *x /= largest;
    }
    for column in 0..n {
        let size = |row: &usize| matrix[row * n + column].abs();
        let pivot = (column..n).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(column);
        if size(&pivot).is_nan() || size(&pivot) < 1e-14 {
            return false;
        }
        (0..n).for_each(|k| matrix.swap(pivot * n + k, column * n + k));
        x.swap(pivot, column);
        for row in column + 1..n {
            let factor = matrix[row * n + column] / matrix[column * n + column];
            for k in column..n {
                matrix[row * n + k] -= factor * matrix[column * n + k];
            }
            x[row] -= factor * x[column];
        }
    }
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|k| matrix[row * n + k] * x[k]).sum();
        x[row] = (x[row] - known) / matrix[row * n + row];
    }
    x.iter().all(|value| value.is_finite())
}

/// The inverse of a symmetric positive definite matrix whose lower triangle is given, and the condition number of that
/// matrix after scaling it to a unit diagonal.
pub(crate) fn inverse(lower: &[f64], p: usize) -> Option<(Vec<f64>, f64)> {
    let mut factor = lower.to_vec();
    let mut scale = vec![0.; p];
    if !cholesky(&mut factor, &mut scale, 0.) {
        return None;
    }
    let mut inverse = vec![0.; p * p];
    for (j, column) in inverse.chunks_exact_mut(p).enumerate() {
        column[j] = 1.;
        solve(&factor, &scale, column);
    }
    let mut scaled = vec![0.; p * p];
    for i in 0..p {
        for j in 0..=i {
            scaled[i * p + j] = lower[i * p + j] * scale[i] * scale[j];
            scaled[j * p + i] = scaled[i * p + j];
        }
    }
    let values = eigenvalues(scaled, p);
    let (low, high) = (values[0], values[p - 1]);
    Some((inverse, if low > 0. { high / low } else { f64::INFINITY }))
}

/// Eigenvalues of a symmetric matrix, ascending, by Jacobi's rotations.
pub(crate) fn eigenvalues(matrix: Vec<f64>, p: usize) -> Vec<f64> {
    let (mut values, _) = eigen(matrix, p);
    values.sort_by(f64::total_cmp);
    values
}

/// Eigenvalues of a symmetric matrix, in no order, and their vectors row by row.
pub(crate) fn eigen(mut matrix: Vec<f64>, p: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.; p * p];
    (0..p).for_each(|i| vectors[i * p + i] = 1.);
    for _ in 0..60 {
        let off: f64 = (0..p)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| matrix[i * p + j].powi(2))
            .sum();
        if off < 1e-30 {
            break;
        }
        for i in 1..p {
            for j in 0..i {
                rotate(&mut matrix, &mut vectors, p, i, j);
            }
        }
    }
    ((0..p).map(|i| matrix[i * p + i]).collect(), vectors)
}

/// Makes element `(i, j)` zero, and turns the vectors' rows likewise.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], p: usize, i: usize, j: usize) {
    let off = matrix[i * p + j];
    if off == 0. {
        return;
    }
    let theta = (matrix[j * p + j] - matrix[i * p + i]) / (2. * off);
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.).sqrt());
    let c = 1. / (t * t + 1.).sqrt();
    let s = t * c;
    for k in 0..p {
        let (x, y) = (matrix[k * p + i], matrix[k * p + j]);
        matrix[k * p + i] = c * x - s * y;
        matrix[k * p + j] = s * x + c * y;
    }
    for k in 0..p {
        let (x, y) = (matrix[i * p + k], matrix[j * p + k]);
        matrix[i * p + k] = c * x - s * y;
        matrix[j * p + k] = s * x + c * y;
        let (x, y) = (vectors[i * p + k], vectors[j * p + k]);
        vectors[i * p + k] = c * x - s * y;
        vectors[j * p + k] = s * x + c * y;
    }
}

/// Weighted linear least squares of `target` on `columns` by the normal equations; `None` where they are singular.
pub(crate) fn least_squares(
    columns: &[&[f64]],
    target: &[f64],
    weights: &[f64],
) -> Option<Vec<f64>> {
    let p = columns.len();
    let mut gram = vec![0.; p * p];
    let mut right = vec![0.; p];
    for i in 0..p {
        for j in 0..=i {
            gram[i * p + j] = kernels::dot3(weights, columns[i], columns[j]);
        }
        right[i] = kernels::dot3(weights, columns[i], target);
    }
    let mut scale = vec![0.; p];
    if !cholesky(&mut gram, &mut scale, 0.) {
        return None;
    }
    solve(&gram, &scale, &mut right);
    Some(right)
}

#[cfg(test)]
mod tests;
