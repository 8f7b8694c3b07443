//! Progress of long work, on stderr, hidden where that is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts things.
pub fn count(what: &'static str, len: u64) -> ProgressBar {
    styled(ProgressBar::new(len), "{msg} {wide_bar} {human_pos} of {human_len}").with_message(what)
}

/// A bar that counts bytes.
pub fn bytes(len: u64) -> ProgressBar {
    styled(ProgressBar::new(len), "{wide_bar} {bytes} of {total_bytes}, {eta} to go")
}

/// For work of unknown length.
pub fn spinner(what: &'static str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what);
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    bar.with_style(ProgressStyle::with_template(template).expect("the template is valid"))
}
