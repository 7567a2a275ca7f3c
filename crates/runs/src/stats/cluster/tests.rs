use rand::Rng;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

use super::*;
use crate::stats::spearman;

type Cluster = Vec<(f64, f64)>;

fn correlation(clusters: &[Cluster], left_out: Option<usize>) -> Option<f64> {
    let kept = clusters.iter().enumerate().filter(|(index, _)| Some(*index) != left_out);
    let (x, y): (Vec<f64>, Vec<f64>) =
        kept.flat_map(|(_, cluster)| cluster.iter().copied()).unzip();
    spearman(&x, &y).unwrap()
}

fn interval(clusters: &[Cluster], confidence: f64) -> Option<Interval> {
    let of = |left_out| correlation(clusters, left_out);
    jackknife_correlation(clusters.len(), of, confidence).unwrap()
}

/// `n` clusters of six points whose two coordinates correlate by `rho`; `share` of the variance is the cluster's.
fn draw(n: usize, rho: f64, share: f64, rng: &mut impl Rng) -> Vec<Cluster> {
    let mut pair = |scale: f64| {
        let (a, b): (f64, f64) = (StandardNormal.sample(rng), StandardNormal.sample(rng));
        (scale * a, scale * (rho * a + (1.0 - rho * rho).sqrt() * b))
    };
    let mut cluster = || {
        let level = pair(share.sqrt());
        let points = (0..6).map(|_| pair((1.0 - share).sqrt()));
        points.map(|(x, y)| (level.0 + x, level.1 + y)).collect()
    };
    (0..n).map(|_| cluster()).collect()
}

/// Shares of 300 draws whose interval lies below 0, and above it.
fn one_sided(rho: f64, share: f64) -> (f64, f64) {
    let mut rng = ChaCha20Rng::seed_from_u64(11);
    let (mut below, mut above) = (0, 0);
    for _ in 0..300 {
        let found = interval(&draw(6, rho, share, &mut rng), 0.95).unwrap();
        below += u32::from(found.high < 0.0);
        above += u32::from(found.low > 0.0);
    }
    (f64::from(below) / 300.0, f64::from(above) / 300.0)
}

#[test]
fn independent_sides_are_rarely_called_correlated() {
    for share in [0.0, 0.5, 0.9] {
        let (below, above) = one_sided(0.0, share);
        assert!(below <= 0.06 && above <= 0.06, "{share}: {below} below 0, {above} above");
    }
}

#[test]
fn a_strong_correlation_is_found_although_it_is_clustered() {
    let (below, above) = one_sided(-0.9, 0.5);
    assert!(below > 0.8 && above == 0.0, "{below} below 0, {above} above");
}

#[test]
fn many_points_in_few_clusters_count_as_few() {
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let clusters = draw(6, -0.5, 0.9, &mut rng);
    let crowded: Vec<Cluster> = clusters.iter().map(|cluster| cluster.repeat(20)).collect();
    let (few, many) = (interval(&clusters, 0.95).unwrap(), interval(&crowded, 0.95).unwrap());
    assert!((few.width() - many.width()).abs() < 0.02, "{few:?} {many:?}");
}

#[test]
fn a_higher_confidence_is_wider() {
    let clusters = draw(6, -0.5, 0.5, &mut ChaCha20Rng::seed_from_u64(5));
    let (narrow, wide) = (interval(&clusters, 0.8).unwrap(), interval(&clusters, 0.95).unwrap());
    assert!(wide.low < narrow.low && narrow.high < wide.high);
    assert!(wide.low >= -1.0 && wide.high <= 1.0);
}

#[test]
fn a_correlation_that_hangs_on_one_cluster_has_no_interval() {
    let still = vec![(1.0, 1.0); 3];
    let clusters = [still.clone(), still.clone(), still, vec![(2.0, 3.0), (4.0, 5.0)]];
    assert_eq!(interval(&clusters, 0.95), None);
}

#[test]
fn two_clusters_are_refused_by_name() {
    let message = jackknife_correlation(2, |_| Some(0.5), 0.95).unwrap_err().to_string();
    assert_eq!(message, "`clusters` must be 3 values or more, got 2");
    let message = jackknife_correlation(2, |_| None, 0.95).unwrap_err().to_string();
    assert_eq!(message, "`clusters` must be 3 values or more, got 2");
}
