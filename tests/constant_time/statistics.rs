//! Welch's t, over cropped measurements.

/// Of each class the slowest runs are left out from ever lower bounds on, because interrupts and
/// other programs drown small differences.
const CROPS: u32 = 20;

/// Fewer runs than this in a class say nothing.
const FEWEST: usize = 200;

/// The t of the largest amount, over all measurements and over the cropped ones.
pub(crate) fn largest_t(times: &[Vec<f64>; 2]) -> f64 {
    let mut sorted = times.concat();
    sorted.sort_by(f64::total_cmp);
    let bounds = (1..=CROPS).map(|crop| {
        let kept = 1.0 - 0.5_f64.powf(10.0 * f64::from(crop) / f64::from(CROPS));
        sorted[((sorted.len() - 1) as f64 * kept) as usize]
    });
    let ts = bounds.chain([f64::INFINITY]).filter_map(|bound| welch_t(times, bound));
    ts.max_by(|one, other| one.abs().total_cmp(&other.abs())).unwrap_or_default()
}

/// The difference of the means by its standard error, of the times up to `bound`.
fn welch_t(times: &[Vec<f64>; 2], bound: f64) -> Option<f64> {
    let [(mean_0, error_0), (mean_1, error_1)] =
        [moments(&times[0], bound)?, moments(&times[1], bound)?];
    let error = (error_0 + error_1).sqrt();
    (error > 0.0).then(|| (mean_0 - mean_1) / error)
}

/// The mean, and its variance.
fn moments(times: &[f64], bound: f64) -> Option<(f64, f64)> {
    let kept: Vec<f64> = times.iter().copied().filter(|time| *time <= bound).collect();
    if kept.len() < FEWEST {
        return None;
    }
    let count = kept.len() as f64;
    let mean = kept.iter().sum::<f64>() / count;
    let squares: f64 = kept.iter().map(|time| (time - mean).powi(2)).sum();
    Some((mean, squares / (count - 1.0) / count))
}
