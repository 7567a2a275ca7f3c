//! Marker shapes, one for each palette slot, and the marks for what has no place.

use super::svg::number;

/// Half the size of a marker in units.
pub(super) const RADIUS: f64 = 4.2;

/// Path of the marker of palette slot `slot` around `(x, y)`.
pub(super) fn marker(slot: usize, x: f64, y: f64) -> String {
    let r = RADIUS;
    match slot % 6 {
        0 => circle(x, y, r),
        1 => polygon(x, y, &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        2 => polygon(x, y, &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)]),
        3 => polygon(x, y, &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]),
        4 => polygon(x, y, &[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)]),
        _ => {
            let (a, b) = (0.45, 1.25);
            let arms = [
                (-a, -b),
                (a, -b),
                (a, -a),
                (b, -a),
                (b, a),
                (a, a),
                (a, b),
                (-a, b),
                (-a, a),
                (-b, a),
                (-b, -a),
                (-a, -a),
            ];
            polygon(x, y, &arms)
        }
    }
}

/// A cross: diverged.
pub(super) fn cross(x: f64, y: f64) -> String {
    let n = |v: f64| number(v);
    let r = 3.6;
    format!(
        "M{} {}L{} {}M{} {}L{} {}",
        n(x - r),
        n(y - r),
        n(x + r),
        n(y + r),
        n(x - r),
        n(y + r),
        n(x + r),
        n(y - r)
    )
}

/// An arrow head in the direction `(dx, dy)`: beyond the end of the axis.
pub(super) fn arrow(x: f64, y: f64, dx: f64, dy: f64) -> String {
    polygon(
        x,
        y,
        &[
            (1.3 * dx, 1.3 * dy),
            (-0.9 * dx - 1.1 * dy, -0.9 * dy + 1.1 * dx),
            (-0.9 * dx + 1.1 * dy, -0.9 * dy - 1.1 * dx),
        ],
    )
}

/// A dot of a given radius.
pub(super) fn circle(x: f64, y: f64, r: f64) -> String {
    let (left, d, r) = (number(x - r), number(2.0 * r), number(r));
    format!("M{left} {}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z", number(y))
}

/// Corners in units of [`RADIUS`].
fn polygon(x: f64, y: f64, corners: &[(f64, f64)]) -> String {
    let corners: Vec<(f64, f64)> =
        corners.iter().map(|&(dx, dy)| (x + dx * RADIUS, y + dy * RADIUS)).collect();
    super::svg::polyline(&corners) + "z"
}
