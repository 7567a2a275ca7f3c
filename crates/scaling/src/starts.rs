//! Where to start: for given exponents the two-power laws are linear in `E`, `A` and `B`, so a grid over the exponents
//! with the linear part solved exactly (variable projection) sees the whole landscape for the price of a few columns.
//!
//! The projected problem is least squares of **relative** errors, which is close to least squares of the logarithm and,
//! with weights times the square of the target, is least squares of the level. Its valleys are where the solver starts.
//! [`two_powers`] gives cells of the grid, [`valleys`] the lowest point of each valley that these lie in.

mod amplitudes;
mod descent;

use crate::kernels;
use amplitudes::{Amplitudes, Dots};
use descent::{Descent, Path};

use crate::law::Valley;

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

/// What all pairs of exponents share: targets, roots of weights, the floor's column and what is left of the target
/// without it.
struct Relative {
    minus_y: Vec<f64>,
    root: Vec<f64>,
    floor: Vec<f64>,
    floor_square: f64,
    floor_target: f64,
    /// The target, which is 1 a point, with the floor projected out.
    target: Vec<f64>,
    target_square: f64,
}

impl Relative {
    fn new(log_target: &[f64], weights: &[f64]) -> Self {
        let minus_y: Vec<f64> = log_target.iter().map(|y| -y).collect();
        let root: Vec<f64> = weights.iter().map(|weight| weight.sqrt()).collect();
        let mut floor = minus_y.clone();
        kernels::exp_all(&mut floor);
        floor.iter_mut().zip(&root).for_each(|(value, root)| *value *= root);
        let floor_square = kernels::dot(&floor, &floor);
        let floor_target = kernels::dot(&floor, &root);
        let mut target = root.clone();
        kernels::add_scaled(-floor_target / floor_square, &floor, &mut target);
        let target_square = kernels::dot(&target, &target);
        Self { minus_y, root, floor, floor_square, floor_target, target, target_square }
    }

    /// `√w · exp(exponent · x - y)`: one power, relative to the target.
    fn column(&self, exponent: f64, x: &[f64], out: &mut [f64]) {
        out.copy_from_slice(&self.minus_y);
        kernels::add_scaled(exponent, x, out);
        kernels::exp_all(out);
        out.iter_mut().zip(&self.root).for_each(|(value, root)| *value *= root);
    }

    /// Takes the floor out of a column; how much of it there was, in units of the floor's square.
    fn project(&self, column: &mut [f64]) -> f64 {
        let with_floor = kernels::dot(column, &self.floor);
        kernels::add_scaled(-with_floor / self.floor_square, &self.floor, column);
        with_floor
    }

    /// The amplitude of a floor alone.
    fn typical(&self) -> f64 {
        self.floor_target / self.floor_square
    }
}

/// A column less its mean, which keeps powers near 1.
struct Centred {
    centre: f64,
    column: Vec<f64>,
}

impl Centred {
    fn new(column: &[f64]) -> Self {
        let centre = column.iter().sum::<f64>() / column.len() as f64;
        Self { centre, column: column.iter().map(|x| x - centre).collect() }
    }
}

/// A power's columns for every exponent without what the floor explains of them, with what amplitudes need to know.
struct Powers {
    columns: Vec<Vec<f64>>,
    squares: Vec<f64>,
    with_floor: Vec<f64>,
    with_target: Vec<f64>,
}

impl Powers {
    fn new(shared: &Relative, x: &[f64], exponents: &[f64]) -> Self {
        let n = exponents.len();
        let mut powers = Self {
            columns: Vec::with_capacity(n),
            squares: Vec::with_capacity(n),
            with_floor: Vec::with_capacity(n),
            with_target: Vec::with_capacity(n),
        };
        for &exponent in exponents {
            let mut column = vec![0.; x.len()];
            shared.column(exponent, x, &mut column);
            powers.with_floor.push(shared.project(&mut column));
            powers.squares.push(kernels::dot(&column, &column));
            powers.with_target.push(kernels::dot(&column, &shared.target));
            powers.columns.push(column);
        }
        powers
    }
}

/// All pairs of exponents, row by row of `alpha`.
pub(crate) struct Grid<'a> {
    exponents: &'a [f64],
    cells: Vec<Amplitudes>,
    x: Centred,
    z: Centred,
    shared: Relative,
}

/// The grid of `E + A e^(alpha x) + B e^(beta z)` for columns `x`, `z` (`-ln N`, `-ln D`).
pub(crate) fn two_powers<'a>(
    x: &[f64],
    z: &[f64],
    log_target: &[f64],
    weights: &[f64],
    exponents: &'a [f64],
) -> Grid<'a> {
    let shared = Relative::new(log_target, weights);
    let (x, z) = (Centred::new(x), Centred::new(z));
    let of_x = Powers::new(&shared, &x.column, exponents);
    let of_z = Powers::new(&shared, &z.column, exponents);
    let mut cells = Vec::with_capacity(exponents.len() * exponents.len());
    for (i, u) in of_x.columns.iter().enumerate() {
        for (four, columns) in of_z.columns.chunks(4).enumerate() {
            let column = |k: usize| columns[k.min(columns.len() - 1)].as_slice();
            let cross = kernels::dot4(u, [0, 1, 2, 3].map(column));
            for (k, &uv) in cross[..columns.len()].iter().enumerate() {
                let j = 4 * four + k;
                cells.push(Amplitudes::best(&Dots {
                    uu: of_x.squares[i],
                    uv,
                    vv: of_z.squares[j],
                    ut: of_x.with_target[i],
                    vt: of_z.with_target[j],
                    uf: of_x.with_floor[i],
                    vf: of_z.with_floor[j],
                    ff: shared.floor_square,
                    tf: shared.floor_target,
                    tt: shared.target_square,
                }));
            }
        }
    }
    Grid { exponents, cells, x, z, shared }
}

impl Grid<'_> {
    /// At most `keep` cells, best first: every valley of the grid, then the best of each ninth of it.
    pub(crate) fn spread(&self, keep: usize) -> Vec<Start> {
        self.chosen(keep).into_iter().map(|cell| self.start(cell)).collect()
    }

    /// As [`Grid::spread`], indices of cells.
    fn chosen(&self, keep: usize) -> Vec<usize> {
        let side = self.exponents.len();
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
        valleys
    }

    fn sort(&self, cells: &mut [usize]) {
        cells.sort_by(|&a, &b| self.cells[a].objective.total_cmp(&self.cells[b].objective));
    }

    fn exponents_of(&self, cell: usize) -> [f64; 2] {
        let side = self.exponents.len();
        [self.exponents[cell / side], self.exponents[cell % side]]
    }

    fn start(&self, cell: usize) -> Start {
        self.start_at(self.exponents_of(cell), &self.cells[cell])
    }

    /// Amplitudes that the data ask to be zero are given a hundredth of the target, as zero has no logarithm.
    fn start_at(&self, exponents: [f64; 2], amplitudes: &Amplitudes) -> Start {
        let least = 1e-2 * self.shared.typical();
        let [a, b, e] = amplitudes.values.map(|value| value.max(least).ln());
        let [alpha, beta] = exponents;
        let theta = [a - alpha * self.x.centre, b - beta * self.z.centre, e, alpha, beta];
        Start { objective: amplitudes.objective, theta }
    }

    /// The cell itself if all its amplitudes are positive, else the best of its row and column that is so.
    fn inside(&self, cell: usize) -> Option<usize> {
        let side = self.exponents.len();
        if self.cells[cell].are_positive() {
            return Some(cell);
        }
        let row = (0..side).map(|j| cell / side * side + j);
        let column = (0..side).map(|i| i * side + cell % side);
        let inside = row.chain(column).filter(|&other| self.cells[other].are_positive());
        inside.min_by(|&a, &b| self.cells[a].objective.total_cmp(&self.cells[b].objective))
    }
}

/// The valleys that the cells of the full grid lie in, at most `keep` cells, best first; those around `known` pairs of
/// exponents are left out, unless they are lower there. See [`crate::Law::valleys`].
pub(crate) fn valleys(
    x: &[f64],
    z: &[f64],
    log_target: &[f64],
    weights: &[f64],
    known: &[[f64; 2]],
    keep: usize,
) -> Vec<Valley> {
    let grid = two_powers(x, z, log_target, weights, &EXPONENTS);
    let mut descent = Descent::new(&grid.shared, &grid.x.column, &grid.z.column);
    known.iter().for_each(|&exponents| descent.remember(exponents));
    let n_known = descent.n_known();
    let mut valleys: Vec<Valley> = vec![];
    let mut edges: Vec<usize> = vec![];
    for cell in grid.chosen(keep) {
        let inside = grid.inside(cell);
        let path = inside.map(|inside| descent.follow(grid.exponents_of(inside)));
        // Where an amplitude is zero and the sum of squares lower than down the valley next to it, the cell is a start.
        let is_lower = |path: Path| path.objective() > 1.01 * grid.cells[cell].objective;
        let is_edge = inside != Some(cell) && path.is_none_or(is_lower);
        if is_edge {
            edges.push(cell);
        }
        let starts = usize::from(!is_edge);
        match path {
            Some(Path::Joins(index, _)) if index >= n_known => {
                valleys[index - n_known].starts += starts;
            }
            Some(Path::Ends(exponents, amplitudes)) => {
                let theta = grid.start_at(exponents, &amplitudes).theta.to_vec();
                valleys.push(Valley { theta, starts: 1 });
            }
            _ => {}
        }
    }
    let edge = |cell| Valley { theta: grid.start(cell).theta.to_vec(), starts: 1 };
    valleys.extend(edges.into_iter().map(edge));
    valleys
}

/// Starts `(ln A, alpha, ln E)` of `E + A e^(alpha x)`: the valleys over `alpha`, then the ends and the middle.
pub(crate) fn one_power(x: &[f64], log_target: &[f64], weights: &[f64]) -> Vec<Vec<f64>> {
    let shared = Relative::new(log_target, weights);
    let x = Centred::new(x);
    let powers = Powers::new(&shared, &x.column, &EXPONENTS);
    let least = 1e-4 * shared.typical();
    let mut starts: Vec<(f64, Vec<f64>)> = vec![];
    for (i, &alpha) in EXPONENTS.iter().enumerate() {
        // A second power that is orthogonal to everything.
        let best = Amplitudes::best(&Dots {
            uu: powers.squares[i],
            uv: 0.,
            vv: 1.,
            ut: powers.with_target[i],
            vt: 0.,
            uf: powers.with_floor[i],
            vf: 0.,
            ff: shared.floor_square,
            tf: shared.floor_target,
            tt: shared.target_square,
        });
        let [a, _, e] = best.values.map(|value| value.max(least).ln());
        starts.push((best.objective, vec![a - alpha * x.centre, alpha, e]));
    }
    starts.sort_by(|left, right| left.0.total_cmp(&right.0));
    [0, 1, 2, 5, 9, 15].into_iter().map(|rank| starts[rank].1.clone()).collect()
}

#[cfg(test)]
mod tests;
