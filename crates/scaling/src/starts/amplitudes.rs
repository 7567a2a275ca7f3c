//! The best non-negative amplitudes of two powers and a floor, in closed form.

/// Dot products of the columns of two powers `u`, `v` and of the target `t` from which the floor `f` was projected out,
/// and of the floor with what they were before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dots {
    pub(super) uu: f64,
    pub(super) uv: f64,
    pub(super) vv: f64,
    pub(super) ut: f64,
    pub(super) vt: f64,
    pub(super) uf: f64,
    pub(super) vf: f64,
    pub(super) ff: f64,
    pub(super) tf: f64,
    pub(super) tt: f64,
}

/// Amplitudes of the first power, the second and the floor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amplitudes {
    pub(super) values: [f64; 3],
    /// The sum of squares that is left.
    pub(super) objective: f64,
}

/// Determinants below this, relative, are rounding.
const SINGULAR: f64 = 1e-13;

/// The solution of `[uu uv; uv vv] (a, b) = (ut, vt)`; none where that is singular.
fn pair(uu: f64, uv: f64, vv: f64, ut: f64, vt: f64) -> Option<[f64; 2]> {
    let determinant = uu * vv - uv * uv;
    let ok = determinant > SINGULAR * uu * vv;
    ok.then(|| [(ut * vv - vt * uv) / determinant, (vt * uu - ut * uv) / determinant])
}

impl Amplitudes {
    pub(super) fn are_positive(&self) -> bool {
        self.values.iter().all(|&value| value > 0.)
    }

    /// Least squares where all three are positive; `None` where one would not be.
    pub(super) fn inside(dots: &Dots) -> Option<Self> {
        let Dots { uu, uv, vv, ut, vt, uf, vf, ff, tf, tt } = *dots;
        let [a, b] = pair(uu, uv, vv, ut, vt)?;
        let e = (tf - a * uf - b * vf) / ff;
        let found = Self { values: [a, b, e], objective: (tt - a * ut - b * vt).max(0.) };
        found.are_positive().then_some(found)
    }

    /// Non-negative least squares: where the unconstrained solution is not feasible, the best of those with one or two
    /// of the amplitudes.
    pub(super) fn best(dots: &Dots) -> Self {
        if let Some(found) = Self::inside(dots) {
            return found;
        }
        let Dots { uu, uv, vv, ut, vt, uf, vf, ff, tf, tt } = *dots;
        // With the floor put back, by which every sum of squares below is reckoned.
        let (full_uu, full_uv, full_vv) = (uu + uf * uf / ff, uv + uf * vf / ff, vv + vf * vf / ff);
        let (full_ut, full_vt, by_floor) = (ut + uf * tf / ff, vt + vf * tf / ff, tf * tf / ff);
        let mut best = Self { values: [0., 0., tf / ff], objective: tt };
        let mut consider = |values: [f64; 3], gain: f64| {
            let objective = (tt + by_floor - gain).max(0.);
            if objective < best.objective && values.iter().all(|&value| value >= 0.) {
                best = Self { values, objective };
            }
        };
        consider([full_ut / full_uu, 0., 0.], full_ut * full_ut / full_uu);
        consider([0., full_vt / full_vv, 0.], full_vt * full_vt / full_vv);
        if uu > SINGULAR * full_uu {
            let a = ut / uu;
            consider([a, 0., (tf - a * uf) / ff], by_floor + a * ut);
        }
        if vv > SINGULAR * full_vv {
            let b = vt / vv;
            consider([0., b, (tf - b * vf) / ff], by_floor + b * vt);
        }
        if let Some([a, b]) = pair(full_uu, full_uv, full_vv, full_ut, full_vt) {
            consider([a, b, 0.], a * full_ut + b * full_vt);
        }
        best
    }
}
