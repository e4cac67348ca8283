//! A measured row: its values, and beside it what another controller needed for the same.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

/// What somebody else needed, measured earlier on a machine like this one.
pub(crate) struct Against {
    pub(crate) what: &'static str,
    pub(crate) median: f64,
}

pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
    pub(crate) against: Option<Against>,
    /// What a reader must know to judge the values.
    pub(crate) notes: Vec<String>,
}

impl Figure {
    /// By nearest rank, so that each value was really measured.
    fn rank(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    }

    fn json(&self) -> Value {
        let mut row = json!({
            "what": self.what, "unit": self.unit, "n": self.values.len(),
            "min": self.rank(0), "median": self.rank(50), "p99": self.rank(99), "max": self.rank(100),
            "values": self.values, "notes": self.notes,
        });
        if let (Some(against), Some(row)) = (&self.against, row.as_object_mut()) {
            row.insert("against".to_owned(), json!({"what": against.what, "median": against.median}));
        }
        row
    }
}

pub(crate) fn print(figures: &[Figure]) {
    println!("\n{:<5} {:<62} {:<9} {:>3} {:>9} {:>9} {:>9} {:>9}", "row", "what", "unit", "n", "min", "median", "p99", "max");
    for figure in figures {
        let rank = |percent| figure.rank(percent).map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let (min, median, p99, max) = (rank(0), rank(50), rank(99), rank(100));
        let n = figure.values.len();
        println!("{:<5} {:<62} {:<9} {n:>3} {min:>9} {median:>9} {p99:>9} {max:>9}", figure.name, figure.what, figure.unit);
        if let Some(against) = &figure.against {
            println!("      against {} ({})", against.median, against.what);
        }
        for note in &figure.notes {
            println!("      {note}");
        }
    }
}

/// One object per row, by name; rows that were not measured this time keep what they had.
pub(crate) fn store(figures: &[Figure]) -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench.json");
    let before = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Map<String, Value>>(&text).ok());
    let mut rows = before.unwrap_or_default();
    for figure in figures {
        rows.insert(figure.name.to_owned(), figure.json());
    }
    std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/target"))?;
    std::fs::write(path, serde_json::to_vec_pretty(&rows)?).context(path)?;
    println!("\nwritten to target/bench.json");
    Ok(())
}

/// From Unix µs to Unix µs, in ms.
pub(crate) fn ms(from_us: i64, to_us: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "hours in µs are far below 2^52")]
    let us = (to_us - from_us) as f64;
    us / 1000.0
}
