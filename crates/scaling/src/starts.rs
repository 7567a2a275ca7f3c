//! Where to start: for given exponents the two-power laws are linear in `E`, `A` and `B`, so a grid over the exponents
//! with the linear part solved exactly (variable projection) sees the whole landscape for the price of a few columns.
//!
//! The projected problem is least squares of **relative** errors, which is close to least squares of the logarithm; its
//! valleys are where the solver starts, whatever the objective.

use crate::kernels;
use crate::linalg;

/// Exponents of the full grid, a factor of 1.4 apart.
pub(crate) const EXPONENTS: [f64; 16] = [
    0.02, 0.028, 0.039, 0.055, 0.076, 0.107, 0.149, 0.208, 0.29, 0.406, 0.567, 0.792, 1.107, 1.546,
    2.16, 3.0,
];

/// Exponents where a third parameter multiplies the grid.
pub(crate) const COARSE_EXPONENTS: [f64; 8] = [0.04, 0.08, 0.14, 0.23, 0.36, 0.6, 1.0, 1.8];

/// One cell of a grid: its projected objective and `(ln A, ln B, ln E, alpha, beta)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) objective: f64,
    pub(crate) theta: [f64; 5],
}

/// All cells, row by row of `alpha`.
pub(crate) struct Grid {
    side: usize,
    cells: Vec<Start>,
}

impl Grid {
    /// At most `keep` cells, best first: every valley of the grid, then the best of each ninth of it.
    pub(crate) fn spread(&self, keep: usize) -> Vec<Start> {
        let side = self.side;
        let at = |i: usize, j: usize| self.cells[i * side + j].objective;
        let is_valley = |i: usize, j: usize| {
            let rows = i.saturating_sub(1)..(i + 2).min(side);
            rows.into_iter()
                .all(|k| (j.saturating_sub(1)..(j + 2).min(side)).all(|l| at(k, l) >= at(i, j)))
        };
        let all = (0..side).flat_map(|i| (0..side).map(move |j| (i, j)));
        let mut valleys: Vec<usize> =
            all.clone().filter(|&(i, j)| is_valley(i, j)).map(|(i, j)| i * side + j).collect();
        self.sort(&mut valleys);
        let mut blocks: Vec<Option<usize>> = vec![None; 9];
        for (i, j) in all {
            let block = &mut blocks[3 * i / side * 3 + 3 * j / side];
            let cell = i * side + j;
            if block.is_none_or(|best| self.cells[cell].objective < self.cells[best].objective) {
                *block = Some(cell);
            }
        }
        let mut blocks: Vec<usize> = blocks.into_iter().flatten().collect();
        self.sort(&mut blocks);
        blocks.retain(|cell| !valleys.contains(cell));
        valleys.extend(blocks);
        valleys.truncate(keep);
        valleys.into_iter().map(|cell| self.cells[cell]).collect()
    }

    fn sort(&self, cells: &mut [usize]) {
        cells.sort_by(|&a, &b| self.cells[a].objective.total_cmp(&self.cells[b].objective));
    }
}

/// `√w · exp(exponent · (x - centre) - y)`: one power, relative to the target.
fn relative(exponent: f64, centred: &[f64], minus_y: &[f64], root: &[f64]) -> Vec<f64> {
    let mut column = minus_y.to_vec();
    kernels::add_scaled(exponent, centred, &mut column);
    kernels::exp_all(&mut column);
    column.iter_mut().zip(root).for_each(|(value, root)| *value *= root);
    column
}

/// A power's columns for every exponent, with what the Gram matrix needs of them.
struct Powers {
    centre: f64,
    columns: Vec<Vec<f64>>,
    squares: Vec<f64>,
    with_floor: Vec<f64>,
    with_target: Vec<f64>,
}

/// What all cells share: roots of the weights, the floor's column.
struct Relative {
    minus_y: Vec<f64>,
    root: Vec<f64>,
    floor: Vec<f64>,
}

impl Relative {
    fn new(log_target: &[f64], weights: &[f64]) -> Self {
        let minus_y: Vec<f64> = log_target.iter().map(|y| -y).collect();
        let root: Vec<f64> = weights.iter().map(|weight| weight.sqrt()).collect();
        let mut floor = minus_y.clone();
        kernels::exp_all(&mut floor);
        floor.iter_mut().zip(&root).for_each(|(value, root)| *value *= root);
        Self { minus_y, root, floor }
    }

    fn powers(&self, column: &[f64], exponents: &[f64]) -> Powers {
        let centre = column.iter().sum::<f64>() / column.len() as f64;
        let centred: Vec<f64> = column.iter().map(|x| x - centre).collect();
        let of = |&exponent: &f64| relative(exponent, &centred, &self.minus_y, &self.root);
        let columns: Vec<Vec<f64>> = exponents.iter().map(of).collect();
        let dots = |other: &[f64]| columns.iter().map(|c| kernels::dot(c, other)).collect();
        Powers {
            centre,
            squares: columns.iter().map(|c| kernels::dot(c, c)).collect(),
            with_floor: dots(&self.floor),
            with_target: dots(&self.root),
            columns,
        }
    }
}

/// The grid of `E + A e^(alpha x) + B e^(beta z)` for columns `x`, `z` (`-ln N`, `-ln D`).
pub(crate) fn two_powers(
    x: &[f64],
    z: &[f64],
    log_target: &[f64],
    weights: &[f64],
    exponents: &[f64],
) -> Grid {
    let shared = Relative::new(log_target, weights);
    let (of_x, of_z) = (shared.powers(x, exponents), shared.powers(z, exponents));
    let floor_square = kernels::dot(&shared.floor, &shared.floor);
    let floor_target = kernels::dot(&shared.floor, &shared.root);
    let total = kernels::dot(&shared.root, &shared.root);
    let typical = floor_target / floor_square;
    let mut cells = Vec::with_capacity(exponents.len() * exponents.len());
    for (i, &alpha) in exponents.iter().enumerate() {
        for (j, &beta) in exponents.iter().enumerate() {
            let cross = kernels::dot(&of_x.columns[i], &of_z.columns[j]);
            let gram = [
                [of_x.squares[i], cross, of_x.with_floor[i]],
                [cross, of_z.squares[j], of_z.with_floor[j]],
                [of_x.with_floor[i], of_z.with_floor[j], floor_square],
            ];
            let right = [of_x.with_target[i], of_z.with_target[j], floor_target];
            let (gain, amplitude) = non_negative(&gram, &right);
            let [a, b, e] = amplitude.map(|value| value.max(1e-2 * typical).ln());
            let theta = [a - alpha * of_x.centre, b - beta * of_z.centre, e, alpha, beta];
            cells.push(Start { objective: total - gain, theta });
        }
    }
    Grid { side: exponents.len(), cells }
}

/// Starts `(ln A, alpha, ln E)` of `E + A e^(alpha x)`: the valleys over `alpha`, then the ends and the middle.
pub(crate) fn one_power(x: &[f64], log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>> {
    let shared = Relative::new(log_target, weights);
    let powers = shared.powers(x, &EXPONENTS);
    let floor_square = kernels::dot(&shared.floor, &shared.floor);
    let floor_target = kernels::dot(&shared.floor, &shared.root);
    let typical = floor_target / floor_square;
    let mut starts: Vec<(f64, Vec<f64>)> = vec![];
    for (i, &alpha) in EXPONENTS.iter().enumerate() {
        let gram = [
            [powers.squares[i], powers.with_floor[i], 0.],
            [powers.with_floor[i], floor_square, 0.],
            [0., 0., 1.],
        ];
        let (gain, amplitude) = non_negative(&gram, &[powers.with_target[i], floor_target, 0.]);
        let [a, e, _] = amplitude.map(|value| value.max(1e-4 * typical).ln());
        starts.push((-gain, vec![a - alpha * powers.centre, alpha, e]));
    }
    starts.sort_by(|left, right| left.0.total_cmp(&right.0));
    [0, 1, 2, 5, 9, 15].into_iter().map(|rank| starts[rank].1.clone()).collect()
}

/// Non-negative least squares in three columns, by trying every support: the explained square and the coefficients.
fn non_negative(gram: &[[f64; 3]; 3], right: &[f64; 3]) -> (f64, [f64; 3]) {
    const SUPPORTS: [&[usize]; 7] = [&[0, 1, 2], &[0, 1], &[0, 2], &[1, 2], &[0], &[1], &[2]];
    let mut best = (0., [0.; 3]);
    for support in SUPPORTS {
        let k = support.len();
        let (mut factor, mut scale, mut x) = ([0.; 9], [0.; 3], [0.; 3]);
        for (i, &row) in support.iter().enumerate() {
            for (j, &column) in support.iter().enumerate() {
                factor[i * k + j] = gram[row][column];
            }
            x[i] = right[row];
        }
        if !linalg::cholesky(&mut factor[..k * k], &mut scale[..k], 0.) {
            continue;
        }
        linalg::solve(&factor[..k * k], &scale[..k], &mut x[..k]);
        if x[..k].iter().any(|&value| value < 0.) {
            continue;
        }
        let gain: f64 = support.iter().zip(&x).map(|(&row, value)| right[row] * value).sum();
        if gain > best.0 {
            let mut coefficients = [0.; 3];
            support.iter().zip(&x).for_each(|(&row, &value)| coefficients[row] = value);
            best = (gain, coefficients);
        }
        if k == 3 {
            break; // The unconstrained optimum is feasible.
        }
    }
    best
}
