//! Which parameters move: constraints turn the law's parameters into fewer free ones.

use crate::error::{Result, ensure};
use crate::law::{Law, Parameter};
use crate::objective::Constraint;

/// Where a parameter's value comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Slot {
    Free(usize),
    Fixed(f64),
}

/// The map from free parameters to the law's, with bounds of the free ones.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FreeMap {
    pub(crate) slots: Vec<Slot>,
    lower: Vec<f64>,
    upper: Vec<f64>,
    is_identity: bool,
}

impl FreeMap {
    pub(crate) fn new(law: &dyn Law, constraints: &[Constraint]) -> Result<Self> {
        let parameters = law.parameters();
        let find = |name: &String| {
            let index = parameters.iter().position(|parameter| parameter.name == *name);
            let names: Vec<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
            ensure(index.is_some(), "constraint", format!("on one of {}", names.join(", ")), name)?;
            Ok(index.unwrap_or_default())
        };
        let mut same_as: Vec<usize> = (0..parameters.len()).collect();
        let mut fixed = vec![None; parameters.len()];
        for constraint in constraints {
            match constraint {
                Constraint::Equal(left, right) => {
                    let (left, right) = (find(left)?, find(right)?);
                    let agree = parameters[left].scale == parameters[right].scale;
                    let want = format!("like `{}` on one scale", parameters[left].name);
                    ensure(agree, "tied parameter", want, &parameters[right].name)?;
                    let (keep, join) =
                        (same_as[left].min(same_as[right]), same_as[left].max(same_as[right]));
                    same_as.iter_mut().filter(|root| **root == join).for_each(|root| *root = keep);
                }
                Constraint::Fixed(name, value) => {
                    let index = find(name)?;
                    let parameter = &parameters[index];
                    let ok = (parameter.lower..=parameter.upper).contains(value);
                    let want = format!("from {:e} to {:e}", parameter.lower, parameter.upper);
                    ensure(ok, name.as_str(), want, value)?;
                    fixed[index] = Some(parameter.internal(*value));
                }
            }
        }
        let fixed = (0..parameters.len())
            .map(|i| {
                (0..parameters.len()).find_map(|j| fixed[j].filter(|_| same_as[j] == same_as[i]))
            })
            .collect::<Vec<_>>();
        Ok(Self::build(&parameters, &same_as, &fixed))
    }

    fn build(parameters: &[Parameter], same_as: &[usize], fixed: &[Option<f64>]) -> Self {
        let mut map = Self { slots: vec![], lower: vec![], upper: vec![], is_identity: true };
        for (i, parameter) in parameters.iter().enumerate() {
            let [lower, upper] = [parameter.lower, parameter.upper].map(|b| parameter.internal(b));
            let slot = match (fixed[i], same_as[i] == i) {
                (Some(value), _) => Slot::Fixed(value),
                (None, true) => {
                    map.lower.push(lower);
                    map.upper.push(upper);
                    Slot::Free(map.lower.len() - 1)
                }
                (None, false) => {
                    let slot = map.slots[same_as[i]];
                    if let Slot::Free(k) = slot {
                        map.lower[k] = map.lower[k].max(lower);
                        map.upper[k] = map.upper[k].min(upper);
                    }
                    slot
                }
            };
            map.is_identity &= slot == Slot::Free(i);
            map.slots.push(slot);
        }
        map
    }

    pub(crate) fn n_free(&self) -> usize {
        self.lower.len()
    }

    pub(crate) fn is_identity(&self) -> bool {
        self.is_identity
    }

    /// Whether free parameter `k` may move in the direction in which the objective falls.
    pub(crate) fn is_held(&self, k: usize, value: f64, gradient: f64) -> bool {
        (value <= self.lower[k] && gradient > 0.) || (value >= self.upper[k] && gradient < 0.)
    }

    /// Whether a value lies on a bound.
    pub(crate) fn at_bound(&self, k: usize, value: f64) -> bool {
        value <= self.lower[k] || value >= self.upper[k]
    }

    pub(crate) fn clamp(&self, free: &mut [f64]) {
        for (k, value) in free.iter_mut().enumerate() {
            *value = value.max(self.lower[k]).min(self.upper[k]);
        }
    }

    /// The law's parameters from the free ones.
    pub(crate) fn expand(&self, free: &[f64], theta: &mut [f64]) {
        for (slot, theta) in self.slots.iter().zip(theta) {
            *theta = match *slot {
                Slot::Free(k) => free[k],
                Slot::Fixed(value) => value,
            };
        }
    }

    /// Free parameters near given ones of the law: the mean of those that are tied.
    pub(crate) fn reduce(&self, theta: &[f64]) -> Vec<f64> {
        let mut sums = vec![(0., 0.); self.n_free()];
        for (slot, theta) in self.slots.iter().zip(theta) {
            if let Slot::Free(k) = *slot {
                sums[k] = (sums[k].0 + theta, sums[k].1 + 1.);
            }
        }
        sums.into_iter().map(|(sum, count)| sum / count).collect()
    }

    /// Adds a gradient by the law's parameters onto one by the free parameters.
    pub(crate) fn reduce_gradient(&self, of_theta: &[f64], free: &mut [f64]) {
        free.fill(0.);
        for (slot, value) in self.slots.iter().zip(of_theta) {
            if let Slot::Free(k) = *slot {
                free[k] += value;
            }
        }
    }

    /// The lower triangle by the free parameters of a matrix whose lower triangle by the law's is given.
    pub(crate) fn reduce_matrix(&self, lower: &[f64], free: &mut [f64]) {
        let (p, q) = (self.slots.len(), self.n_free());
        free.fill(0.);
        for i in 0..p {
            for j in 0..=i {
                let (Slot::Free(k), Slot::Free(l)) = (self.slots[i], self.slots[j]) else {
                    continue;
                };
                let value = lower[i * p + j];
                // Two tied parameters meet twice in the square of their sum.
                let value = if i != j && k == l { 2. * value } else { value };
                free[k.max(l) * q + k.min(l)] += value;
            }
        }
    }
}
