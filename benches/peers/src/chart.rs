//! Bars in SVG: a panel for each work, a bar for each store.

use std::fmt::Write;

use crate::engines::Kind;
use crate::run::Results;
use crate::works::Work;

const WIDTH: usize = 760;
const NAMES: usize = 130;
const BARS: usize = 480;
const BAR: usize = 16;
const GAP: usize = 4;
const TITLE: usize = 26;

/// The chart of a group, if anything of it was measured.
pub fn draw(title: &str, works: &[&Work], kinds: &[Kind], results: &Results) -> Option<String> {
    let (mut body, mut top) = (String::new(), 40);
    for work in works {
        let value = |kind: &Kind| Some((*kind, results.summary(work, *kind)?.median));
        let values: Vec<_> = kinds.iter().filter_map(value).collect();
        if !values.is_empty() {
            panel(&mut body, &mut top, work, &values);
        }
    }
    if body.is_empty() {
        return None;
    }
    let style = "text{font:13px sans-serif;fill:#222}.title{font-weight:bold;font-size:16px}.work{font-weight:bold}\
                 .own{fill:#1f6feb}.other{fill:#9aa7b4}";
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" viewBox=\"0 0 {WIDTH} {top}\">\n\
         <style>{style}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text class=\"title\" x=\"8\" y=\"24\">{title}</text>\n{body}</svg>\n"
    ))
}

fn panel(body: &mut String, top: &mut usize, work: &Work, values: &[(Kind, f64)]) {
    let better = if work.unit.more_is_better() { "longer" } else { "shorter" };
    let most = values.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    *top += TITLE;
    let mut line = |text: String| {
        // Writing to a string can't fail.
        let _ = writeln!(body, "{text}");
    };
    line(format!(
        "<text class=\"work\" x=\"8\" y=\"{}\">{} ({better} is better)</text>",
        *top - 8,
        work.title
    ));
    for (kind, value) in values {
        let length = (BARS as f64 * value / most).max(1.0);
        let class = if kind.is_chanlog() { "own" } else { "other" };
        let text = *top + BAR - 3;
        line(format!("<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>", NAMES - 6, kind.name()));
        line(format!(
            "<rect class=\"{class}\" x=\"{NAMES}\" y=\"{top}\" width=\"{length:.1}\" height=\"{BAR}\"/>"
        ));
        let label = NAMES as f64 + length + 6.0;
        line(format!("<text x=\"{label:.1}\" y=\"{text}\">{}</text>", work.unit.show(*value)));
        *top += BAR + GAP;
    }
    *top += GAP;
}
