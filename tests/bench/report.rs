//! What is printed: a table for people, a JSON object a line for programs.

use std::time::Duration;

use serde::Serialize;

/// One figure, beside what the same work costs without Parlor.
#[derive(Debug, Serialize)]
pub struct Figure {
    figure: &'static str,
    value: f64,
    unit: &'static str,
    baseline: Option<f64>,
    ratio: Option<f64>,
}

impl Figure {
    /// A figure and its baseline, in the same unit.
    pub fn new(figure: &'static str, unit: &'static str, value: f64, baseline: f64) -> Self {
        let ratio = Some(value / baseline).filter(|ratio| ratio.is_finite());
        Self { figure, value, unit, baseline: Some(baseline), ratio }
    }

    /// A figure that is compared with nothing.
    pub const fn alone(figure: &'static str, unit: &'static str, value: f64) -> Self {
        Self { figure, value, unit, baseline: None, ratio: None }
    }
}

/// Prints figures as they come.
#[derive(Debug)]
pub struct Report {
    json: bool,
}

impl Report {
    /// Prints the table's head.
    pub fn begin(json: bool) -> Self {
        if !json {
            println!("{:<22} {:>12} {:>12} {:>8}  unit", "figure", "value", "baseline", "ratio");
        }
        Self { json }
    }

    /// Prints a figure.
    pub fn tell(&self, figure: &Figure) {
        if self.json {
            println!("{}", serde_json::to_string(figure).expect("a figure serializes"));
            return;
        }
        let Figure { figure, value, unit, baseline, ratio } = figure;
        let optional = |number: &Option<f64>| number.map_or("-".to_owned(), shown);
        let (value, baseline) = (shown(*value), optional(baseline));
        println!("{figure:<22} {value:>12} {baseline:>12} {:>8}  {unit}", optional(ratio));
    }

    /// Says something that is no figure, where it disturbs no program.
    pub fn note(&self, text: &str) {
        eprintln!("{text}");
    }

    /// Says what the figures hang on.
    pub fn end(&self, quick: bool, took: Duration) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let effort = if quick { "quick" } else { "thorough" };
        self.note(&format!(
            "{cores} cores, {effort}, {:.0} s; no process is pinned to a core, neither Parlor's nor \
             the baseline's; runtimes are current-thread; a baseline is bare quinn with the same \
             keys, or the bare primitive",
            took.as_secs_f64()
        ));
    }
}

/// Three significant digits or more, few enough to be read.
fn shown(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}
