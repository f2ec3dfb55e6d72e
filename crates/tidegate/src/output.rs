//! What people read: tables, records, ages. Nothing that a client chose can move the cursor of a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use serde_json::Value;

/// Longest cell of a table, in characters; what is longer is cut and ends in `…`.
const LONGEST_CELL: usize = 60;

/// How a member of an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// As it is.
    Text,
    /// A number: to the right.
    Number,
    /// A time: how long ago, or in how long.
    Age,
    /// A list: joined by commas.
    List,
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Member of the object; `a.b` is one further in.
    pub(crate) member: &'static str,
    pub(crate) shown: Shown,
}

/// A column; see [`Column`].
pub(crate) const fn column(title: &'static str, member: &'static str, shown: Shown) -> Column {
    Column { title, member, shown }
}

/// A table whose rows come in pages; columns only ever get wider.
#[derive(Debug)]
pub(crate) struct Table {
    columns: &'static [Column],
    widths: Vec<usize>,
    has_title: bool,
    is_colored: bool,
}

impl Table {
    pub(crate) fn new(columns: &'static [Column]) -> Self {
        let widths = columns.iter().map(|column| column.title.chars().count()).collect();
        Self { columns, widths, has_title: false, is_colored: is_colored() }
    }

    /// For output that is not only lines.
    pub(crate) fn without_color(columns: &'static [Column]) -> Self {
        Self { is_colored: false, ..Self::new(columns) }
    }

    /// The lines of these rows; the first time with the title.
    pub(crate) fn lines(&mut self, rows: &[Value], now: u64) -> String {
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|row| self.columns.iter().map(|column| cell(row, column, now)).collect())
            .collect();
        for row in &cells {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        if !self.has_title {
            self.has_title = true;
            let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_owned()).collect();
            let line = self.line(&titles);
            text.push_str(&if self.is_colored { format!("\x1b[1m{line}\x1b[0m") } else { line });
            text.push('\n');
        }
        for row in &cells {
            text.push_str(&self.line(row));
            text.push('\n');
        }
        text
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for ((cell, width), column) in cells.iter().zip(&self.widths).zip(self.columns) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            match column.shown {
                Shown::Number => line.push_str(&format!("{padding}{cell}  ")),
                Shown::Text | Shown::Age | Shown::List => line.push_str(&format!("{cell}{padding}  ")),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

fn cell(row: &Value, column: &Column, now: u64) -> String {
    let value = column.member.split('.').fold(row, |value, name| &value[name]);
    let text = show(value, column.shown, now);
    match text.chars().count() > LONGEST_CELL {
        true => text.chars().take(LONGEST_CELL - 1).chain(['…']).collect(),
        false => text,
    }
}

/// One value on one line.
pub(crate) fn show(value: &Value, shown: Shown, now: u64) -> String {
    match (shown, value) {
        (_, Value::Null) => "-".to_owned(),
        (_, Value::Array(items)) if items.is_empty() => "-".to_owned(),
        (Shown::Age, value) => match millis(value) {
            Some(at) => age(at, now),
            None => plain(&text_of(value)),
        },
        (_, Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| plain(&text_of(item))).collect();
            items.join(", ")
        }
        (_, value) => plain(&text_of(value)),
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Without characters that a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_shown(c) { c } else { '\u{fffd}' }).collect()
}

fn is_shown(c: char) -> bool {
    // Direction marks can make a line read as something else.
    !c.is_control()
        && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// Milliseconds since 1970 of a time: RFC 3339, or a number of milliseconds.
fn millis(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => {
            let time: jiff::Timestamp = text.parse().ok()?;
            u64::try_from(time.as_millisecond()).ok()
        }
        value => value.as_u64(),
    }
}

/// Now, in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
}

/// How long ago, or in how long: `3 m`, `in 2 h`.
fn age(at: u64, now: u64) -> String {
    match at > now.saturating_add(999) {
        true => format!("in {}", span((at - now).div_ceil(1000))),
        false => span(now.saturating_sub(at) / 1000),
    }
}

/// Seconds in the largest unit that fits.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} m", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// An object, one member a line; times with their age.
pub(crate) fn record(object: &Value, now: u64) -> String {
    let members = object.as_object().into_iter().flatten();
    let members: Vec<(String, String)> = members
        .map(|(name, value)| {
            let mut text = show(value, Shown::List, now);
            if name.ends_with("_at") && millis(value).is_some() {
                text = format!("{text} ({})", show(value, Shown::Age, now));
            }
            (plain(&name.replace('_', " ")), text)
        })
        .collect();
    let width = members.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for (name, value) in members {
        let padding = " ".repeat(width - name.chars().count());
        text.push_str(&format!("{name}{padding}  {value}\n"));
    }
    text
}

/// An open connection: what is known of it, then its newest messages, one in a line.
pub(crate) fn connection(object: &Value, now: u64) -> String {
    let mut shown = object.clone();
    let recent = shown.as_object_mut().and_then(|members| members.remove("recent_messages"));
    let mut text = record(&shown, now);
    for message in recent.as_ref().and_then(Value::as_array).into_iter().flatten() {
        let member = |name: &str| plain(message[name].as_str().unwrap_or_default());
        text.push_str(&format!("{:<3}  {}  {} bytes\n", member("way"), member("at"), message["size"]));
    }
    text
}

/// `1 connection`, `2 connections`.
pub(crate) fn count(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// Writes to the standard output.
///
/// # Errors
/// Nobody reads any more, or the disk is full.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Whether the output is a terminal that may have colors. Source: no-color.org.
pub(crate) fn is_colored() -> bool {
    io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        column("ID", "id", Shown::Text),
        column("N", "counts.n", Shown::Number),
        column("SINCE", "at", Shown::Age),
        column("CHANNELS", "channels", Shown::List),
    ];

    #[test]
    fn tables_are_aligned_over_pages() {
        let mut table = Table::without_color(COLUMNS);
        let rows = [
            json!({ "id": "a", "counts": { "n": 5 }, "at": 1000, "channels": ["x", "y"] }),
            json!({ "id": "long", "counts": { "n": 12 }, "at": null, "channels": [] }),
        ];
        assert_eq!(
            table.lines(&rows, 61_000),
            "ID     N  SINCE  CHANNELS\na      5  60 s   x, y\nlong  12  -      -\n"
        );
        let next = json!({ "id": "b", "at": "1970-01-01T00:05:00Z" });
        assert_eq!(table.lines(&[next], 60_000), "b      -  in 4 m  -\n");
    }

    #[test]
    fn ages_have_one_unit() {
        for (seconds, expected) in
            [(0, "0 s"), (119, "119 s"), (120, "2 m"), (7199, "119 m"), (7200, "2 h"), (172_800, "2 d")]
        {
            assert_eq!(span(seconds), expected);
        }
        // A clock that is a little behind says no nonsense.
        assert_eq!(age(1500, 1000), "0 s");
    }

    #[test]
    fn nothing_that_a_client_chose_reaches_the_terminal_raw() {
        let row = json!({ "id": "\u{1b}[2J\r\nroot\u{202e}", "channels": ["a\tb"] });
        let mut table = Table::without_color(COLUMNS);
        let text = table.lines(std::slice::from_ref(&row), 0);
        assert_eq!(text.lines().count(), 2, "{text:?}");
        for text in [text, record(&row, 0)] {
            assert!(!text.contains(['\u{1b}', '\r', '\t', '\u{202e}']), "{text:?}");
        }
    }

    #[test]
    fn long_cells_are_cut() {
        let text = cell(&json!({ "id": "ä".repeat(100) }), &COLUMNS[0], 0);
        assert_eq!((text.chars().count(), text.ends_with('…')), (LONGEST_CELL, true));
    }
}
