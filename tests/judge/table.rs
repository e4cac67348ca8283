//! Lines of the table: what was measured, against which limit, and whether it holds.

/// Prints one line. None: nothing is promised.
pub(crate) fn line(row: &str, what: &str, measured: &str, limit: &str, holds: Option<bool>) {
    let word = match holds {
        Some(true) => "OK",
        Some(false) => "NOT",
        None => "-",
    };
    println!("{row:<4} {what:<58} {measured:<58} {limit:<28} {word}");
}

/// The upper 95 % limit of a count of rare events (Poisson, one-sided): the mean at which so few have a chance of 5 %.
pub(crate) fn upper(count: usize) -> f64 {
    if count > 200 {
        return count as f64 + 1.645 * (count as f64).sqrt();
    }
    let at_most = |mean: f64| {
        let (mut term, mut sum) = ((-mean).exp(), 0.0);
        for k in 0..=count {
            sum += term;
            term *= mean / (k + 1) as f64;
        }
        sum
    };
    let (mut low, mut high) = (0.0, 20.0 + 3.0 * count as f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

/// A share of runs in percent, with its upper 95 % limit.
pub(crate) fn share(count: usize, runs: usize) -> String {
    format!("{count} of {runs} (≤ {:.3} %)", 100.0 * upper(count) / runs as f64)
}

pub(crate) fn percent(count: usize, runs: usize) -> String {
    format!("{:.1} %", 100.0 * count as f64 / runs.max(1) as f64)
}

/// By nearest rank; what never happened is infinite.
pub(crate) fn rank(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
