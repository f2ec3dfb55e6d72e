//! What was measured, and how it stands against the budgets.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// What a figure is allowed to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
    /// Nothing is promised; shown to explain the others.
    None,
}

/// One figure.
#[derive(Debug)]
struct Row {
    benchmark: String,
    what: String,
    measured: f64,
    unit: &'static str,
    budget: Budget,
}

/// The figures of one run.
#[derive(Debug)]
pub struct Report {
    benchmark: String,
    rows: Vec<Row>,
    failures: Vec<(String, String)>,
}

impl Report {
    /// An empty report of a benchmark.
    pub fn new(benchmark: &str) -> Self {
        Self { benchmark: benchmark.to_owned(), rows: Vec::new(), failures: Vec::new() }
    }

    /// Adds a figure.
    pub fn row(&mut self, what: impl Into<String>, measured: f64, unit: &'static str, budget: Budget) {
        self.rows.push(Row { benchmark: self.benchmark.clone(), what: what.into(), measured, unit, budget });
    }

    /// Takes over the figures of another report.
    pub fn append(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.failures.extend(other.failures);
    }

    /// Says that a benchmark gave no figures, and why.
    pub fn failed(&mut self, benchmark: &str, error: &str) {
        self.failures.push((benchmark.to_owned(), error.to_owned()));
    }

    /// For a person: benchmark, figure, measured, budget, met or not.
    pub fn to_table(&self) -> String {
        let mut table = String::new();
        let width = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0).max(6);
        let head = ("benchmark", "figure", "measured", "unit", "budget", "met");
        let _ = writeln!(
            table,
            "{:<13} {:<width$} {:>12} {:<8} {:>12} {}",
            head.0, head.1, head.2, head.3, head.4, head.5
        );
        for row in &self.rows {
            let budget = match row.budget {
                Budget::AtLeast(limit) => format!(">= {}", number(limit)),
                Budget::AtMost(limit) => format!("<= {}", number(limit)),
                Budget::None => String::new(),
            };
            let met = match row.is_met() {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "",
            };
            let line = format!(
                "{:<13} {:<width$} {:>12} {:<8} {budget:>12} {met}",
                row.benchmark,
                row.what,
                number(row.measured),
                row.unit
            );
            let _ = writeln!(table, "{}", line.trim_end());
        }
        for (benchmark, error) in &self.failures {
            let _ = writeln!(table, "{benchmark:<13} failed: {error}");
        }
        table
    }

    /// For a program: `{"benchmark", "rows": [{"benchmark", "what", "measured", "unit", "budget", "met"}], "failures"}`.
    pub fn to_json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let budget = match row.budget {
                    Budget::AtLeast(limit) => json!({"atLeast": limit}),
                    Budget::AtMost(limit) => json!({"atMost": limit}),
                    Budget::None => Value::Null,
                };
                json!({"benchmark": row.benchmark, "what": row.what, "measured": row.measured,
                       "unit": row.unit, "budget": budget, "met": row.is_met()})
            })
            .collect();
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|(benchmark, error)| json!({"benchmark": benchmark, "error": error}))
            .collect();
        json!({"benchmark": self.benchmark, "rows": rows, "failures": failures})
    }
}

impl Row {
    fn is_met(&self) -> Option<bool> {
        match self.budget {
            Budget::AtLeast(limit) => Some(self.measured >= limit),
            Budget::AtMost(limit) => Some(self.measured <= limit),
            Budget::None => None,
        }
    }
}

/// Three digits that matter, thousands grouped.
fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if value < 0.0 { format!("-{grouped}") } else { grouped }
}

/// The middle value; the mean of the two middle ones for an even count, 0 without values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(1.5), "1.50");
        assert_eq!(number(100.0), "100");
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(-1234.0), "-1,234");
    }

    #[test]
    fn a_figure_is_held_against_its_budget() {
        let mut report = Report::new("x");
        report.row("low", 1.0, "s", Budget::AtMost(1.0));
        report.row("high", 1.0, "s", Budget::AtLeast(2.0));
        report.row("free", 1.0, "s", Budget::None);
        let json = report.to_json();
        let met: Vec<&Value> = json["rows"].as_array().expect("rows").iter().map(|row| &row["met"]).collect();
        assert_eq!(met, [&json!(true), &json!(false), &Value::Null]);
        assert!(report.to_table().contains("NO"));
    }
}
