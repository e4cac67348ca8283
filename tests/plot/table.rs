//! What failed, by version and kind of connection, for people.

use std::fmt::Write as _;

use crate::record::{Records, Sum};

/// One line for each version and kind, and one for all.
pub(crate) fn of(records: &Records) -> String {
    let mut out = row(["version", "connection", "requests", "failed", "with"]);
    for version in records.versions() {
        for ((_, kind), sum) in records.sums.iter().filter(|((of, _), _)| *of == version) {
            out += &line(if version.is_empty() { "nobody" } else { &version }, kind, sum);
        }
    }
    out + &row(["all", "", &records.requests().to_string(), &records.failures().to_string(), ""])
}

fn line(version: &str, kind: &str, sum: &Sum) -> String {
    let with = sum.failed.iter().fold(String::new(), |mut text, (what, count)| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{what} {count}", if text.is_empty() { "" } else { ", " });
        text
    });
    row([version, kind, &sum.requests.to_string(), &sum.failures().to_string(), &with])
}

fn row([version, kind, requests, failed, with]: [&str; 5]) -> String {
    let line = format!("{version:<24} {kind:<10} {requests:>9} {failed:>7}  {with}");
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use crate::record::tests::{line, records};

    #[test]
    fn failures_stand_beside_the_version_and_the_connection_that_had_them() {
        let all = records(&[
            line(1, "fresh", "200", "v1"),
            line(2, "keepalive", "201", "v1"),
            line(3, "fresh", "500", "v2"),
            line(4, "fresh", "500", "v2"),
            line(5, "fresh", "404", "v2"),
            line(6, "keepalive", "reset", ""),
        ]);
        let expected = "\
version                  connection  requests  failed  with
v1                       fresh              1       0
v1                       keepalive          1       0
v2                       fresh              3       3  404 1, 500 2
nobody                   keepalive          1       1  reset 1
all                                         6       4
";
        assert_eq!(super::of(&all), expected);
    }
}
