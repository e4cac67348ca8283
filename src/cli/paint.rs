//! Plain text for people: columns, ages, and colours that only repeat what the words say.

use std::{io::IsTerminal as _, time::Duration};

use jiff::Timestamp;

/// How a word looks on a terminal. Without one, the word alone must do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is.
    #[default]
    Plain,
    /// A heading or a name.
    Bold,
    /// Well.
    Good,
    /// Unfinished, or needs a look.
    Warn,
    /// Wrong.
    Bad,
}

/// Whether to paint at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    /// On a terminal, unless `NO_COLOR` is set.
    pub(crate) fn stdout() -> Self {
        Self(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()))
    }

    /// The text in that style.
    pub(crate) fn text(self, text: &str, style: Style) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "31",
            Style::Plain => return text.to_owned(),
        };
        if self.0 && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Rows as aligned columns, three spaces apart, as kubectl prints them.
    pub(crate) fn columns(self, rows: &[Vec<Cell>]) -> String {
        let width = |at: usize| rows.iter().filter_map(|r| r.get(at)).map(Cell::width).max().unwrap_or(0);
        let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
        let mut out = String::new();
        for row in rows {
            let last = row.iter().rposition(|c| !c.text.is_empty()).unwrap_or(0);
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate().take(last + 1) {
                out.push_str(&self.text(&cell.text, cell.style));
                if at < last {
                    out.push_str(&" ".repeat(width - cell.width() + 3));
                }
            }
            out.push('\n');
        }
        out
    }
}

/// One field of a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A field in a style.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::Plain)
    }
}

/// A row of headings or of plain fields.
pub(crate) fn row<const N: usize>(fields: [&str; N]) -> Vec<Cell> {
    fields.into_iter().map(Cell::from).collect()
}

/// The style of a phase or an outcome.
pub(crate) fn of_phase(phase: &str) -> Style {
    match phase {
        "Live" => Style::Good,
        "RolledBack" | "RollingBack" | "Halted" | "Refused" => Style::Bad,
        "" => Style::Plain,
        _ => Style::Warn,
    }
}

/// A length of time as kubectl prints ages: two units at most.
pub(crate) fn span(length: Duration) -> String {
    let s = length.as_secs();
    let two = |big: u64, unit: &str, small: u64, lesser: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{lesser}"),
    };
    match s {
        0..120 => format!("{s}s"),
        120..7_200 => two(s / 60, "m", s % 60, "s"),
        7_200..172_800 => two(s / 3600, "h", s / 60 % 60, "m"),
        _ => two(s / 86_400, "d", s / 3600 % 24, "h"),
    }
}

/// How long ago that was; nothing if it is to come.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    span(between(at, now))
}

/// The time from one moment to another; nothing if that is backwards.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_like_kubectls() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (7_200, "2h"), (90_061, "25h1m"), (180_000, "2d2h")] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn columns_line_up_with_and_without_colour_and_leave_no_spaces_behind() {
        let rows = vec![row(["NAME", "PHASE"]), vec!["a-long-name".into(), Cell::styled("Live", Style::Good)], row(["b", ""])];
        assert_eq!(Paint(false).columns(&rows), "NAME          PHASE\na-long-name   Live\nb\n");
        assert!(Paint(true).columns(&rows).contains("a-long-name   \u{1b}[32mLive\u{1b}[0m\n"));
    }
}
