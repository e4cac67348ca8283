//! The picture: stacked areas of the versions' shares, failures below, moments above. The same records give the same bytes.

use std::fmt::Write as _;

use crate::record::{Mark, Records, Second};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 940.0;
/// Room for the title, the legend, and the words of the moments.
const TOP: f64 = 120.0;
const BOTTOM: f64 = 340.0;
/// Failures have a strip of their own: one among thousands would not be seen in the areas.
const STRIP: f64 = 360.0;
const STRIP_END: f64 = 400.0;
const HEIGHT: f64 = 450.0;
/// More steps than this are narrower than a pixel and a half.
const STEPS: i64 = 600;
/// Distances of ticks, in seconds; at most twelve stand on the axis.
const TICKS: [i64; 12] = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800];
/// Words of moments take turns on so many lines.
const LINES: usize = 4;
/// Blue, orange, green, purple, brown, teal: apart for most eyes, also in grey. Who comes after takes them again.
const COLOURS: [&str; 6] = ["#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d755d", "#72b7b2"];
const NOBODY: &str = "#bbbbbb";
const FAILED: &str = "#d62728";

/// The records as SVG.
pub(crate) fn draw(title: &str, records: &Records, marks: &[Mark]) -> String {
    let Some(chart) = Chart::of(records) else { return frame(title, &text(LEFT, TOP, "start", "no requests")) };
    let mut body = String::new();
    chart.legend(&mut body);
    chart.areas(&mut body);
    chart.axes(&mut body);
    chart.failures(&mut body);
    chart.marks(&mut body, marks);
    frame(title, &body)
}

struct Chart<'a> {
    records: &'a Records,
    versions: Vec<String>,
    /// Unix second of the first request.
    begun: i64,
    /// Seconds in one step of the areas.
    step: i64,
    steps: Vec<Second>,
}

impl<'a> Chart<'a> {
    fn of(records: &'a Records) -> Option<Self> {
        let (begun, end) = (*records.seconds.keys().next()?, *records.seconds.keys().next_back()?);
        let span = end - begun + 1;
        let step = (span + STEPS - 1) / STEPS;
        let count = usize::try_from((span + step - 1) / step).ok()?;
        let mut steps = vec![Second::default(); count];
        for (at, second) in &records.seconds {
            let index = usize::try_from((at - begun) / step).ok()?;
            steps.get_mut(index)?.add(second);
        }
        Some(Self { records, versions: records.versions(), begun, step, steps })
    }

    /// Seconds from the left end of the picture to its right end.
    fn span(&self) -> f64 {
        number(self.steps.len()) * seconds(self.step)
    }

    fn x(&self, after: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * after / self.span()
    }

    fn x_of(&self, step: usize) -> f64 {
        self.x(number(step) * seconds(self.step))
    }

    fn colour(&self, version: &str) -> &'static str {
        let index = self.versions.iter().position(|one| one == version).unwrap_or(0);
        if version.is_empty() { NOBODY } else { COLOURS.get(index % COLOURS.len()).copied().unwrap_or(NOBODY) }
    }

    fn legend(&self, body: &mut String) {
        let mut x = LEFT;
        for version in &self.versions {
            let sum = self.records.of_version(version);
            let name = if version.is_empty() { "nobody answered" } else { version };
            let says = format!("{name}: {} requests, {} failed", sum.requests, sum.failures());
            let _ = writeln!(body, r#"<rect x="{x:.1}" y="36" width="10" height="10" fill="{}"/>"#, self.colour(version));
            *body += &text(x + 14.0, 45.0, "start", &says);
            x += 30.0 + 5.7 * number(says.chars().count());
        }
    }

    /// From the bottom: who came first. A step in which nobody asked stays empty.
    fn areas(&self, body: &mut String) {
        for (index, version) in self.versions.iter().enumerate() {
            let below = self.versions.get(..index).unwrap_or_default();
            let mut path = String::new();
            for (at, step) in self.steps.iter().enumerate().filter(|(_, step)| step.answered.contains_key(version)) {
                let share = |versions: &[String]| {
                    let count: u64 = versions.iter().filter_map(|version| step.answered.get(version)).sum();
                    y(share_of(count, step.requests()))
                };
                let (low, high) = (share(below), share(self.versions.get(..=index).unwrap_or_default()));
                let _ = write!(path, "M{:.1} {low:.1}V{high:.1}H{:.1}V{low:.1}Z", self.x_of(at), self.x_of(at + 1));
            }
            let _ = writeln!(body, r#"<path d="{path}" fill="{}" shape-rendering="crispEdges"/>"#, self.colour(version));
        }
    }

    fn axes(&self, body: &mut String) {
        for percent in [0, 25, 50, 75, 100] {
            let y = y(f64::from(percent) / 100.0);
            let _ = writeln!(body, r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="#000" stroke-opacity="0.15"/>"##);
            *body += &text(LEFT - 6.0, y + 4.0, "end", &format!("{percent} %"));
        }
        let tick = TICKS.into_iter().find(|tick| self.span() / seconds(*tick) <= 12.0).unwrap_or(3600);
        let mut at = 0;
        while seconds(at) <= self.span() {
            let x = self.x(seconds(at));
            let _ = writeln!(body, r##"<path d="M{x:.1} {BOTTOM}v5" stroke="#000"/>"##);
            *body += &text(x, STRIP_END + 16.0, "middle", &at.to_string());
            at += tick;
        }
        *body += &text(f64::midpoint(LEFT, RIGHT), STRIP_END + 34.0, "middle", "seconds since the first request");
    }

    fn failures(&self, body: &mut String) {
        let most = self.steps.iter().map(|step| step.failed).max().unwrap_or(0);
        let _ = writeln!(body, r##"<path d="M{LEFT} {STRIP_END}H{RIGHT}" stroke="#000" stroke-opacity="0.4"/>"##);
        *body += &text(LEFT - 6.0, STRIP_END - 14.0, "end", "failed");
        if most == 0 {
            *body += &text(f64::midpoint(LEFT, RIGHT), STRIP_END - 14.0, "middle", "no request failed");
            return;
        }
        for (at, step) in self.steps.iter().enumerate().filter(|(_, step)| step.failed > 0) {
            let (x, width) = (self.x_of(at), (self.x_of(at + 1) - self.x_of(at)).max(1.5));
            // The least is seen too.
            let height = ((STRIP_END - STRIP) * share_of(step.failed, most)).max(3.0);
            let top = STRIP_END - height;
            let _ = writeln!(body, r#"<rect x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" fill="{FAILED}"/>"#);
        }
        *body += &text(RIGHT, STRIP - 4.0, "end", &format!("at most {most} in {} s", self.step));
    }

    fn marks(&self, body: &mut String, marks: &[Mark]) {
        let after = |mark: &Mark| micros(mark.at_us - self.begun * 1_000_000);
        let inside = marks.iter().filter(|mark| (0.0..=self.span()).contains(&after(mark)));
        for (index, mark) in inside.enumerate() {
            let x = self.x(after(mark));
            let line = TOP - 52.0 + 13.0 * number(index % LINES);
            let _ = writeln!(body, r##"<path d="M{x:.1} {:.1}V{STRIP_END}" stroke="#000" stroke-dasharray="3 3"/>"##, line + 3.0);
            let (anchor, x) = if x > f64::midpoint(LEFT, RIGHT) { ("end", x - 3.0) } else { ("start", x + 3.0) };
            *body += &text(x, line + 3.0, anchor, &mark.says);
        }
    }
}

fn frame(title: &str, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n{body}</svg>\n",
        escaped(title)
    )
}

fn text(x: f64, y: f64, anchor: &str, says: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n", escaped(says))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn y(share: f64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * share
}

fn share_of(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "requests of one run")]
    let share = part as f64 / whole.max(1) as f64;
    share
}

#[expect(clippy::cast_precision_loss, reason = "steps and letters of one picture")]
fn number(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "an hour at most")]
fn seconds(count: i64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "an hour at most")]
fn micros(count: i64) -> f64 {
    count as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::record::tests::{line, records};

    const BEGUN: i64 = 1_795_000_000_000_000;

    /// Twenty seconds: v1, then a step of v2, all of it, and back; some failures.
    fn run() -> Records {
        let mut lines = Vec::new();
        for at in 0..20_i64 {
            for nth in 0..20 {
                let share = match at {
                    5..=8 => 5,
                    9..=12 => 20,
                    _ => 0,
                };
                let version = if nth < share { "v2" } else { "v1" };
                let result = if version == "v2" && at == 12 && nth < 4 { "500" } else { "200" };
                let kind = if nth % 2 == 0 { "fresh" } else { "keepalive" };
                lines.push(line(BEGUN + at * 1_000_000 + nth * 50_000, kind, result, version));
            }
        }
        lines.push(line(BEGUN + 13_100_000, "fresh", "reset", ""));
        records(&lines)
    }

    fn marks() -> Vec<Mark> {
        let mark = |after_ms: i64, says: &str| Mark { at_us: BEGUN + after_ms * 1_000, says: says.to_owned() };
        vec![mark(-500, "before"), mark(4_800, "v2 at 25 %"), mark(8_900, "v2 at 100 %"), mark(13_000, "<back> & away")]
    }

    #[test]
    fn the_picture_is_the_one_that_was_looked_at() {
        let drawn = draw("A release that fails", &run(), &marks());
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/plot/golden.svg");
        if std::env::var("UPDATE").is_ok() {
            std::fs::write(&path, &drawn).unwrap();
        }
        assert_eq!(drawn, std::fs::read_to_string(&path).unwrap(), "UPDATE=1 keeps the new one; look at it first");
    }

    #[test]
    fn what_is_drawn_is_what_was_recorded() {
        let drawn = draw("t", &run(), &marks());
        for says in
            ["v1: 300 requests, 0 failed", "v2: 100 requests, 4 failed", "nobody answered: 1 requests, 1 failed", "at most 4 in 1 s"]
        {
            assert!(drawn.contains(says), "{says} is not in\n{drawn}");
        }
        assert!(drawn.contains("&lt;back&gt; &amp; away") && !drawn.contains("before"));
        assert_eq!(drawn.matches(FAILED).count(), 2, "one mark for each second with a failure");
        // A fourth of the height, from the upper edge of v1 to the top of the chart.
        assert!(drawn.contains(&format!("M{:.1} {:.1}V{TOP:.1}", LEFT + 884.0 / 20.0 * 5.0, BOTTOM - 220.0 * 0.75)), "{drawn}");
    }

    #[test]
    fn a_run_without_failures_says_so() {
        let drawn = draw("t", &records(&[line(BEGUN, "fresh", "200", "v1")]), &[]);
        assert!(drawn.contains("no request failed") && !drawn.contains(FAILED));
        assert!(draw("t", &Records::default(), &[]).contains("no requests"));
    }

    #[test]
    fn a_long_run_is_drawn_in_wider_steps() {
        let lines: Vec<String> = (0..1_800).map(|at| line(BEGUN + at * 1_000_000, "fresh", "200", "v1")).collect();
        let drawn = draw("t", &records(&lines), &[]);
        assert!(drawn.len() < 60_000, "{} bytes", drawn.len());
        assert!(drawn.contains(">1800</text>") && drawn.contains(">300</text>"));
    }
}
